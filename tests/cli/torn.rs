//! Work that is torn: killed, cut short under its hands, or told to remove what it was made of.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use unweight::container::gguf::TensorType;
use unweight::convert::{Form, Job, convert_all, replace};

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
            convert_all(&jobs, form, false, &()).unwrap();
            change(&jobs[1]);
            let before = folder.names();
            replace(&jobs, &()).unwrap_err();
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
        .args(["-f", "-y", "-e", "trace=fsync,fdatasync,rename,renameat,renameat2,unlink"])
        .args([program, "convert", "--force", TINY, &target])
        .output();
    let output = match traced {
        Ok(output) if output.status.success() => output,
        Ok(output) => {
            return skipped(test, &String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or(""));
        }
        Err(error) => return skipped(test, &format!("strace: {error}")),
    };
    let trace = String::from_utf8_lossy(&output.stderr);
    let at = |what: &str, of: &str, from: usize| {
        let found = trace.lines().skip(from).position(|line| line.contains(what) && line.contains(of));
        from + found.unwrap_or_else(|| panic!("no {what} of {of} in\n{trace}"))
    };
    let synced = at("fsync(", "/.unweight-", 0);
    let renamed = at("rename", "/out.gguf\"", synced);
    let last = trace.lines().enumerate().filter(|(_, line)| line.contains("rename")).last().unwrap().0;
    assert_eq!(renamed, last, "{trace}");
    at("fsync(", &format!("<{}>", folder.as_path().display()), renamed);
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
