//! Models in several files.

use std::fs;
use std::process::Command;

use unweight::container::gguf::{Gguf, TensorType};
use unweight::container::rooms::is_carrier_type;

use crate::file::{File, Tensor, Value};
use crate::models::{matrix, model, tensors};
use crate::program::{Folder, TINY, fails, succeeds, success};

/// As llama-gguf-split writes them: the first has the keys, each says which it is. `parts`: how many tensors each has.
fn split(file: &File, parts: &[usize]) -> Vec<File> {
    let mut tensors = file.tensors.iter().cloned();
    let shard = |(i, &part): (usize, &usize)| {
        let mut shard = File::of(tensors.by_ref().take(part).collect());
        shard.kv = if i == 0 { file.kv.clone() } else { vec![] };
        for (key, value) in [("split.no", i), ("split.count", parts.len())] {
            shard.kv.push((key.to_owned(), Value::Scalar(2, (value as u16).to_le_bytes().to_vec())));
        }
        let order: Vec<_> = (0..shard.tensors.len()).map(|i| (i, 0)).collect();
        shard.place(&order);
        shard
    };
    let shards = parts.iter().enumerate().map(shard).collect();
    assert_eq!(tensors.next().map(|tensor| tensor.name), None, "all tensors are in a shard");
    shards
}

fn name(model: &str, i: usize, count: usize) -> String {
    format!("{model}-{:05}-of-{count:05}.gguf", i + 1)
}

/// Writes shards, and returns their paths.
fn write(folder: &Folder, model: &str, shards: &[File]) -> Vec<String> {
    let file = |(i, shard): (usize, &File)| folder.file(&name(model, i, shards.len()), &shard.to_bytes());
    shards.iter().enumerate().map(file).collect()
}

#[test]
fn shards_that_are_converted_one_by_one() {
    let folder = Folder::new();
    let original = File::read(&fs::read(TINY).unwrap());
    let half = original.tensors.len() / 2;
    let parts = [0, half, original.tensors.len() - half];
    let originals = write(&folder, "Tiny-BF16", &split(&original, &parts));
    for (i, original) in originals.iter().enumerate().skip(1) {
        succeeds(&["convert", original]);
        let converted = folder.path(&name("Tiny-BF16_UW", i, 3));
        assert!(succeeds(&["verify", &converted, "--against", original]).contains("identical to"));
        folder.gives_back(&converted, original);
    }
    // Each stands for itself.
    fs::remove_file(folder.path(&name("Tiny-BF16_UW", 1, 3))).unwrap();
    folder.gives_back(&folder.path(&name("Tiny-BF16_UW", 2, 3)), &originals[2]);
}

/// A tiny model in three shards, the first of which has no tensors.
fn tiny_shards(folder: &Folder) -> Vec<String> {
    let original = File::read(&fs::read(TINY).unwrap());
    let half = original.tensors.len() / 2;
    write(folder, "Tiny-BF16", &split(&original, &[0, half, original.tensors.len() - half]))
}

#[test]
fn the_first_shard_stands_for_all() {
    let folder = Folder::new();
    let originals = tiny_shards(&folder);
    assert!(!succeeds(&["convert", "--dry-run", &originals[0]]).contains("verified"));
    assert_eq!(folder.names().len(), 3);
    for (form, arguments) in [("_UW", &[][..]), ("_UWA", &["--archive"])] {
        let said = succeeds(&[&["convert", &originals[0]], arguments].concat());
        let converted: Vec<_> =
            (0..3).map(|i| folder.path(&name(&format!("Tiny-BF16{form}"), i, 3))).collect();
        assert!(
            said.contains(&format!("{} and 2 more: ", converted[0])) && said.contains("verified"),
            "{said}"
        );
        // What has nothing to compress is as it was; archives have the metadata smaller.
        let is_copy = fs::read(&converted[0]).unwrap() == fs::read(&originals[0]).unwrap();
        assert_eq!(is_copy, form == "_UW");
        for (converted, original) in converted.iter().zip(&originals).skip(1) {
            assert!(fs::metadata(converted).unwrap().len() < fs::metadata(original).unwrap().len());
        }
        let said = succeeds(&["verify", &converted[0]]);
        let doubt = format!("but for {}, which no checksum proves", converted[0]);
        assert_eq!(said.contains(&doubt), is_copy, "{said}");
        let said = succeeds(&["verify", &converted[0], "--against", &originals[0]]);
        assert!(said.contains(" and 2 more: ") && said.contains("identical to"), "{said}");
        let said = succeeds(&["restore", &converted[0], &folder.path(&name("Again", 0, 3)), "--force"]);
        assert_eq!(said.contains(&doubt), is_copy, "{said}");
        for (i, original) in originals.iter().enumerate() {
            assert!(fs::read(folder.path(&name("Again", i, 3))).unwrap() == fs::read(original).unwrap());
        }
        let report: serde_json::Value =
            serde_json::from_str(&succeeds(&["inspect", "--json", &converted[0]])).unwrap();
        assert_eq!(report["files"], 3);
        let all = File::read(&fs::read(TINY).unwrap()).tensors.len();
        assert_eq!(report["tensors"].as_array().unwrap().len(), all);
        let sizes: u64 = converted.iter().map(|path| fs::metadata(path).unwrap().len()).sum();
        assert_eq!(report["file_bytes"], sizes);
        assert_eq!(report["unweight"]["form"], if form == "_UW" { "runs" } else { "archive" });
        let before: u64 = originals.iter().map(|path| fs::metadata(path).unwrap().len()).sum();
        assert_eq!(report["unweight"]["original_bytes"], before);
        assert!(succeeds(&["inspect", &converted[0]]).contains("3 files: "));
        succeeds(&["inspect", &converted[0]]);
    }
    // From one form to the other, all of them.
    let archive = folder.path(&name("Tiny-BF16_UWA", 0, 3));
    succeeds(&["convert", &archive, &folder.path(&name("Other", 0, 3))]);
    for i in 0..3 {
        let read = |model: &str| fs::read(folder.path(&name(model, i, 3))).unwrap();
        assert!(read("Other") == read("Tiny-BF16_UW"));
    }
}

