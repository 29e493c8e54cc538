//! What the program says of files.

use std::fs;

use unweight::container::converted::Converted;
use unweight::container::gguf::{Gguf, TensorType};

use crate::file::{File, Tensor};
use crate::models::{matrix, model, tensors};
use crate::program::{EDGES, Folder, TINY, command, fails, succeeds};

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
    let (total, bytes) = (&report["total"], fs::read(&converted).unwrap());
    let number = |value: &serde_json::Value| value.as_u64().unwrap();
    let opened = Converted::open(Gguf::parse(&bytes).unwrap(), &[]).unwrap();
    let index = opened.untouched().unwrap();
    let carriers = || index.carriers().map(|entry| opened.gguf.tensor(&entry.name).unwrap());
    assert_eq!(number(&total["compressed_tensors"]), carriers().count() as u64);
    assert_eq!(number(&total["stored_bytes"]), carriers().map(|carrier| carrier.len).sum::<u64>());
    let compressed: u64 = carriers().map(|carrier| number(&find(carrier.name)["stored_bytes"])).sum();
    let used = number(&total["stored_bytes"]) - number(&total["unused_bytes"]);
    assert_eq!(used - compressed, 64 * index.rooms.len() as u64 + index.to_bytes().len() as u64);
    let table = succeeds(&["inspect", &converted]);
    assert!(table.contains("edge.special.weight") && table.contains("bits/weight"));
    assert!(succeeds(&["inspect", TINY]).contains("not compressed"));
}

#[test]
fn inspect_draws_a_picture() {
    let folder = Folder::new();
    let hostile = "blk.0.<script>&\u{1b}[31m.weight";
    let mut file = model("llama", tensors());
    file.tensors[0].name = hostile.to_owned();
    let original = folder.file("original.gguf", &file.to_bytes());
    let archive = folder.path("archive.gguf");
    succeeds(&["convert", "--archive", &original, &archive]);
    let picture = folder.path("picture.svg");
    for file in [EDGES, &folder.converted(EDGES), &original, &archive] {
        succeeds(&["inspect", file, "--svg", &picture]);
        let drawn = fs::read_to_string(&picture).unwrap();
        assert!(drawn.starts_with("<svg") && drawn.trim_end().ends_with("</svg>"), "{file}");
        assert!(drawn.contains("bits/weight") && drawn.contains("exponents "), "{file}");
        assert!(!drawn.contains("<script") && !drawn.contains('\u{1b}'), "{file}");
        let table = succeeds(&["inspect", file]);
        assert!(!table.contains('\u{1b}'), "{file}");
        let name = std::path::Path::new(file).file_name().unwrap().to_str().unwrap();
        assert!(drawn.contains(name), "{file}");
    }
    // A link, or a model with such a name, is left alone.
    let link = folder.path("link.svg");
    std::os::unix::fs::symlink(&original, &link).unwrap();
    fails(&["inspect", &original, "--svg", &link], &["link.svg", "is a link"]);
    let named = folder.file("named.svg", &fs::read(&original).unwrap());
    fails(&["inspect", &named, "--svg", &named], &["same file"]);
    assert!(fs::read(&named).unwrap() == fs::read(&original).unwrap());
    // A slip does not write over a model.
    let slip = command(&["inspect", EDGES, "--svg", &archive]).output().unwrap();
    assert_eq!(slip.status.code(), Some(2), "wrong usage");
    fails(&["inspect", EDGES, "--svg", &folder.path("nowhere/picture.svg")], &["nowhere", "No such file"]);
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

/// What converting a model says, and what a dry run does.
fn said(file: &File) -> [String; 2] {
    let folder = Folder::new();
    let original = folder.file("original.gguf", &file.to_bytes());
    let dry = succeeds(&["convert", "--dry-run", &original]);
    let converted = folder.path("converted.gguf");
    let said = succeeds(&["convert", &original, &converted]);
    folder.gives_back(&converted, &original);
    [said, dry]
}

#[test]
fn nothing_is_noted_of_a_usual_model() {
    for said in said(&model("llama", tensors())) {
        assert!(!said.contains("note:"), "{said}");
    }
}

#[test]
fn an_architecture_that_is_not_known_is_noted() {
    for said in said(&model("tomorrow", tensors())) {
        assert!(said.contains("note: the architecture \"tomorrow\""), "{said}");
        assert_eq!(said.matches("note:").count(), 1);
    }
}

#[test]
fn a_token_table_that_is_not_compressed_is_noted() {
    let plain = |tensor: Tensor| match tensor.name.as_str() {
        "token_embd.weight" => matrix("token_embd.weight", TensorType::Q8_0, &[64, 320]),
        _ => tensor,
    };
    for said in said(&model("llama", tensors().into_iter().map(plain).collect())) {
        assert!(said.contains("note: without the plugin llama.cpp crashes"), "{said}");
        assert_eq!(said.matches("note:").count(), 1);
    }
}

#[test]
fn pages_are_written_where_they_are_looked_for() {
    let folder = Folder::new();
    succeeds(&["pages", &folder.path("usr")]);
    for (page, word) in [
        ("man/man1/unweight-gguf.1", "convert"),
        ("man/man1/unweight-gguf-convert.1", "replace"),
        ("bash-completion/completions/unweight-gguf", "--archive"),
        ("zsh/site-functions/_unweight-gguf", "--archive"),
        ("fish/vendor_completions.d/unweight-gguf.fish", "archive"),
    ] {
        let path = folder.path(&format!("usr/share/{page}"));
        assert!(fs::read_to_string(&path).unwrap().contains(word), "{page}");
    }
    let file = folder.file("file", b"");
    fails(&["pages", &file], &[&format!("unweight-gguf: {file}/share/man/man1: ")]);
}
