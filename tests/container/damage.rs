//! Files cut, flipped and forged everywhere: no panic, no wrong weight, no memory that the file has not earned.

use std::ops::Range;

use unweight::container::converted::Converted;
use unweight::container::gguf::{Gguf, TensorType};
use unweight::container::rooms::RoomHeader;
use xxhash_rust::xxh3::xxh3_64;

use crate::conversion::{PALETTE8, PALETTE16, convert, restore, rooms, seal};
use crate::file::{ARRAY, File, STRING, Tensor, Value};
use crate::memory::peak;

/// More than restoring a file of a few kilobytes can need.
const MUCH: isize = 1 << 20;

fn original() -> File {
    let mut file = File::of(vec![
        Tensor::new("norm", TensorType::F32, &[5], 1),
        Tensor::new("matrix", TensorType::BF16, &[64, 24], 2),
        Tensor::new("stack", TensorType::BF16, &[96, 3, 8], 3),
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

/// An original and its converted file, which has rooms in both carriers.
fn pair() -> (Vec<u8>, Vec<u8>) {
    let original = original().to_bytes();
    let converted = convert(&original, &[None, Some(PALETTE8), Some(PALETTE16), None]).unwrap();
    assert_eq!(rooms(&converted).len(), 2);
    (original, converted)
}

/// The headers of rooms, and the index, of a file.
fn tables(converted: &[u8]) -> Vec<Range<usize>> {
    let header = |room: &Range<usize>| RoomHeader::parse(&converted[room.clone()]).unwrap().unwrap();
    let end = |room: &Range<usize>| room.start + 64 + header(room).index_len as usize;
    rooms(converted).iter().map(|room| room.start..end(room)).collect()
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
    let tables = tables(&converted);
    for bit in 0..8 * converted.len() {
        let byte = bit / 8;
        converted[byte] ^= 1 << (bit % 8);
        let restored = careful(&converted);
        let is_in_table = tables.iter().any(|table| table.contains(&byte));
        match restored {
            // A change of the header may be one of the metadata; each weight is proved by its checksum all the same.
            Some(restored) if byte < header => same_tensors(&restored, &original),
            Some(restored) => {
                assert!(restored == original, "bit {bit} is not noticed");
                assert!(!is_in_table, "bit {bit} of the header of a room, or of the index, is not noticed");
            }
            None => {}
        }
        converted[byte] ^= 1 << (bit % 8);
    }
}

/// Whatever has a name of the original's is as it was there.
fn same_tensors(restored: &[u8], original: &[u8]) {
    let (restored, original) = (Gguf::parse(restored).unwrap(), Gguf::parse(original).unwrap());
    assert_eq!(restored.tensors.len(), original.tensors.len());
    let mut renamed = 0;
    for tensor in &restored.tensors {
        match original.tensor(tensor.name) {
            Some(before) => {
                assert_eq!((tensor.ty, tensor.dims), (before.ty, before.dims), "{}", tensor.name);
                assert!(restored.bytes(tensor) == original.bytes(before), "{}", tensor.name);
            }
            None => renamed += 1,
        }
    }
    assert!(renamed <= 1, "one bit changes one name");
}

/// Verifying looks at the bytes that restoring does not need, too.
#[test]
fn bits_of_rooms_flipped() {
    let (_, mut converted) = pair();
    let (rooms, tables) = (rooms(&converted), tables(&converted));
    for (room, table) in rooms.iter().zip(&tables) {
        for byte in table.end..room.end {
            converted[byte] ^= 0x10;
            let opened = Converted::open(Gguf::parse(&converted).unwrap(), &[]).unwrap();
            let damaged = opened.rooms().filter(|(_, bytes, xxh3)| xxh3_64(bytes) != *xxh3).count();
            assert_eq!(damaged, 1, "byte {byte}");
            converted[byte] ^= 0x10;
        }
    }
}

#[test]
fn numbers_forged() {
    let (_, converted) = pair();
    let header = Gguf::parse(&converted).unwrap().header_len as usize;
    let tables = tables(&converted);
    for at in (4..header).chain(tables.iter().cloned().flatten()) {
        for number in [0, 1, 1 << 31, u64::from(u32::MAX), 1 << 40, 1 << 63, u64::MAX] {
            for width in [4, 8] {
                let mut forged = converted.clone();
                forged[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
                for room in rooms(&converted) {
                    seal(&mut forged[room]);
                }
                explore(&forged);
                careful(&forged);
            }
        }
    }
}
