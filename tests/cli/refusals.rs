//! What is refused, and that nothing comes of it.

use std::fs;
use std::process::Command;

use unweight::container::gguf::TensorType;

use crate::file::Value;
use crate::models::{matrix, model, tensors};
use crate::program::{Folder, TINY, fails, succeeds};

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
    let inside = folder.path("folder");
    fs::create_dir(&inside).unwrap();
    fails(&["convert", TINY, &inside, "--force"], &["folder", "is a folder"]);
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
    fails(&["convert", folder.as_path().to_str().unwrap(), &out], &["not a regular file"]);
    fails(&["restore", TINY, &out], &["not an Unweight file"]);
    fails(&["verify", TINY], &["not an Unweight file"]);
    fails(&["convert", TINY, &folder.path("no/such/folder.gguf")], &["no/such"]);
    assert_eq!(folder.names().len(), before);
}

/// Converting a model, and what it says, has to end with a reason, and without a file.
#[track_caller]
fn refused(file: &crate::file::File, parts: &[&str]) {
    let folder = Folder::new();
    let original = folder.file("original.gguf", &file.to_bytes());
    fails(&["convert", &original], &[&["original.gguf"], parts].concat());
    fails(&["convert", "--dry-run", &original], &[&["original.gguf"], parts].concat());
    assert_eq!(folder.names().len(), 1);
}

#[test]
fn a_file_that_would_not_shrink() {
    let one = model("llama", vec![matrix("blk.0.ffn_up.weight", TensorType::BF16, &[512, 64])]);
    refused(&one, &["would not get smaller", "few matrices"]);
    // An index of so many entries has no space in any of them.
    let many =
        (0..200).map(|i| matrix(&format!("blk.{i}.ffn_up.weight"), TensorType::BF16, &[64, 24])).collect();
    refused(&model("llama", many), &["its matrices are too small"]);
}

#[test]
fn an_alignment_that_costs_memory() {
    let file = model("llama", tensors()).with_kv("general.alignment", Value::u32(1 << 21));
    let mut file = file;
    let order: Vec<_> = (0..file.tensors.len()).map(|i| (i, 0)).collect();
    file.place(&order);
    refused(&file, &["alignment of 2097152 bytes"]);
}

#[test]
fn files_that_llama_cpp_would_not_read_compressed() {
    refused(&model("clip", tensors()), &["image or audio encoder", "no plugin reaches"]);
    let halves = [("lora_a", [64, 8]), ("lora_b", [8, 64])];
    let halves =
        halves.map(|(half, dims)| matrix(&format!("blk.0.attn_q.weight.{half}"), TensorType::BF16, &dims));
    let adapter =
        model("llama", halves.to_vec()).with_kv("general.type", Value::String("adapter".to_owned()));
    refused(&adapter, &["nothing to compress", "LoRA adapter"]);
}

#[test]
fn files_without_matrices_of_full_precision() {
    let quantized = model("llama", vec![matrix("blk.0.ffn_up.weight", TensorType::Q8_0, &[512, 64])]);
    refused(&quantized, &["nothing to compress", "no matrices of full precision", "quantized"]);
    let mut noise = matrix("blk.0.ffn_up.weight", TensorType::BF16, &[512, 64]);
    let mut next = crate::samples::random(1);
    noise.data.fill_with(|| next() as u8);
    refused(&model("llama", vec![noise]), &["nothing to compress", "do not get smaller"]);
}

#[test]
fn originals_that_have_our_keys() {
    let with = |key, value| model("llama", tensors()).with_kv(key, value);
    refused(&with("unweight.version", Value::u32(1)), &["compressed already"]);
    let text = || Value::String("text".to_owned());
    for key in ["unweight.version", "unweight.writer", "unweight.padding"] {
        refused(&with(key, text()), &[key]);
    }
}
