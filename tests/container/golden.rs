//! Files of format version 1, both forms, as they were first written: they are never edited, and read for ever.
//!
//! `original.gguf` has every kind of number in every encoding, quantized blocks, vectors, empty tensors, and bytes that belong to nothing.

use std::fs;
use std::path::{Path, PathBuf};

use unweight::codec::{Encoding, Number};
use unweight::container::archive::{Coding, Index, TENSOR};
use unweight::container::converted::Converted;
use unweight::container::gguf::{Gguf, TensorType};
use unweight::convert::{Form, convert, restore_to, verify};
use unweight::kernel::Isa;

use crate::file::{File, Tensor, Value};
use crate::samples::{random, weights};

/// Whoever changes a file changes these, and should not.
const BLAKE3: [(&str, &str); 3] = [
    ("original.gguf", "703e02bc87af1e8f584bc1a698e5254078bb06bb86eea9a31cd03d950ae3f06e"),
    ("runs.gguf", "3d8753474c64935ef96dc2e636093ebee974ab89fbd809f5a39ea70e578dbf1b"),
    ("archive.gguf", "97f92f885424313ea69b3e42bee069479c41e5a65fd75da159986b19892d2167"),
];

fn path(name: &str) -> PathBuf {
    Path::new("tests/data/golden").join(name)
}

/// What `original.gguf` was made by; `convert` and `convert --archive` made the others of it.
fn original() -> File {
    let numbers = |name: &str, ty, number, stored, dims: &[u64], wild| {
        let mut tensor = Tensor::new(name, ty, dims, 1);
        tensor.data = weights(number, stored, dims.iter().product::<u64>() as usize, wild, name.len() as u64);
        tensor
    };
    use Number::{Bf16, F16, F32};
    use TensorType as T;
    let quantized = |name: &str, id: u32, dims: &[u64], fine: u64| {
        let mut tensor = Tensor::new(name, TensorType::from_id(id).unwrap(), dims, 2);
        let mut next = random(u64::from(id));
        let width = TensorType::from_id(id).unwrap().block_bytes() as usize;
        for (i, byte) in tensor.data.iter_mut().enumerate() {
            let bits = next();
            *byte = if i % width < 2 {
                0x2A ^ (bits & 3) as u8
            } else {
                (bits % fine + (bits >> 8) % fine) as u8
            };
        }
        tensor
    };
    // Exponents that are all as frequent: more than a palette of 8 has.
    let spread = |mut tensor: Tensor, width: usize| {
        for (i, weight) in tensor.data.chunks_exact_mut(width).enumerate() {
            let exponent = 100 + (i * 5 % 14) as u16;
            let high = u16::from_le_bytes([weight[width - 2], weight[width - 1]]) & 0x807F | exponent << 7;
            weight[width - 2..].copy_from_slice(&high.to_le_bytes());
        }
        tensor
    };
    let mut file = File::of(vec![
        numbers("token_embd.weight", T::BF16, Bf16, Bf16, &[96, 80], 1),
        numbers("blk.0.attn_q.weight", T::F16, F16, F16, &[64, 64], 0),
        numbers("blk.0.attn_k.weight", T::F32, F32, F32, &[64, 40], 1),
        spread(numbers("blk.0.attn_v.weight", T::F32, F32, F32, &[64, 40], 0), 4),
        numbers("blk.0.attn_output.weight", T::F32, F32, Bf16, &[64, 64], 1),
        numbers("blk.0.ffn_up.weight", T::F16, F16, Bf16, &[64, 48], 0),
        numbers("blk.0.ffn_gate.weight", T::F32, F32, F16, &[64, 48], 0),
        spread(numbers("blk.0.ffn_down.weight", T::BF16, Bf16, Bf16, &[48, 64], 0), 2),
        numbers("blk.0.attn_norm.weight", T::F32, F32, Bf16, &[64], 0),
        quantized("blk.1.attn_q.weight", 8, &[64, 40], 40),
        quantized("blk.1.ffn_up.weight", 12, &[256, 16], 60),
        Tensor::new("blk.1.ids.weight", T::from_id(26).unwrap(), &[16], 9),
        Tensor::new("empty.weight", T::F32, &[0, 4], 1),
    ])
    .with_kv("general.architecture", Value::String("llama".to_owned()))
    .with_kv("general.alignment", Value::u32(64));
    let order: Vec<_> = (0..file.tensors.len()).map(|i| (i, u64::from(i == 3))).collect();
    file.place(&order);
    file.filler = 0xA5;
    file.trailing = 7;
    file
}