#[test]
fn all_shards_or_none() {
    let folder = Folder::new();
    let originals = tiny_shards(&folder);
    let target = folder.path(&name("Out", 0, 3));
    // A name that cannot be that of three.
    for bad in ["out.gguf", "out-00001-of-00002.gguf", "out-00002-of-00003.gguf"] {
        fails(&["convert", &originals[0], &folder.path(bad)], &[bad, "in 3 files", "-00001-of-00003.gguf"]);
    }
    // One that is there already.
    let there = folder.file(&name("Out", 2, 3), b"precious");
    fails(&["convert", &originals[0], &target], &[&there, "exists already"]);
    assert_eq!(folder.names().len(), 4, "nothing is written");
    fs::remove_file(&there).unwrap();
    // One that is damaged, the last.
    let whole = fs::read(&originals[2]).unwrap();
    fs::write(&originals[2], &whole[..whole.len() / 2]).unwrap();
    fails(&["convert", &originals[0], &target], &[&originals[2], "the file is truncated"]);
    assert_eq!(folder.names().len(), 3, "nothing is written");
    // One that is not there.
    fs::remove_file(&originals[2]).unwrap();
    for arguments in [
        &["convert", &originals[0]][..],
        &["verify", &originals[0]],
        &["inspect", &originals[0]],
        &["restore", &originals[0], &target],
    ] {
        fails(arguments, &[&originals[2], "shard 3 of 3 is not here"]);
    }
    // Nothing to compress in any.
    let other = Folder::new();
    let norms = model(
        "llama",
        vec![matrix("a_norm", TensorType::F32, &[8]), matrix("b_norm", TensorType::F32, &[8])],
    );
    let norms = write(&other, "norms", &split(&norms, &[1, 1]));
    fails(&["convert", &norms[0]], &["nothing to compress"]);
    // One whose few matrices have no space for what would be left of them.
    let few = Folder::new();
    let mut tiny = model("llama", tensors());
    tiny.tensors
        .extend((0..200).map(|i| matrix(&format!("blk.{i}.tiny.weight"), TensorType::BF16, &[64, 24])));
    let last = tiny.tensors.len() - 200;
    let few_shards = write(&few, "few-BF16", &split(&tiny, &[last, 200]));
    succeeds(&["convert", &few_shards[0]]);
    assert!(fs::read(few.path(&name("few-BF16_UW", 1, 2))).unwrap() == fs::read(&few_shards[1]).unwrap());
    assert_eq!(other.names().len(), 2);
    fails(&["restore", &norms[0], &other.path(&name("out", 0, 2))], &[&norms[0], "not an Unweight file"]);
}

