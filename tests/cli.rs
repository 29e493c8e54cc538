//! The program as people run it: files in, files out, messages and exit codes.
#![cfg(feature = "cli")]

mod samples;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;
use unweight::container::converted::Converted;
use unweight::container::gguf::Gguf;

const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiny-bf16.gguf");
const EDGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/edges-bf16.gguf");

fn program(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_unweight-gguf")).args(arguments).output().unwrap()
}

#[track_caller]
fn succeeds(arguments: &[&str]) -> String {
    let output = program(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    assert_eq!(errors, "", "nothing on standard error where it is no terminal");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that has to fail with exit code 1 and one line that holds all of `parts`.
#[track_caller]
fn fails(arguments: &[&str], parts: &[&str]) {
    let output = program(arguments);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn converted(&self, original: &str) -> String {
        let path = self.path("converted.gguf");
        succeeds(&["convert", original, &path, "--force"]);
        path
    }

    fn names(&self) -> Vec<PathBuf> {
        fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

#[test]
fn restored_files_are_the_originals() {
    for original in [TINY, EDGES] {
        let folder = Folder::new();
        let converted = folder.converted(original);
        let restored = folder.path("restored.gguf");
        assert!(succeeds(&["restore", &converted, &restored]).contains("identical to the original (BLAKE3)"));
        assert!(fs::read(&restored).unwrap() == fs::read(original).unwrap());
        assert!(fs::metadata(&converted).unwrap().len() < fs::metadata(original).unwrap().len());
        assert!(succeeds(&["verify", &converted]).contains("holds the whole original"));
        assert!(succeeds(&["verify", &converted, "--against", original]).contains("identical to"));
    }
}

#[test]
fn bytes_between_tensors_come_back() {
    let folder = Folder::new();
    let mut bytes = fs::read(EDGES).unwrap();
    let gguf = Gguf::parse(&bytes).unwrap();
    let padding = gguf.header_len as usize..gguf.data_start as usize;
    assert!(!padding.is_empty(), "the fixture has padding");
    bytes[padding].fill(0xA5);
    bytes.extend_from_slice(b"bytes after the last tensor");
    let original = folder.file("odd.gguf", &bytes);
    let (converted, restored) = (folder.converted(&original), folder.path("restored.gguf"));
    succeeds(&["restore", &converted, &restored]);
    assert!(fs::read(&restored).unwrap() == bytes);
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let folder = Folder::new();
    let files = ["1", "2", "5"].map(|threads| {
        let path = folder.path(threads);
        succeeds(&["--threads", threads, "convert", TINY, &path]);
        fs::read(path).unwrap()
    });
    assert!(files[0] == files[1] && files[1] == files[2]);
}

/// A GGUF of BF16 tensors that are read in several windows and coded in several chunks.
fn large() -> Vec<u8> {
    let shapes = [(4097u64, 900u64), (1 << 20, 5), (33, 50_000)];
    let mut bytes = [&b"GGUF"[..], &3u32.to_le_bytes(), &3u64.to_le_bytes(), &0u64.to_le_bytes()].concat();
    let mut offset = 0;
    for (i, (k, rows)) in shapes.into_iter().enumerate() {
        let name = format!("blk.{i}.ffn_up.weight");
        bytes.extend_from_slice(&(name.len() as u64).to_le_bytes());
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(&2u32.to_le_bytes());
        bytes.extend([k, rows].iter().flat_map(|dim| dim.to_le_bytes()));
        bytes.extend_from_slice(&30u32.to_le_bytes());
        bytes.extend_from_slice(&u64::to_le_bytes(offset));
        offset += (2 * k * rows).next_multiple_of(32);
    }
    let mut next = samples::random(7);
    for (k, rows) in shapes {
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        for _ in 0..k * rows {
            let bits = next();
            let exponent = 121 - (bits >> 20 & 0xFFFF).trailing_ones().min(15) as u16;
            bytes.extend_from_slice(&(bits as u16 & 0x807F | exponent << 7).to_le_bytes());
        }
    }
    bytes
}

#[test]
fn tensors_larger_than_a_window_come_back_whatever_the_number_of_threads() {
    let folder = Folder::new();
    let bytes = large();
    let original = folder.file("large.gguf", &bytes);
    let files = ["1", "2", "5"].map(|threads| {
        let (converted, restored) = (folder.path(threads), folder.path("restored"));
        succeeds(&["--threads", threads, "convert", &original, &converted]);
        succeeds(&["--threads", threads, "restore", &converted, &restored, "--force"]);
        assert!(fs::read(restored).unwrap() == bytes);
        fs::read(converted).unwrap()
    });
    assert!(files[0] == files[1] && files[1] == files[2]);
    let report = succeeds(&["convert", "--dry-run", &original]);
    let size = format!("{:.1} MB", files[0].len() as f64 / 1e6);
    assert!(report.contains(&size), "{report} lacks {size}");
}

#[test]
fn the_default_name_follows_the_convention() {
    let folder = Folder::new();
    let original = folder.path("Tiny-BF16.gguf");
    fs::copy(TINY, &original).unwrap();
    succeeds(&["convert", &original]);
    assert!(Path::new(&folder.path("Tiny-BF16_UW.gguf")).exists());
}

#[test]
fn a_file_beyond_the_limit_leaves_nothing() {
    let folder = Folder::new();
    let out = folder.path("out.gguf");
    let program = env!("CARGO_BIN_EXE_unweight-gguf");
    let limited = format!("ulimit -f 100; exec '{program}' convert '{TINY}' '{out}'");
    let output = Command::new("sh").args(["-c", &limited]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("out.gguf: writing"));
    assert_eq!(folder.names(), Vec::<PathBuf>::new());
}

#[test]
fn only_regular_files_are_read_and_replaced() {
    let folder = Folder::new();
    let pipe = folder.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    fails(&["verify", &pipe], &["pipe", "not a regular file"]);
    fails(&["convert", TINY, &pipe, "--force"], &["pipe", "not a regular file"]);
    let (there, link) = (folder.file("there.gguf", b"precious"), folder.path("link.gguf"));
    std::os::unix::fs::symlink(&there, &link).unwrap();
    fails(&["convert", TINY, &link, "--force"], &["link.gguf", "is a link"]);
    assert_eq!(fs::read(&link).unwrap(), b"precious");
}

#[test]
fn nothing_is_overwritten_unasked() {
    let folder = Folder::new();
    let there = folder.file("there.gguf", b"precious");
    fails(&["convert", TINY, &there], &["there.gguf", "exists already", "--force"]);
    let converted = folder.converted(TINY);
    fails(&["restore", &converted, &there], &["there.gguf", "exists already"]);
    fails(&["restore", &converted, &converted, "--force"], &["same file"]);
    assert_eq!(fs::read(&there).unwrap(), b"precious");
    succeeds(&["restore", &converted, &there, "--force"]);
    assert!(fs::read(&there).unwrap() == fs::read(TINY).unwrap());
}

#[test]
fn unfit_input_is_named_and_leaves_nothing() {
    let folder = Folder::new();
    let out = folder.path("out.gguf");
    let original = fs::read(TINY).unwrap();
    let text = folder.file("text.gguf", b"this is no model at all, just text");
    let empty = folder.file("empty.gguf", b"");
    let bare = folder.file("bare.gguf", &[b"GGUF".as_slice(), &3u32.to_le_bytes(), &[0; 16]].concat());
    let short = folder.file("short.gguf", &original[..original.len() - 1]);
    let converted = folder.converted(TINY);
    let before = folder.names().len();
    fails(&["convert", &text, &out], &["text.gguf", "not a GGUF"]);
    fails(&["convert", &empty, &out], &["empty.gguf", "not a GGUF"]);
    fails(&["convert", &bare, &out], &["bare.gguf", "nothing to compress"]);
    fails(&["convert", &short, &out], &["short.gguf", "output.weight"]);
    fails(&["convert", &converted, &out], &["compressed already"]);
    fails(&["convert", &folder.path("missing.gguf"), &out], &["missing.gguf", "No such file"]);
    fails(&["convert", folder.0.path().to_str().unwrap(), &out], &["not a regular file"]);
    fails(&["restore", TINY, &out], &["not an Unweight file"]);
    fails(&["verify", TINY], &["not an Unweight file"]);
    fails(&["convert", TINY, &folder.path("no/such/folder.gguf")], &["no/such"]);
    assert_eq!(folder.names().len(), before);
}

#[test]
fn files_cut_anywhere_are_refused() {
    let folder = Folder::new();
    let converted = fs::read(folder.converted(EDGES)).unwrap();
    for eighth in 0..8 {
        let cut = folder.file("cut.gguf", &converted[..converted.len() * eighth / 8]);
        fails(&["verify", &cut], &["cut.gguf"]);
        fails(&["restore", &cut, &folder.path("out.gguf")], &["cut.gguf"]);
    }
    assert!(!Path::new(&folder.path("out.gguf")).exists());
}

#[test]
fn damage_is_found_and_its_tensor_named() {
    let folder = Folder::new();
    let mut bytes = fs::read(folder.converted(TINY)).unwrap();
    let (name, start) = {
        let converted = Converted::open(Gguf::parse(&bytes).unwrap()).unwrap();
        let entry = converted.index.carriers().nth(3).unwrap();
        let blob = converted.blob(entry);
        (entry.name.clone(), blob.as_ptr() as usize - bytes.as_ptr() as usize + 70)
    };
    bytes[start] ^= 0x10;
    let damaged = folder.file("damaged.gguf", &bytes);
    fails(&["verify", &damaged], &["damaged.gguf", &name, "damaged"]);
    fails(&["restore", &damaged, &folder.path("out.gguf")], &[&name, "damaged"]);
    assert!(!Path::new(&folder.path("out.gguf")).exists());
}

#[test]
fn another_file_is_told_from_the_original() {
    let folder = Folder::new();
    let converted = folder.converted(TINY);
    let mut other = fs::read(TINY).unwrap();
    let at = other.len() - 1000;
    other[at] ^= 1;
    let other = folder.file("other.gguf", &other);
    fails(&["verify", &converted, "--against", &other], &[&format!("at byte {at}"), "output.weight"]);
    fails(&["verify", &converted, "--against", EDGES], &["bytes"]);
}

#[test]
fn a_tool_may_change_the_metadata() {
    let folder = Folder::new();
    let bytes = fs::read(folder.converted(TINY)).unwrap();
    let edited = folder.file("edited.gguf", &with_another_key(&bytes));
    assert!(succeeds(&["verify", &edited]).contains("changed the metadata"));
    let restored = folder.path("restored.gguf");
    succeeds(&["restore", &edited, &restored]);
    let restored = fs::read(restored).unwrap();
    let original = fs::read(TINY).unwrap();
    let (restored, original) = (Gguf::parse(&restored).unwrap(), Gguf::parse(&original).unwrap());
    assert_eq!(restored.kv.len(), original.kv.len() + 1);
    for (a, b) in restored.tensors.iter().zip(&original.tensors) {
        assert_eq!((a.name, a.ty, a.dims, a.offset), (b.name, b.ty, b.dims, b.offset));
        assert!(restored.bytes(a) == original.bytes(b));
    }
}

/// As an editor of metadata would write it: one key more, the rest as it was, the data moved to the next boundary.
fn with_another_key(file: &[u8]) -> Vec<u8> {
    let gguf = Gguf::parse(file).unwrap();
    let (metadata, header) = (gguf.metadata_len as usize, gguf.header_len as usize);
    let mut out = file[..16].to_vec();
    out.extend_from_slice(&(gguf.kv.len() as u64 + 1).to_le_bytes());
    out.extend_from_slice(&file[24..metadata]);
    let key = b"general.description";
    out.extend_from_slice(&(key.len() as u64).to_le_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(&8u32.to_le_bytes()); // a string
    out.extend_from_slice(&5u64.to_le_bytes());
    out.extend_from_slice(b"mine!");
    out.extend_from_slice(&file[metadata..header]);
    out.resize(out.len().next_multiple_of(gguf.alignment as usize), 0);
    out.extend_from_slice(&file[gguf.data_start as usize..]);
    out
}

#[test]
fn inspect_counts_what_is_there() {
    let folder = Folder::new();
    let converted = folder.converted(EDGES);
    let report: serde_json::Value =
        serde_json::from_str(&succeeds(&["inspect", "--json", &converted])).unwrap();
    let tensors = report["tensors"].as_array().unwrap();
    let find = |name: &str| tensors.iter().find(|tensor| tensor["name"] == name).unwrap();
    assert_eq!(find("edge.noise.weight")["encoding"], "plain");
    assert_eq!(find("edge.zero.weight")["exponent_entropy"], 0.0);
    assert_eq!(find("edge.special.weight")["encoding"], "bf16-palette16");
    assert_eq!(find("edge.special.weight")["shape"], serde_json::json!([320, 48]));
    assert_eq!(report["unweight"]["original_bytes"], fs::metadata(EDGES).unwrap().len());
    assert_eq!(report["file_bytes"], fs::metadata(&converted).unwrap().len());
    let table = succeeds(&["inspect", &converted]);
    assert!(table.contains("edge.special.weight") && table.contains("bits/weight"));
    assert!(succeeds(&["inspect", TINY]).contains("not compressed"));
}

#[test]
fn a_dry_run_reports_groups_and_writes_nothing() {
    let folder = Folder::new();
    let out = folder.path("out.gguf");
    let report = succeeds(&["convert", "--dry-run", TINY, &out]);
    for group in ["attention", "feed-forward", "embeddings", "other", "total"] {
        assert!(report.contains(group), "{report}");
    }
    assert!(!report.contains("experts"));
    assert_eq!(folder.names().len(), 0);
}

/// Needs leave to mount: an unprivileged user namespace.
#[test]
fn a_full_disk_leaves_nothing() {
    let script = r#"
        mount -t tmpfs -o size=200k none "$1" || exit 77
        "$2" convert "$3" "$1/out.gguf" 2>"$4"
        test $? = 1 && test -z "$(ls -A "$1")"
    "#;
    let (disk, messages) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let message = messages.path().join("message");
    let run = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(disk.path())
        .args([env!("CARGO_BIN_EXE_unweight-gguf"), TINY])
        .arg(&message)
        .output();
    match run {
        Ok(output) if output.status.code() == Some(0) => {
            let message = fs::read_to_string(message).unwrap();
            assert!(message.contains("out.gguf") && message.contains("No space left"), "{message}");
        }
        Ok(output) if output.status.code() == Some(1) && message.exists() => {
            panic!("{}", fs::read_to_string(message).unwrap());
        }
        _ => eprintln!("SKIPPED: a_full_disk_leaves_nothing: no leave to mount a small disk here"),
    }
}