#[test]
fn golden_files_are_as_they_were() {
    for (name, expected) in BLAKE3 {
        let found = blake3::hash(&fs::read(path(name)).unwrap()).to_hex().to_string();
        assert_eq!(found, expected, "{name}");
    }
    assert!(fs::read(path("original.gguf")).unwrap() == original().to_bytes());
}

#[test]
fn golden_files_are_read() {
    let original = fs::read(path("original.gguf")).unwrap();
    for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
        assert!(isa.select());
        for name in ["runs.gguf", "archive.gguf"] {
            let mut out = Vec::new();
            assert!(restore_to(&path(name), &mut out, &()).unwrap().is_whole);
            assert!(out == original, "{name}, {}", isa.name());
            assert!(verify(&path(name), Some(&path("original.gguf")), &()).unwrap().is_whole);
        }
    }
}

/// They would prove little if they had not all there is.
#[test]
fn golden_files_have_every_encoding() {
    let bytes = fs::read(path("runs.gguf")).unwrap();
    let converted = Converted::open(Gguf::parse(&bytes).unwrap(), &[]).unwrap();
    let index = converted.untouched().unwrap();
    for encoding in Encoding::ALL {
        let has = |name: &str| {
            converted.locate(name).unwrap().is_some_and(|located| located.encoding == encoding.id())
        };
        assert!(index.entries.iter().any(|entry| has(&entry.name)), "{encoding:?}");
    }
    assert!(index.remainder.is_some());
    let bytes = fs::read(path("archive.gguf")).unwrap();
    let gguf = Gguf::parse(&bytes).unwrap();
    let index = Index::parse(gguf.bytes(gguf.tensor(TENSOR).unwrap())).unwrap();
    let codings: Vec<_> = index.entries.iter().map(|entry| entry.coding).collect();
    for number in Number::ALL {
        let is =
            |coding: &Coding| matches!(coding, Coding::Weights { number: found, .. } if *found == number);
        assert!(codings.iter().any(is), "{number:?}");
    }
    assert!(codings.iter().any(|coding| matches!(coding, Coding::Records { .. })));
    assert!(codings.contains(&Coding::Stored));
    assert!(index.gaps_frame > 0);
}

/// With the name of the program that wrote them first.
fn as_then(mut file: Vec<u8>) -> Vec<u8> {
    let (now, then) = (concat!("unweight-gguf ", env!("CARGO_PKG_VERSION")), "unweight-gguf 0.1.0");
    assert_eq!(now.len(), then.len(), "another length moves everything: compare in another way");
    let at = file.windows(now.len()).position(|bytes| bytes == now.as_bytes()).expect("its writer");
    file[at..at + then.len()].copy_from_slice(then.as_bytes());
    file
}

/// The same bytes from every instruction set and any number of threads, on every machine. When an encoder gets better, new files join these.
#[test]
fn golden_files_are_written_again() {
    let folder = tempfile::tempdir().unwrap();
    for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for (form, name) in [(Form::Run, "runs.gguf"), (Form::Archive, "archive.gguf")] {
                assert!(isa.select());
                let out = folder.path().join(name);
                pool.install(|| convert(&path("original.gguf"), &out, form, true, &())).unwrap();
                let written = as_then(fs::read(&out).unwrap());
                assert!(written == fs::read(path(name)).unwrap(), "{name}, {}", isa.name());
            }
        }
    }
}
