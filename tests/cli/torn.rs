//! Work that is torn: killed, cut short under its hands, or told to remove what it was made of.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use unweight::container::gguf::TensorType;
use unweight::convert::{Form, Job, Progress, Stage, convert_all, replace};

use crate::file::Value;
use crate::models::{matrix, model, tensors};
use crate::program::{Folder, TINY, command, fails, succeeds};
use crate::samples::random;
use crate::systems::skipped;

/// A model of some megabytes, so that there is time to tear.
fn large(folder: &Folder) -> String {
    let mut all = tensors();
    all.extend((2..8).map(|i| matrix(&format!("blk.{i}.ffn_up.weight"), TensorType::BF16, &[1024, 1024])));
    folder.file("large-BF16.gguf", &model("llama", all).to_bytes())
}

/// What stands in a folder but for temporary files, which only a program that is not killed can remove.
fn names(folder: &Folder) -> Vec<PathBuf> {
    let is_temporary = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(".unweight-");
    folder.names().into_iter().filter(|path| !is_temporary(path)).collect()
}

#[test]
fn killed_at_any_moment_it_leaves_the_original_and_nothing_that_looks_done() {
    let folder = Folder::new();
    let original = large(&folder);
    let before = fs::read(&original).unwrap();
    let (runs, archive, restored) = (folder.path("runs"), folder.path("archive"), folder.path("restored"));
    let started = Instant::now();
    succeeds(&["convert", &original, &runs]);
    let whole = started.elapsed().max(Duration::from_millis(20));
    succeeds(&["convert", "--archive", &original, &archive]);
    let done = [fs::read(&runs).unwrap(), fs::read(&archive).unwrap(), before.clone()];
    let mut next = random(11);
    let (mut killed, mut finished) = (0, 0);
    for i in 0..60 {
        let (target, expected) = ([&runs, &archive, &restored][i % 3], &done[i % 3]);
        let _ = fs::remove_file(target);
        let from = if i % 6 < 3 { &runs } else { &archive };
        let arguments: &[&str] = match i % 3 {
            0 => &["convert", &original, &runs],
            1 => &["convert", "--archive", &original, &archive],
            _ => &["restore", from, &restored],
        };
        let mut child = command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        sleep(whole * (next() % 128) as u32 / 100);
        child.kill().unwrap();
        killed += usize::from(!child.wait().unwrap().success());
        if fs::exists(target).unwrap() {
            finished += 1;
            assert!(fs::read(target).unwrap() == *expected, "{target} looks done, and is not");
        }
        assert!(fs::read(&original).unwrap() == before, "the original was touched");
        // A rerun succeeds, whatever was left.
        let _ = fs::remove_file(target);
        succeeds(arguments);
        assert!(fs::read(target).unwrap() == *expected);
    }
    assert!(killed > 5, "{killed} of 60 were killed, {finished} had finished");
    assert_eq!(names(&folder).len(), 4);
}

