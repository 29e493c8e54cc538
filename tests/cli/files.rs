//! What is converted comes back.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use unweight::container::gguf::{Gguf, TensorType};

use crate::file::{File, Tensor, Value};
use crate::models::{model, tensors};
use crate::program::{EDGES, Folder, TINY, succeeds};
use crate::samples::random;

#[test]
fn restored_files_are_the_originals() {
    for original in [TINY, EDGES] {
        let folder = Folder::new();
        let converted = folder.converted(original);
        folder.gives_back(&converted, original);
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
    folder.gives_back(&folder.converted(&original), &original);
}

#[test]
fn keys_that_begin_like_ours_come_back() {
    let folder = Folder::new();
    let original = model("llama", tensors()).with_kv("unweight.foo", Value::String("bar".to_owned()));
    let original = folder.file("original.gguf", &original.to_bytes());
    let converted = folder.converted(&original);
    assert!(File::read(&fs::read(&converted).unwrap()).kv.iter().any(|(key, _)| key == "unweight.foo"));
    folder.gives_back(&converted, &original);
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

/// Tensors that are read in several windows and coded in several chunks.
fn large() -> File {
    let mut next = random(7);
    let tensor = |(i, (k, rows)): (usize, (u64, u64))| {
        let mut tensor = Tensor::new(&format!("blk.{i}.ffn_up.weight"), TensorType::BF16, &[k, rows], 0);
        for weight in tensor.data.as_chunks_mut().0 {
            let bits = next();
            let exponent = 121 - (bits >> 20 & 0xFFFF).trailing_ones().min(15) as u16;
            *weight = (bits as u16 & 0x807F | exponent << 7).to_le_bytes();
        }
        tensor
    };
    File::of([(4097, 900), (1 << 20, 5), (33, 50_000)].into_iter().enumerate().map(tensor).collect())
}

#[test]
fn tensors_larger_than_a_window_come_back_whatever_the_number_of_threads() {
    let folder = Folder::new();
    let bytes = large().to_bytes();
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
    let converted = OsStr::from_bytes(b"\xFFny-BF16_UW.gguf");
    for (original, converted) in [
        (OsStr::new("Tiny-BF16.gguf"), OsStr::new("Tiny-BF16_UW.gguf")),
        (OsStr::new("TINY-BF16.GGUF"), OsStr::new("TINY-BF16_UW.gguf")),
        (OsStr::from_bytes(b"\xFFny-bf16.gguf"), converted),
    ] {
        let folder = Folder::new();
        let (original, converted) = (folder.as_path().join(original), folder.as_path().join(converted));
        fs::copy(TINY, &original).unwrap();
        succeeds(&[OsStr::new("convert"), original.as_os_str()]);
        assert!(converted.exists(), "{converted:?}");
        succeeds(&[
            OsStr::new("verify"),
            converted.as_os_str(),
            OsStr::new("--against"),
            original.as_os_str(),
        ]);
    }
}

#[test]
fn names_of_any_bytes_will_do() {
    let folder = Folder::new();
    let named = |name: &[u8]| folder.as_path().join(OsStr::from_bytes(name)).into_os_string();
    let (converted, restored) = (named(b"\xC3\x28 converted"), named(b"\xFE restored.GGUF"));
    let run = |arguments: [&OsStr; 3]| succeeds(&arguments);
    run([OsStr::new("convert"), OsStr::new(TINY), &converted]);
    run([OsStr::new("restore"), &converted, &restored]);
    assert!(fs::read(&restored).unwrap() == fs::read(TINY).unwrap());
    let inspected: OsString = converted;
    succeeds(&[OsStr::new("inspect"), OsStr::new("--json"), &inspected]);
}

#[test]
fn a_tool_may_change_the_metadata() {
    let folder = Folder::new();
    let bytes = fs::read(folder.converted(TINY)).unwrap();
    let changed = File::read(&bytes).with_kv("general.description", Value::String("mine!".to_owned()));
    let edited = folder.file("edited.gguf", &changed.to_bytes());
    assert!(succeeds(&["verify", &edited]).contains("changed the metadata"));
    let restored = folder.path("restored.gguf");
    assert!(succeeds(&["restore", &edited, &restored]).contains("weights identical to the original"));
    let restored = fs::read(restored).unwrap();
    let original = fs::read(TINY).unwrap();
    let (restored, original) = (Gguf::parse(&restored).unwrap(), Gguf::parse(&original).unwrap());
    assert_eq!(restored.kv.len(), original.kv.len() + 1);
    assert_eq!(restored.text("general.description"), Some("mine!"));
    assert_eq!(restored.tensors.len(), original.tensors.len());
    for tensor in &restored.tensors {
        let before = original.tensor(tensor.name).unwrap();
        assert_eq!((tensor.ty, tensor.dims), (before.ty, before.dims));
        assert!(restored.bytes(tensor) == original.bytes(before));
    }
}

#[test]
fn a_file_that_replaces_another_keeps_its_mode() {
    let folder = Folder::new();
    let mode = |path: &str| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let there = folder.file("there.gguf", b"what is replaced");
    let usual = mode(&there);
    for unusual in [0o640, 0o600, 0o444] {
        fs::set_permissions(&there, fs::Permissions::from_mode(unusual)).unwrap();
        succeeds(&["convert", TINY, &there, "--force"]);
        assert_eq!(mode(&there), unusual);
    }
    succeeds(&["restore", &there, &folder.path("new.gguf")]);
    assert_eq!(mode(&folder.path("new.gguf")), usual);
    assert!(Path::new(&there).exists());
}

/// What llama.cpp would not run compressed, or not at all.
#[test]
fn archives_take_any_file() {
    let halves: Vec<Tensor> =
        tensors().into_iter().filter(|tensor| tensor.ty != TensorType::F32.id()).collect();
    let adapter = model("llama", halves).with_kv("general.type", Value::String("adapter".to_owned()));
    let encoder = model("clip", tensors());
    // Diffusion models of other programs: no architecture that llama.cpp has, or none at all.
    let diffusion = model("flux", tensors());
    let nameless = File::of(tensors());
    for file in [adapter, encoder, diffusion, nameless] {
        let folder = Folder::new();
        let original = folder.file("original.gguf", &file.to_bytes());
        succeeds(&["convert", "--archive", &original]);
        let archive = folder.path("original_UWA.gguf");
        assert!(fs::metadata(&archive).unwrap().len() < fs::metadata(&original).unwrap().len());
        folder.gives_back(&archive, &original);
    }
}
