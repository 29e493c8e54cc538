//! The sample models as another reader sees them, before and after conversion.
//!
//! gguf-rs 0.1.8 is compared where it is right. It counts blocks of 32 weights for types 2 to 9 and of 256 for all later ones, so
//! the sizes of IQ4_NL, MXFP4, BF16, F64 and the integers are wrong, and that of Q8_1 is too; it stops at types above 39 and at
//! nested arrays, and forgets the order of keys and the width of integers.

use std::io::Cursor;

use gguf_rs::{ByteOrder, GGUFContainer, GGUFModel};
use unweight::container::gguf::{Gguf, TensorType};

use crate::conversion::{PALETTE8, convert, restore};
use crate::file::{File, STRING, Tensor, Value};
use crate::round_trip::types;

const SAMPLES: [&[u8]; 2] =
    [include_bytes!("../data/tiny-bf16.gguf"), include_bytes!("../data/edges-bf16.gguf")];

const LAST_TYPE: u32 = 39;
const WRONG_SIZES: [&str; 9] = ["Q8_1", "IQ4_NL", "I8", "I16", "I32", "I64", "F64", "BF16", "MXFP4"];

fn other_reader(file: &[u8]) -> GGUFModel {
    let behind_magic = Cursor::new(file[4..].to_vec());
    GGUFContainer::new(ByteOrder::LE, Box::new(behind_magic), u64::MAX).decode().unwrap()
}

fn compare(file: &[u8]) {
    let (ours, theirs) = (Gguf::parse(file).unwrap(), other_reader(file));
    assert_eq!(format!("v{}", ours.version), theirs.get_version());
    assert_eq!((ours.alignment, ours.data_start), (theirs.alignment(), theirs.data_offset()));

    assert_eq!(ours.kv.len(), theirs.metadata().len());
    for pair in &ours.kv {
        let value = &theirs.metadata()[pair.key];
        if let Some(number) = pair.as_u32() {
            assert_eq!(value.as_u64(), Some(number.into()), "{}", pair.key);
        }
        assert_eq!(pair.as_str(), value.as_str(), "{}", pair.key);
        if let Some(items) = value.as_array() {
            assert_eq!(pair.value[4..12], (items.len() as u64).to_le_bytes(), "{}", pair.key);
        }
    }

    assert_eq!(ours.tensors.len(), theirs.tensors().len());
    for (our, their) in ours.tensors.iter().zip(theirs.tensors()) {
        assert_eq!((our.name, our.ty.id(), our.offset), (their.name.as_str(), their.kind, their.offset));
        assert_eq!(our.dims.as_slice(), their.shape);
        if !WRONG_SIZES.contains(&our.ty.name()) {
            assert_eq!(our.len, their.size, "{} of type {}", our.name, our.ty);
        }
    }
}

#[test]
fn samples() {
    for original in SAMPLES {
        compare(original);
        let gguf = Gguf::parse(original).unwrap();
        let matrices = gguf.tensors.iter().map(|t| t.ty == TensorType::BF16 && t.dims.as_slice().len() > 1);
        let codings: Vec<_> = matrices.map(|coded| coded.then_some(PALETTE8)).collect();
        let converted = convert(original, &codings).unwrap();
        compare(&converted);
        assert!(restore(&converted).unwrap() == original);
    }
}

#[test]
fn types_and_values() {
    let tensors = types().into_iter().filter(|ty| ty.id() <= LAST_TYPE);
    let mut file = File::of(tensors.map(|ty| Tensor::new(ty.name(), ty, &[256, 3], 1)).collect())
        .with_kv("general.alignment", Value::u32(64))
        .with_kv("none", Value::Array(STRING, vec![]))
        .with_kv(
            "strings",
            Value::Array(STRING, vec![Value::String("é".to_owned()), Value::String(String::new())]),
        )
        .with_kv("long", Value::Scalar(10, u64::MAX.to_le_bytes().to_vec()));
    file.version = 2;
    let order: Vec<_> = (0..file.tensors.len()).rev().map(|i| (i, 0)).collect();
    file.place(&order);
    compare(&file.to_bytes());
}