#[test]
fn a_file_that_is_cut_short_while_it_is_read() {
    for archive in [false, true] {
        let folder = Folder::new();
        let original = large(&folder);
        let converted = folder.path("converted.gguf");
        let form: &[&str] = if archive { &["--archive"] } else { &[] };
        succeeds(&[&["convert", &original, &converted], form].concat());
        // A pipe that nobody reads holds it up in the middle.
        let mut child = command(&["restore", &converted, "-"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut some = vec![0; 1 << 16];
        child.stdout.as_mut().unwrap().read_exact(&mut some).unwrap();
        sleep(Duration::from_millis(50));
        File::options().write(true).open(&converted).unwrap().set_len(8192).unwrap();
        let output = child.wait_with_output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains("converted.gguf") && message.contains("cut short"), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

#[test]
fn the_original_gives_way_to_what_gives_it_back() {
    let folder = Folder::new();
    let bytes = fs::read(TINY).unwrap();
    let original = folder.file("Tiny-BF16.gguf", &bytes);
    let said = succeeds(&["convert", "--replace", &original]);
    assert!(said.contains("verified") && said.contains("Tiny-BF16.gguf: removed"), "{said}");
    let converted = folder.path("Tiny-BF16_UW.gguf");
    assert_eq!(folder.names(), [PathBuf::from(&converted)]);
    // And from one form to the other.
    succeeds(&["convert", "--archive", "--replace", &converted]);
    let archive = folder.path("Tiny-BF16_UWA.gguf");
    assert_eq!(folder.names(), [PathBuf::from(&archive)]);
    succeeds(&["convert", "--replace", &archive]);
    assert_eq!(folder.names(), [PathBuf::from(&converted)]);
    succeeds(&["restore", &converted, &original]);
    assert!(fs::read(&original).unwrap() == bytes);
}

/// Between the conversion and the removal, something happens to one of two files.
#[test]
fn what_changes_meanwhile_is_not_removed() {
    type Change = fn(&Job);
    let changes: [Change; 5] = [
        |job| spoil(&job.input, |bytes| bytes[70_000] ^= 1),
        |job| spoil(&job.input, |bytes| bytes.truncate(bytes.len() - 100)),
        |job| spoil(&job.output, |bytes| bytes[70_000] ^= 1),
        |job| spoil(&job.output, |bytes| bytes.truncate(bytes.len() - 100)),
        |job| fs::remove_file(&job.output).unwrap(),
    ];
    for form in [Form::Run, Form::Archive] {
        for change in changes {
            let folder = Folder::new();
            let inputs =
                ["one.gguf", "two.gguf"].map(|name| folder.file(name, &fs::read(TINY).unwrap()).into());
            let outputs = ["three.gguf", "four.gguf"].map(|name| folder.path(name).into());
            let jobs = Job::pair(inputs.to_vec(), outputs.to_vec());
            let reports = convert_all(&jobs, form, false, &()).unwrap();
            change(&jobs[1]);
            let before = folder.names();
            replace(&jobs, &reports, &()).unwrap_err();
            assert_eq!(folder.names(), before, "nothing is removed, the first neither");
        }
    }
}

fn spoil(path: &PathBuf, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// The bytes are on the disk before the name is, and the name before it is said to be done.
#[test]
fn files_are_durable_before_their_names_and_these_before_the_end() {
    let test = "files_are_durable_before_their_names_and_these_before_the_end";
    let folder = Folder::new();
    let target = folder.path("out.gguf");
    let program = env!("CARGO_BIN_EXE_unweight-gguf");
    let traced = Command::new("strace")
        .args(["-f", "-y", "-e", "trace=pwrite64,fsync,fdatasync,rename,renameat,renameat2,unlink"])
        .args([program, "convert", "--force", TINY, &target])
        .output();
    let output = match traced {
        Ok(output) if output.status.success() => output,
        // Where it may not trace, it says so before anything else.
        Ok(output) if output.stderr.starts_with(b"strace: ") => {
            return skipped(test, &String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or(""));
        }
        Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => return skipped(test, &format!("strace: {error}")),
    };
    let trace = String::from_utf8_lossy(&output.stderr);
    let at = |what: &str, of: &str, from: usize| {
        let found = trace.lines().skip(from).position(|line| line.contains(what) && line.contains(of));
        from + found.unwrap_or_else(|| panic!("no {what} of {of} in\n{trace}"))
    };
    let written = trace.lines().enumerate().filter(|(_, line)| line.contains("pwrite64(")).last().unwrap().0;
    let synced = at("fsync(", "/.unweight-", written);
    let renamed = at("rename", "/out.gguf\"", synced);
    let last = trace.lines().enumerate().filter(|(_, line)| line.contains("rename")).last().unwrap().0;
    assert_eq!(renamed, last, "{trace}");
    at("fsync(", &format!("<{}>", folder.as_path().display()), renamed);
}

/// Is told when a file's turn comes, and does something then.
struct At<'a>(usize, &'a (dyn Fn() + Sync));

impl Progress for At<'_> {
    fn file(&self, number: usize, _: usize) {
        if number == self.0 {
            self.1();
        }
    }

    fn begin(&self, _: Stage, _: u64) {}
    fn advance(&self, _: u64) {}
}

/// The first has been proved, and changes while the second is.
#[test]
fn what_changes_after_its_proof_is_not_removed() {
    for spoilt_is_output in [false, true] {
        let folder = Folder::new();
        let inputs = ["one.gguf", "two.gguf"].map(|name| folder.file(name, &fs::read(TINY).unwrap()).into());
        let outputs = ["three.gguf", "four.gguf"].map(|name| folder.path(name).into());
        let jobs = Job::pair(inputs.to_vec(), outputs.to_vec());
        let reports = convert_all(&jobs, Form::Run, false, &()).unwrap();
        let first = if spoilt_is_output { &jobs[0].output } else { &jobs[0].input };
        let spoil = || spoil(first, |bytes| bytes[70_000] ^= 1);
        let before = folder.names();
        let error = replace(&jobs, &reports, &At(2, &spoil)).unwrap_err();
        assert!(error.to_string().contains("one.gguf: not removed"), "{error}");
        assert_eq!(folder.names(), before);
    }
}

/// One file under two names: what would be removed is what was written.
#[test]
fn a_file_by_another_name_is_the_same_file() {
    let folder = Folder::new();
    let original = folder.file("one.gguf", &fs::read(TINY).unwrap());
    let other = folder.path("two.gguf");
    fs::hard_link(&original, &other).unwrap();
    fails(&["convert", "--force", "--replace", &original, &other], &["input and output are the same file"]);
    fails(&["convert", "--force", &original, &other], &["input and output are the same file"]);
    // Even if nothing had refused it.
    let jobs = Job::pair(vec![original.clone().into()], vec![folder.path("three.gguf").into()]);
    let reports = convert_all(&jobs, Form::Run, false, &()).unwrap();
    fs::rename(&jobs[0].output, &jobs[0].input).unwrap();
    fs::hard_link(&jobs[0].input, &jobs[0].output).unwrap();
    let error = replace(&jobs, &reports, &()).unwrap_err();
    assert!(error.to_string().contains("not removed"), "{error}");
    assert!(fs::exists(&original).unwrap());
}

#[test]
fn replaced_in_silence() {
    let folder = Folder::new();
    let original = folder.file("Tiny-BF16.gguf", &fs::read(TINY).unwrap());
    // Nobody listens.
    let mut child = command(&["convert", "--replace", &original]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    child.wait().unwrap();
    assert_eq!(folder.names(), [PathBuf::from(folder.path("Tiny-BF16_UW.gguf"))]);
    // What has not been delivered is not done.
    let mut child = command(&["restore", &folder.path("Tiny-BF16_UW.gguf"), "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn shards_that_were_copied_give_way_too() {
    let folder = Folder::new();
    let bytes = fs::read(TINY).unwrap();
    let empty = model("llama", vec![]).to_bytes();
    for (i, bytes) in [&empty, &bytes].into_iter().enumerate() {
        folder.file(&format!("T-BF16-0000{}-of-00002.gguf", i + 1), bytes);
    }
    let shard = |form: &str, i: usize| folder.path(&format!("T-BF16{form}-0000{i}-of-00002.gguf"));
    for (from, to, archive) in [("", "_UW", false), ("_UW", "_UWA", true), ("_UWA", "_UW", false)] {
        let form: &[&str] = if archive { &["--archive"] } else { &[] };
        succeeds(&[&["convert", "--replace", &shard(from, 1)], form].concat());
        let mut names = folder.names();
        names.sort();
        assert_eq!(names, [1, 2].map(|i| PathBuf::from(shard(to, i))));
    }
    succeeds(&["restore", &shard("_UW", 1), &shard("", 1)]);
    assert!(fs::read(shard("", 1)).unwrap() == empty && fs::read(shard("", 2)).unwrap() == bytes);
}

#[test]
fn what_nothing_proves_is_not_replaced() {
    let folder = Folder::new();
    let mut changed = crate::file::File::read(&fs::read(folder.converted(TINY)).unwrap());
    changed.kv.push(("a.key".to_owned(), Value::u32(1)));
    let changed = folder.file("Changed-BF16_UW.gguf", &changed.to_bytes());
    let count = folder.names().len();
    fails(
        &["convert", "--archive", "--replace", &changed],
        &["Changed-BF16_UW.gguf", "a tool has changed it"],
    );
    assert_eq!(folder.names().len(), count);
}

#[test]
fn what_few_may_read_few_may_read_compressed() {
    let folder = Folder::new();
    let original = folder.file("Tiny-BF16.gguf", &fs::read(TINY).unwrap());
    fs::set_permissions(&original, fs::Permissions::from_mode(0o600)).unwrap();
    let converted = folder.converted(&original);
    let restored = folder.path("restored.gguf");
    succeeds(&["restore", &converted, &restored]);
    for path in [converted, restored] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn what_does_not_give_the_original_back_replaces_nothing() {
    let folder = Folder::new();
    let original = folder.file("Tiny-BF16.gguf", &fs::read(TINY).unwrap());
    let link = folder.path("link-BF16.gguf");
    symlink(&original, &link).unwrap();
    fails(&["convert", "--replace", &link], &["link-BF16.gguf", "is a link"]);
    assert_eq!(folder.names().len(), 2, "nothing is written");
    fails(&["convert", "--replace", &original, &original], &["same file"]);
    let there = folder.file("there.gguf", b"precious");
    fails(&["convert", "--replace", &original, &there], &["exists already"]);
    assert!(fs::read(&original).unwrap() == fs::read(TINY).unwrap());
    let wrong = command(&["convert", "--replace", "--dry-run", &original]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2), "wrong usage");
}
