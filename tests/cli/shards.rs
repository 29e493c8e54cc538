//! Models in several files.

use std::fs;

use unweight::container::gguf::{Gguf, TensorType};
use unweight::container::rooms::is_carrier_type;

use crate::file::{File, Tensor, Value};
use crate::models::{matrix, model, tensors};
use crate::program::{Folder, TINY, fails, succeeds};

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
    let originals = write(&folder, "Tiny-BF16", &split(&original, &[half, original.tensors.len() - half]));
    for (i, original) in originals.iter().enumerate() {
        succeeds(&["convert", original]);
        let converted = folder.path(&name("Tiny-BF16_UW", i, 2));
        assert!(succeeds(&["verify", &converted, "--against", original]).contains("identical to"));
        folder.gives_back(&converted, original);
    }
    // Each stands for itself.
    fs::remove_file(folder.path(&name("Tiny-BF16_UW", 0, 2))).unwrap();
    folder.gives_back(&folder.path(&name("Tiny-BF16_UW", 1, 2)), &originals[1]);
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

/// What a shard gives back has the tensors of the original that are in it.
fn check_restored(folder: &Folder, shard: &str, tensors: &[Tensor], original: &Gguf) {
    let restored = folder.path("restored.gguf");
    assert!(
        succeeds(&["restore", shard, &restored, "--force"]).contains("weights identical to the original")
    );
    let restored = fs::read(&restored).unwrap();
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
        for (path, shard) in paths.iter().zip(&shards) {
            assert!(succeeds(&["verify", path]).contains("changed the metadata"));
            check_restored(&folder, path, &shard.tensors, &original);
            succeeds(&["inspect", path]);
        }
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
        fails(arguments, &[&paths[0], "the tensor with its index is not here"]);
    }
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
    let paths = write(&folder, "m", &split(&converted, &[first, count - first]));
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
