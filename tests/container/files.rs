//! The converter itself, from file to file, where it is the content of the file that matters.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;
use unweight::container::converted::Converted;
use unweight::container::gguf::{Gguf, TensorType};
use unweight::container::layout::LayoutError;
use unweight::container::rooms::{HEADER_BYTES, Index, Stored, room_bytes};
use unweight::convert::{Cause, Form, Refusal, convert, forecast, restore, verify};
use xxhash_rust::xxh3::xxh3_64;

use crate::conversion::{change_index, rooms};
use crate::file::{File, Tensor, Value};
use crate::samples::random;

struct Files {
    folder: TempDir,
    original: PathBuf,
}

impl Files {
    fn new(original: &File) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("original.gguf");
        fs::write(&path, original.to_bytes()).unwrap();
        Self { folder, original: path }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Restores a converted file, and compares.
    #[track_caller]
    fn comes_back(&self, converted: &Path) {
        let restored = self.path("restored.gguf");
        assert!(restore(converted, &restored, true, &()).unwrap().is_whole);
        assert!(fs::read(&restored).unwrap() == fs::read(&self.original).unwrap());
    }
}

fn matrix(i: u64, dims: &[u64]) -> Tensor {
    Tensor::new(&format!("blk.{i}.ffn_up.weight"), TensorType::BF16, dims, i)
}

/// A matrix whose rare weights stand at the ends of its rows: far from all before, so that more others between become escapes too than where
/// they are spread.
fn clustered(i: u64, k: u64, rows: u64) -> Tensor {
    const RARE: usize = 24;
    let mut tensor = matrix(i, &[k, rows]);
    let mut next = random(i);
    for row in tensor.data.chunks_exact_mut(2 * k as usize) {
        for (place, weight) in row.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            let bits = next();
            let high = if place + RARE < k as usize { 0x3C } else { 0x50 };
            *weight = [(bits >> 8) as u8, high + (bits & 7) as u8];
        }
    }
    tensor
}

#[test]
fn a_layout_that_does_not_suffice_is_made_anew() {
    let mut were_larger = 0;
    for count in 30..40 {
        let files = Files::new(&File::of((0..count).map(|i| clustered(i, 4096, 8)).collect()));
        let converted = files.path("converted.gguf");
        let expected = forecast(&files.original, Form::Run, &()).unwrap().after;
        let after = convert(&files.original, &converted, Form::Run, false, &()).unwrap().after;
        assert_eq!(after, fs::metadata(&converted).unwrap().len());
        were_larger += usize::from(after > expected);
        files.comes_back(&converted);
    }
    assert!(were_larger > 0, "what was expected sufficed for all");
}

/// Bytes of carriers that hold nothing.
fn unused(converted: &Path) -> u64 {
    let bytes = fs::read(converted).unwrap();
    let converted = Converted::open(Gguf::parse(&bytes).unwrap(), &[]).unwrap();
    let index = converted.untouched().unwrap();
    let carriers = index.carriers().map(|entry| converted.gguf.tensor(&entry.name).unwrap());
    let rooms: u64 = carriers.map(|tensor| room_bytes(tensor.ty, &tensor.dims).unwrap()).sum();
    let pieces: u64 = index.entries.iter().flat_map(|entry| entry.pieces()).map(|piece| piece.len).sum();
    rooms - pieces - index.rooms.len() as u64 * HEADER_BYTES - index.to_bytes().len() as u64
}

/// The matrices of a model of so many layers, as in LLaMA.
fn llama(width: u64, layers: u64) -> Vec<Tensor> {
    let (kv, ff) = (width / 4, width * 43 / 16);
    let layer = |i: u64| {
        let name = |part: &str| format!("blk.{i}.{part}.weight");
        [
            ("attn_q", [width, width]),
            ("attn_k", [width, kv]),
            ("attn_v", [width, kv]),
            ("attn_output", [width, width]),
            ("ffn_gate", [width, ff]),
            ("ffn_up", [width, ff]),
            ("ffn_down", [ff, width]),
        ]
        .map(|(part, dims)| Tensor::new(&name(part), TensorType::BF16, &dims, i))
    };
    let table = Tensor::new("token_embd.weight", TensorType::BF16, &[width, 515], 9);
    std::iter::once(table).chain((0..layers).flat_map(layer)).collect()
}