/// Only the first shard says which blocks may be left out.
#[test]
fn blocks_that_may_be_left_out_have_no_rooms_in_a_later_shard_either() {
    let folder = Folder::new();
    let original = model("glm4moe", tensors())
        .with_kv("glm4moe.block_count", Value::u32(2))
        .with_kv("glm4moe.nextn_predict_layers", Value::u32(1));
    let mut shards = split(&original, &[1, original.tensors.len() - 1]);
    shards[1].tensors.push(matrix("output.weight", TensorType::BF16, &[64, 320]));
    let order: Vec<_> = (0..shards[1].tensors.len()).map(|i| (i, 0)).collect();
    shards[1].place(&order);
    let originals = write(&folder, "m-BF16", &shards);
    succeeds(&["convert", &originals[1]]);
    let converted = folder.path(&name("m-BF16_UW", 1, 2));
    folder.gives_back(&converted, &originals[1]);
    let types = |prefix: &str| -> Vec<u32> {
        let tensors = File::read(&fs::read(&converted).unwrap()).tensors;
        let carriers =
            tensors.into_iter().filter(|tensor| tensor.name.starts_with(prefix)).map(|tensor| tensor.ty);
        carriers.filter(|&ty| is_carrier_type(TensorType::from_id(ty).unwrap())).collect()
    };
    assert_eq!(types("blk.1."), [TensorType::I8.id(); 4]);
    assert!(types("").iter().any(|&ty| ty != TensorType::I8.id()));
}

/// What shards give back, together and each alone, has the tensors of the original that are in it.
fn check_all_restored(folder: &Folder, paths: &[String], shards: &[File], original: &Gguf) {
    let restored = |i: usize| folder.path(&name("restored", i, paths.len()));
    let said = succeeds(&["restore", &paths[0], &restored(0), "--force"]);
    assert!(said.contains("weights identical to the original"), "{said}");
    for (i, (path, shard)) in paths.iter().zip(shards).enumerate() {
        check_restored(&restored(i), &shard.tensors, original);
        if i > 0 {
            succeeds(&["restore", path, &restored(i), "--force"]);
            check_restored(&restored(i), &shard.tensors, original);
        }
    }
}

fn check_restored(restored: &str, tensors: &[Tensor], original: &Gguf) {
    let restored = fs::read(restored).unwrap();
    let restored = Gguf::parse(&restored).unwrap();
    assert!(restored.kv.iter().all(|pair| !pair.key.starts_with("unweight.")));
    assert!(restored.kv("split.no").is_some());
    let names: Vec<_> = restored.tensors.iter().map(|tensor| tensor.name).collect();
    assert!(names.iter().eq(tensors.iter().map(|tensor| &tensor.name)), "{names:?}");
    for tensor in &restored.tensors {
        let before = original.tensor(tensor.name).unwrap();
        assert_eq!((tensor.ty, tensor.dims), (before.ty, before.dims), "{}", tensor.name);
        assert!(restored.bytes(tensor) == original.bytes(before), "{}", tensor.name);
    }
}

#[test]
fn a_converted_file_that_is_split() {
    let folder = Folder::new();
    let converted = File::read(&fs::read(folder.converted(TINY)).unwrap());
    let original = fs::read(TINY).unwrap();
    let original = Gguf::parse(&original).unwrap();
    let count = converted.tensors.len();
    let plain = converted.tensors.iter().filter(|tensor| tensor.ty == TensorType::F32.id()).count();
    // In halves, with a first shard of no tensors, with a shard of plain tensors, with a shard for each.
    for parts in
        [vec![count / 2, count - count / 2], vec![0, count], vec![plain, count - plain], vec![1; count]]
    {
        let folder = Folder::new();
        let shards = split(&converted, &parts);
        let paths = write(&folder, "m-BF16_UW", &shards);
        for path in &paths {
            assert!(succeeds(&["verify", path]).contains("changed the metadata"));
            succeeds(&["inspect", path]);
        }
        check_all_restored(&folder, &paths, &shards, &original);
    }
}

#[test]
fn a_shard_whose_others_are_not_there() {
    let folder = Folder::new();
    let mut converted = File::read(&fs::read(folder.converted(TINY)).unwrap());
    // Carriers without rooms, carriers with rooms, plain tensors.
    let rank = |tensor: &Tensor| match TensorType::from_id(tensor.ty) {
        Some(TensorType::I8) => 0,
        Some(ty) if is_carrier_type(ty) => 1,
        _ => 2,
    };
    converted.tensors.sort_by_key(rank);
    let bare = converted.tensors.iter().filter(|tensor| rank(tensor) == 0).count();
    let shards = split(&converted, &[bare, converted.tensors.len() - bare]);
    let paths = write(&folder, "m", &shards);
    let (aside, out) = (folder.path("aside"), folder.path("out.gguf"));
    let count = folder.names().len();

    // The index is in the second.
    fs::rename(&paths[1], &aside).unwrap();
    for arguments in [&["verify", &paths[0]][..], &["restore", &paths[0], &out]] {
        fails(arguments, &[&paths[1], "shard 2 of 2 is not here"]);
    }
    // By a name that is no shard's.
    let alone = folder.path("alone.gguf");
    fs::rename(&paths[0], &alone).unwrap();
    for arguments in [&["verify", &alone][..], &["restore", &alone, &out]] {
        fails(arguments, &[&alone, "the tensor with its index is not here"]);
    }
    fs::rename(&alone, &paths[0]).unwrap();
    assert_eq!(folder.names().len(), count, "nothing is written");
    fs::rename(&aside, &paths[1]).unwrap();

    fs::remove_file(&paths[0]).unwrap();
    fails(&["verify", &paths[1]], &[&paths[1], &format!("and {} others, are in no file here", bare - 1)]);
    let said = succeeds(&["restore", &paths[1], &out]);
    assert!(said.contains(&format!("{bare} tensors of the original are in no file here")), "{said}");
}

