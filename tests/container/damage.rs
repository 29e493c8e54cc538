//! Files cut, flipped and forged everywhere: no panic, no wrong weight, no memory that the file has not earned.

use unweight::codec::Encoding;
use unweight::container::converted::Converted;
use unweight::container::gguf::{Gguf, TensorType};

use crate::conversion::{convert, restore, seal};
use crate::file::{ARRAY, File, STRING, Tensor, Value};
use crate::memory::peak;

/// More than restoring a file of a few kilobytes can need.
const MUCH: isize = 1 << 20;

fn original() -> File {
    let mut file = File::of(vec![
        Tensor::new("norm", TensorType::F32, &[5], 1),
        Tensor::new("matrix", TensorType::BF16, &[64, 12], 2),
        Tensor::new("stack", TensorType::BF16, &[30, 3, 2], 3),
        Tensor::new("none", TensorType::F32, &[0], 3),
    ])
    .with_kv("general.alignment", Value::u32(32))
    .with_kv("strings", Value::Array(STRING, vec![Value::String("text".to_owned())]))
    .with_kv(
        "nested",
        Value::Array(ARRAY, vec![Value::Array(0, vec![]), Value::Array(4, vec![Value::u32(1)])]),
    );
    file.filler = 0xA5;
    file.trailing = 3;
    file
}

/// An original and its converted file.
fn pair() -> (Vec<u8>, Vec<u8>) {
    let original = original().to_bytes();
    let coded = [None, Some(Encoding::Bf16Palette8), Some(Encoding::Bf16Palette16), None];
    let converted = convert(&original, &coded).unwrap();
    (original, converted)
}

/// Start of the pool, and end of its index.
fn pool(converted: &[u8]) -> (usize, usize) {
    let opened = Converted::open(Gguf::parse(converted).unwrap()).unwrap();
    let start = opened.pool_position as usize;
    (start, start + 64 + opened.header.index_len as usize)
}

/// Looks at everything that a parsed file offers.
fn explore(file: &[u8]) {
    if let Ok(gguf) = Gguf::parse(file) {
        for tensor in &gguf.tensors {
            assert_eq!(gguf.bytes(tensor).len() as u64, tensor.len);
        }
        for pair in &gguf.kv {
            assert!(pair.as_u32().is_none() || pair.as_str().is_none());
        }
    }
}

/// Restores with an eye on memory. `None` if it is refused.
fn careful(file: &[u8]) -> Option<Vec<u8>> {
    let (result, bytes) = peak(|| restore(file).ok());
    assert!(bytes < MUCH, "{bytes} bytes allocated");
    result
}

#[test]
fn originals_cut_anywhere() {
    let original = original();
    let (enough, original) = (original.to_bytes().len() - original.trailing, original.to_bytes());
    for len in 0..original.len() {
        explore(&original[..len]);
        assert_eq!(Gguf::parse(&original[..len]).is_ok(), len >= enough, "cut at {len}");
    }
}

#[test]
fn converted_files_cut_anywhere() {
    let (original, converted) = pair();
    for len in 0..converted.len() {
        if let Some(restored) = careful(&converted[..len]) {
            assert!(restored == original, "cut at {len}");
        }
    }
}

#[test]
fn bits_of_originals_flipped() {
    let (header, mut file) = (original().header().len(), original().to_bytes());
    for bit in 0..8 * header {
        file[bit / 8] ^= 1 << (bit % 8);
        explore(&file);
        file[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn bits_of_converted_files_flipped() {
    let (original, mut converted) = pair();
    let header = Gguf::parse(&converted).unwrap().header_len as usize;
    let (pool, index_end) = pool(&converted);
    for bit in 0..8 * converted.len() {
        let byte = bit / 8;
        converted[byte] ^= 1 << (bit % 8);
        let restored = careful(&converted);
        // A change of the header may be one of the metadata; each weight is proved by its checksum all the same.
        if let Some(restored) = restored.filter(|_| byte >= header) {
            assert!(restored == original, "bit {bit} is not noticed");
            assert!(!(pool..index_end).contains(&byte), "bit {bit} of pool header or index is not noticed");
        }
        converted[byte] ^= 1 << (bit % 8);
    }
}

#[test]
fn numbers_forged() {
    let (_, converted) = pair();
    let (pool, index_end) = pool(&converted);
    for at in 4..index_end {
        for number in [0, 1, 1 << 31, u64::from(u32::MAX), 1 << 40, 1 << 63, u64::MAX] {
            for width in [4, 8] {
                let mut forged = converted.clone();
                forged[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
                seal(&mut forged[pool..]);
                explore(&forged);
                careful(&forged);
            }
        }
    }
}