#[test]
fn rooms_just_suffice() {
    // At the end of each room, less than a segment is lost: in small matrices that is more.
    for (width, layers, most) in [(128, 2, 0.01), (128, 12, 0.005), (512, 2, 0.002), (512, 8, 0.002)] {
        let files = Files::new(&File::of(llama(width, layers)));
        let converted = files.path("converted.gguf");
        let report = convert(&files.original, &converted, Form::Run, false, &()).unwrap();
        let share = unused(&converted) as f64 / report.after as f64;
        assert!(share < most, "{layers} layers of {width}: {share} of the file hold nothing");
        files.comes_back(&converted);
    }
}

fn small_files() -> impl Strategy<Value = File> {
    let tensors = prop::collection::vec((1u64..200, 1u64..60), 1..10);
    (tensors, 0u32..3, prop::bool::ANY).prop_map(|(shapes, optional, filled)| {
        let tensors: Vec<_> = (0..).zip(shapes).map(|(i, (k, rows))| matrix(i, &[k, rows])).collect();
        let blocks = tensors.len() as u32;
        let mut file = File::of(tensors)
            .with_kv("general.architecture", Value::String("glm4moe".to_owned()))
            .with_kv("glm4moe.block_count", Value::u32(blocks))
            .with_kv("glm4moe.nextn_predict_layers", Value::u32(optional.min(blocks)));
        if filled {
            (file.filler, file.trailing) = (0xA5, 5);
        }
        file
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn small_files_come_back_or_do_not_shrink(file in small_files()) {
        let files = Files::new(&file);
        let converted = files.path("converted.gguf");
        match convert(&files.original, &converted, Form::Run, false, &()) {
            Ok(report) => {
                prop_assert!(report.after < report.before);
                files.comes_back(&converted);
            }
            Err(error) => {
                let is_expected = matches!(
                    *error.cause,
                    Cause::Refused(Refusal::NotSmaller { .. } | Refusal::Nothing { .. })
                        | Cause::Layout(LayoutError::TooSmall)
                );
                prop_assert!(is_expected, "{}", error);
                prop_assert!(!converted.exists());
            }
        }
    }
}

/// A converted file with bytes between its tensors, and its original.
fn pair() -> (Files, Vec<u8>) {
    let norm = Tensor::new("norm", TensorType::F32, &[33], 1);
    let mut original = File::of([norm].into_iter().chain((0..8).map(|i| matrix(i, &[128, 64]))).collect());
    (original.filler, original.trailing) = (0xA5, 99);
    let files = Files::new(&original);
    let converted = files.path("converted.gguf");
    convert(&files.original, &converted, Form::Run, false, &()).unwrap();
    let bytes = fs::read(converted).unwrap();
    (files, bytes)
}

/// What restoring and verifying say of a file; `None` where they find nothing wrong.
fn refusals(files: &Files, file: &[u8]) -> [Option<String>; 2] {
    let (path, restored) = (files.path("forged.gguf"), files.path("restored.gguf"));
    fs::write(&path, file).unwrap();
    let prefix = format!("{}: ", path.display());
    let message =
        |error: unweight::convert::Error| error.to_string().strip_prefix(&prefix).unwrap().to_owned();
    let refused = [
        restore(&path, &restored, false, &()).err().map(message),
        verify(&path, None, &()).err().map(message),
    ];
    assert_eq!(restored.exists(), refused[0].is_none());
    if restored.exists() {
        fs::remove_file(restored).unwrap();
    }
    refused
}

/// What both say of a file whose index has been changed.
#[track_caller]
fn index_refusal(change: impl FnOnce(&mut Index)) -> String {
    let (files, mut file) = pair();
    let room = rooms(&file)[0].clone();
    change_index(&mut file[room], change);
    let [restoring, verifying] = refusals(&files, &file);
    assert_eq!(restoring, verifying);
    restoring.unwrap()
}

#[test]
fn forged_indexes_do_not_verify() {
    let whole = "every tensor is right, but the whole has another BLAKE3: damaged outside the tensors";
    assert_eq!(index_refusal(|index| index.original_blake3[0] ^= 1), whole);
    for (i, name) in [(0, "norm"), (1, "blk.0.ffn_up.weight")] {
        let damaged = format!("tensor {name:?}: damaged: its checksum is not the original's");
        assert_eq!(index_refusal(|index| index.entries[i].xxh3 ^= 1), damaged);
    }
    // F16 weights may be stored as BF16: these are other numbers then.
    for (ty, what) in [
        (TensorType::F16, "damaged: its checksum is not the original's"),
        (TensorType::I16, "this version of the program knows no encoding for I16"),
    ] {
        let refusal = index_refusal(|index| index.entries[1].ty = ty);
        assert_eq!(refusal, format!("tensor \"blk.0.ffn_up.weight\": {what}"));
    }
    let encoding = index_refusal(|index| match &mut index.entries[1].stored {
        Stored::Coded { encoding, .. } => *encoding = 77,
        Stored::Plain => panic!("a plain tensor"),
    });
    assert!(
        encoding.starts_with("tensor \"blk.0.ffn_up.weight\": ") && encoding.contains("77"),
        "{encoding}"
    );
    let len = index_refusal(|index| index.original_len = 1 << 50);
    assert!(len.contains("bytes belong to no tensor"), "{len}");
    assert_eq!(
        index_refusal(|index| index.remainder.as_mut().unwrap().xxh3 ^= 1),
        "the bytes between the tensors: damaged"
    );
}

#[test]
fn forged_bytes_between_tensors_do_not_verify() {
    let (files, file) = pair();
    let forge = |frame: &[u8]| {
        let (mut file, room) = (file.clone(), rooms(&file)[0].clone());
        let index_len = u64::from_le_bytes(file[room.start + 32..][..8].try_into().unwrap());
        let behind_index = room.start + 64 + index_len as usize..room.end;
        let mut at = 0;
        change_index(&mut file[room.clone()], |index| {
            let remainder = index.remainder.as_mut().unwrap();
            assert_eq!(remainder.room, 0);
            (remainder.len, remainder.xxh3) = (frame.len() as u64, xxh3_64(frame));
            at = room.start + remainder.offset as usize;
        });
        file[at..at + frame.len()].copy_from_slice(frame);
        let xxh3 = xxh3_64(&file[behind_index]);
        change_index(&mut file[room], |index| index.rooms[0].xxh3 = xxh3);
        let [restoring, verifying] = refusals(&files, &file);
        assert_eq!(restoring, verifying);
        restoring.unwrap()
    };
    let frame = |len: usize| zstd::encode_all(&vec![0xA5; len][..], 3).unwrap();
    for (bytes, expected) in [
        (frame(3), "the bytes between the tensors: fewer bytes than there is space for"),
        (frame(1 << 20), "the bytes between the tensors: more bytes than there is space for"),
        (vec![0; 20], "the bytes between the tensors: "),
    ] {
        let refused = forge(&bytes);
        assert!(refused.starts_with(expected), "{refused}");
    }
}

#[test]
fn damage_that_no_tensor_feels_is_found_by_verifying() {
    let (files, mut file) = pair();
    assert_eq!(refusals(&files, &file), [None, None]);
    let last = rooms(&file).last().unwrap().end - 1;
    file[last] ^= 1;
    let [restoring, verifying] = refusals(&files, &file);
    assert_eq!(restoring, None);
    assert!(verifying.unwrap().ends_with("the part of the file that it holds is damaged"));
}