#[test]
fn a_shard_whose_rooms_are_not_there() {
    let folder = Folder::new();
    let converted = File::read(&fs::read(folder.converted(TINY)).unwrap());
    let count = converted.tensors.len();
    let has_room = |tensor: &Tensor| tensor.data.windows(8).any(|bytes| bytes == b"UNWEIGHT");
    let first = converted.tensors.iter().position(has_room).unwrap() + 1;
    // Each has rooms that hold something of tensors of the other.
    let paths = write(&folder, "m", &split(&converted, &[0, first, count - first])).split_off(1);
    let aside = folder.path("aside");
    for (path, other) in [(&paths[0], &paths[1]), (&paths[1], &paths[0])] {
        fs::rename(other, &aside).unwrap();
        fails(&["verify", path], &[path, "not here"]);
        fails(&["restore", path, &folder.path("out.gguf")], &[path, "not here"]);
        fs::rename(&aside, other).unwrap();
        succeeds(&["verify", path]);
    }
}

#[test]
fn shards_that_were_never_converted_are_not_taken_for_some() {
    let folder = Folder::new();
    let original = File::read(&fs::read(TINY).unwrap());
    let half = original.tensors.len() / 2;
    let paths = write(&folder, "m", &split(&original, &[half, original.tensors.len() - half]));
    fails(&["verify", &paths[1]], &[&paths[1], "not an Unweight file"]);
    // Not even if another of them was.
    succeeds(&["convert", &paths[0], &paths[0].replace("m-0", "n-0")]);
    fs::rename(paths[0].replace("m-0", "n-0"), &paths[0]).unwrap();
    fails(&["verify", &paths[1]], &[&paths[1], "not an Unweight file"]);
    succeeds(&["verify", &paths[0]]);
}

/// What a shard gives back may not take the place of one that it is read from.
#[test]
fn shards_are_not_restored_over_those_that_they_need() {
    let folder = Folder::new();
    let converted = File::read(&fs::read(folder.converted(TINY)).unwrap());
    let half = converted.tensors.len() / 2;
    let shards = split(&converted, &[half, converted.tensors.len() - half]);
    let paths = write(&folder, "m", &shards);
    let before = [&paths[0], &paths[1]].map(|path| fs::read(path).unwrap());
    for arguments in [["restore", &paths[1], &paths[0]], ["restore", &paths[0], &paths[0]]] {
        fails(&[&arguments[..], &["--force"]].concat(), &["input and output are the same file"]);
    }
    assert!(before == [&paths[0], &paths[1]].map(|path| fs::read(path).unwrap()));
    // Nor may the output of one shard be the input of another.
    let originals = tiny_shards(&folder);
    let other = folder.path(&name("Other", 0, 3));
    fs::hard_link(&originals[2], folder.path(&name("Other", 1, 3))).unwrap();
    fails(&["convert", "--force", &originals[0], &other], &["input and output are the same file"]);
}

/// Each may have all others open beside it.
#[test]
fn many_shards_need_few_open_files() {
    let folder = Folder::new();
    let converted = File::read(&fs::read(folder.converted(TINY)).unwrap());
    let shards = split(&converted, &vec![1; converted.tensors.len()]);
    let paths = write(&folder, "m", &shards);
    let program = env!("CARGO_BIN_EXE_unweight-gguf");
    // All inputs, or so many and all outputs.
    let limit = 2 * paths.len() + 20;
    let run = |verb: &str| {
        let limited = format!("ulimit -n {limit}; exec '{program}' {verb}");
        success(&Command::new("sh").args(["-c", &limited]).output().unwrap());
    };
    run(&format!("verify '{}'", paths[0]));
    run(&format!("restore '{}' '{}'", paths[0], folder.path(&name("r", 0, paths.len()))));
}
