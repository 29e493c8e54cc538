//! Converted files that contradict themselves, one test per cause. The checksums are always right: whoever forges a file can
//! count too.

use unweight::codec::Encoding;
use unweight::container::converted::{Converted, ConvertedError};
use unweight::container::gguf::{Dims, Gguf, TensorType};
use unweight::container::pool::{Entry, Extent, Index, PoolError, PoolHeader, Remainder, Stored};
use xxhash_rust::xxh3::xxh3_64;

use crate::conversion::{convert, seal};
use crate::file::{File, Tensor, Value};
use crate::memory::peak;

const VERSION: &str = "unweight.version";
const FIRST: &str = "unweight.pool.tensor";
const CARRIERS: &str = "unweight.pool.carriers";

/// A plain tensor and two carriers.
fn converted() -> Vec<u8> {
    let matrix = |name, seed| Tensor::new(name, TensorType::BF16, &[64, 64], seed);
    let norm = Tensor::new("norm", TensorType::F32, &[32], 1);
    let file = File::of(vec![norm, matrix("one", 2), matrix("two", 3)]);
    let encoding = Some(Encoding::Bf16Palette8);
    convert(&file.to_bytes(), &[None, encoding, encoding]).unwrap()
}

fn open(file: &[u8]) -> Result<(), ConvertedError> {
    Converted::open(Gguf::parse(file).unwrap()).map(|_| ())
}

/// Why the converted file with a changed GGUF is refused.
fn file_refusal(change: impl FnOnce(&mut File)) -> ConvertedError {
    let mut file = File::read(&converted());
    change(&mut file);
    open(&file.to_bytes()).unwrap_err()
}

/// Why it is refused with another value for a key, or without it.
fn key_refusal(key: &str, value: Option<Value>) -> ConvertedError {
    file_refusal(|file| {
        let at = file.kv.iter().position(|(k, _)| k == key).unwrap();
        file.kv.splice(at..=at, value.map(|value| (key.to_owned(), value)));
    })
}

/// The converted file with a changed pool.
fn with_pool(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut file = converted();
    let start = Converted::open(Gguf::parse(&file).unwrap()).unwrap().pool_position as usize;
    change(&mut file[start..]);
    file
}

fn pool_refusal(change: impl FnOnce(&mut [u8])) -> PoolError {
    match open(&with_pool(change)).unwrap_err() {
        ConvertedError::Pool(error) => error,
        other => panic!("not a fault of the pool: {other}"),
    }
}

/// Why it is refused with these bytes at this place of the pool.
fn bytes_refusal(at: usize, bytes: &[u8]) -> PoolError {
    pool_refusal(|pool| {
        pool[at..at + bytes.len()].copy_from_slice(bytes);
        seal(pool);
    })
}

fn change_index(pool: &mut [u8], change: impl FnOnce(&mut Index)) {
    let (header, mut index) = Index::parse(pool).unwrap();
    change(&mut index);
    let bytes = index.to_bytes();
    pool[64..64 + bytes.len()].copy_from_slice(&bytes);
    let header = PoolHeader { index_len: bytes.len() as u64, index_xxh3: xxh3_64(&bytes), ..header };
    pool[..64].copy_from_slice(&header.to_bytes());
}

fn index_refusal(change: impl FnOnce(&mut Index)) -> PoolError {
    pool_refusal(|pool| change_index(pool, change))
}

fn entry_error(name: &str, what: &'static str) -> PoolError {
    PoolError::Entry { name: name.to_owned(), what }
}

fn tensor_error(name: &str, what: &'static str) -> ConvertedError {
    ConvertedError::Tensor { name: name.to_owned(), what }
}

fn extent_of(entry: &mut Entry) -> &mut Extent {
    match &mut entry.stored {
        Stored::Blob { extent, .. } => extent,
        Stored::Plain => panic!("a plain tensor"),
    }
}

fn set_carrier_offset(entry: &mut Entry, to: u64) {
    match &mut entry.stored {
        Stored::Blob { carrier_offset, .. } => *carrier_offset = to,
        Stored::Plain => panic!("a plain tensor"),
    }
}

#[test]
fn untampered() {
    assert_eq!(open(&converted()), Ok(()));
    assert_eq!(open(&File::read(&converted()).to_bytes()), Ok(()));
    assert_eq!(open(&with_pool(|pool| change_index(pool, |_| ()))), Ok(()));
}

#[test]
fn no_keys_of_ours() {
    let refused = file_refusal(|file| file.kv.retain(|(key, _)| !key.starts_with("unweight.")));
    assert_eq!(refused, ConvertedError::NotUnweight);
}

#[test]
fn keys_missing_or_of_another_type() {
    for key in [VERSION, FIRST, CARRIERS] {
        for value in [None, Some(Value::Scalar(5, vec![1, 0, 0, 0]))] {
            assert_eq!(key_refusal(key, value), ConvertedError::Key(key));
        }
    }
}

#[test]
fn another_version() {
    assert_eq!(key_refusal(VERSION, Some(Value::u32(2))), ConvertedError::Version(2));
}

#[test]
fn another_first_carrier() {
    let first = |name: &str| key_refusal(FIRST, Some(Value::String(name.to_owned())));
    assert_eq!(first("none"), ConvertedError::FirstCarrier("none".to_owned()));
    assert_eq!(
        first("norm"),
        tensor_error("norm", "stands among the carriers, but its type is none of theirs")
    );
    assert_eq!(first("two"), tensor_error("two", "fewer carriers follow it than the metadata say"));
}

#[test]
fn another_number_of_carriers() {
    let number = |n| key_refusal(CARRIERS, Some(Value::u32(n)));
    for n in [0, 3, u32::MAX] {
        assert_eq!(number(n), tensor_error("one", "fewer carriers follow it than the metadata say"));
    }
    let refused = number(1);
    assert!(matches!(refused, ConvertedError::Pool(PoolError::Truncated { .. })), "{refused}");
}

/// The converted file with a first carrier so wide that the whole pool lies under it.
fn with_wide_carrier() -> File {
    const WIDE: u64 = 8 * 64 * 64;
    let mut file = File::read(&with_pool(|pool| {
        change_index(pool, |index| set_carrier_offset(&mut index.entries[2], WIDE));
    }));
    let [_, one, two] = &mut file.tensors[..] else { panic!("three tensors") };
    one.ty = TensorType::I64.id();
    one.data.extend_from_slice(&two.data);
    one.data.resize(WIDE as usize, 0);
    two.offset = one.offset + WIDE;
    file
}

#[test]
fn a_number_of_carriers_that_is_not_the_pools() {
    let mut file = with_wide_carrier();
    assert_eq!(open(&file.to_bytes()), Ok(()));
    file.kv.last_mut().unwrap().1 = Value::u32(1);
    assert_eq!(open(&file.to_bytes()), Err(ConvertedError::Carriers { listed: 2, said: 1 }));
}

#[test]
fn a_carrier_outside_the_pool() {
    let mut file = with_wide_carrier();
    let mut between = Tensor::new("norm", TensorType::I8, &[32], 1);
    between.offset = file.tensors[2].offset;
    file.tensors[2].offset += 32;
    file.tensors[0] = between;
    let start = file.tensors[1].data.len();
    change_index(&mut file.tensors[1].data, |index| {
        index.entries[0].ty = TensorType::I8;
        index.entries[0].len = 32;
        set_carrier_offset(&mut index.entries[2], start as u64 + 32);
    });
    assert_eq!(open(&file.to_bytes()), Err(tensor_error("two", "its carrier is not where the index says")));
}

#[test]
fn a_carrier_of_another_type() {
    let refused = file_refusal(|file| file.tensors[2].ty = TensorType::F16.id());
    assert_eq!(refused, tensor_error("two", "stands among the carriers, but its type is none of theirs"));
}

#[test]
fn a_hole_between_carriers() {
    let refused = file_refusal(|file| file.tensors[2].offset += 32);
    assert_eq!(refused, tensor_error("one", "the carriers do not follow each other"));
}

#[test]
fn tensors_that_differ_from_the_index() {
    for (i, name) in [(0, "norm"), (2, "two")] {
        let shape = file_refusal(|file| file.tensors[i].dims.push(1));
        assert_eq!(shape, tensor_error(name, "its shape differs from that in the index"));
        let missing = file_refusal(|file| file.tensors[i].name = "other".to_owned());
        assert_eq!(missing, tensor_error(name, "in the index, not in the file"));
    }
    let ty = file_refusal(|file| file.tensors[0].ty = 26);
    assert_eq!(ty, tensor_error("norm", "its type differs from that in the index"));
}

#[test]
fn another_number_of_tensors() {
    let more = file_refusal(|file| {
        let mut tensor = Tensor::new("more", TensorType::F32, &[1], 1);
        tensor.offset = 1 << 15;
        file.tensors.push(tensor);
    });
    assert_eq!(more, ConvertedError::Count { listed: 3, found: 4 });
}

#[test]
fn carriers_in_another_order() {
    let refused = open(&with_pool(|pool| {
        change_index(pool, |index| {
            let [_, one, two] = &mut index.entries[..] else { panic!("three entries") };
            std::mem::swap(&mut one.name, &mut two.name);
        });
    }));
    let what = "the first in the index, but not where the pool begins";
    assert_eq!(refused, Err(tensor_error("two", what)));
}

#[test]
fn carriers_elsewhere_than_the_index_says() {
    for offset in [1 << 14, 1 << 63, u64::MAX] {
        let refused = open(&with_pool(|pool| {
            change_index(pool, |index| set_carrier_offset(&mut index.entries[2], offset));
        }));
        assert_eq!(refused, Err(tensor_error("two", "its carrier is not where the index says")));
    }
    let overlapping = index_refusal(|index| set_carrier_offset(&mut index.entries[2], 4095));
    assert_eq!(
        overlapping,
        entry_error("two", "its carrier begins before that of the tensor before it ends")
    );
}

#[test]
fn the_pool_header() {
    assert_eq!(bytes_refusal(0, b"UNWEIGHS"), PoolError::Magic);
    assert_eq!(bytes_refusal(8, &[2]), PoolError::Version(2));
    assert_eq!(bytes_refusal(12, &[1]), PoolError::Flags(1));
    assert_eq!(bytes_refusal(55, &[1]), PoolError::Reserved);
    assert_eq!(pool_refusal(|pool| pool[32] ^= 1), PoolError::HeaderChecksum);
    assert_eq!(pool_refusal(|pool| pool[64] ^= 1), PoolError::IndexChecksum);
}

#[test]
fn pools_longer_than_the_carriers() {
    for len in [1u64 << 20, u64::MAX] {
        for at in [16, 24] {
            let refused = bytes_refusal(at, &len.to_le_bytes());
            assert!(matches!(refused, PoolError::Truncated { what: "the pool", .. }), "{refused}");
        }
    }
    assert_eq!(bytes_refusal(16, &200u64.to_le_bytes()), PoolError::Extent { what: "the index".to_owned() });
}

#[test]
fn pools_that_end_in_their_header() {
    let file = with_pool(|_| ());
    let pool = Converted::open(Gguf::parse(&file).unwrap()).unwrap().pool;
    for available in [0, 7, 8, 12, 63] {
        let refused = Index::parse(&pool[..available as usize]).map(|_| ());
        let what = "the pool header";
        assert_eq!(refused, Err(PoolError::Truncated { what, needed: 64, available }));
    }
}

#[test]
fn counts_that_differ_from_the_entries() {
    assert_eq!(bytes_refusal(32, &[4]), PoolError::EntryTruncated(3));
    assert_eq!(bytes_refusal(32, &[0xFF; 4]), PoolError::EntryTruncated(3));
    let refused = bytes_refusal(32, &[2]);
    assert!(matches!(refused, PoolError::IndexLength(_)), "{refused}");
    assert_eq!(bytes_refusal(36, &[3]), PoolError::Carriers { listed: 2, said: 3 });
}

#[test]
fn counts_that_the_index_has_not_earned_cost_nothing() {
    let mut pool = vec![0; 4 << 20];
    let header = PoolHeader {
        pool_len: pool.len() as u64,
        index_len: pool.len() as u64 - 64,
        tensors: u32::MAX,
        carriers: 0,
        index_xxh3: xxh3_64(&pool[64..]),
    };
    pool[..64].copy_from_slice(&header.to_bytes());
    let (result, bytes) = peak(|| Index::parse(&pool).map(|_| ()));
    assert!(result.is_err());
    assert!(bytes < 16 << 10, "{bytes} bytes allocated for {result:?}");
}

#[test]
fn indexes_that_end_early() {
    let refused = |len: u64| bytes_refusal(24, &len.to_le_bytes());
    assert_eq!(refused(79), PoolError::Truncated { what: "the index", needed: 80, available: 79 });
    assert_eq!(refused(80), PoolError::EntryTruncated(0));
    assert_eq!(refused(80 + 60), PoolError::EntryTruncated(1));
}

/// The first entry: a length, "norm", type, one dimension, offset, length, checksum, encoding.
const ENTRY: usize = 64 + 80;

#[test]
fn names() {
    assert_eq!(bytes_refusal(ENTRY + 4, &[0xFF]), PoolError::Name(0));
    assert_eq!(bytes_refusal(ENTRY, &[0xFF; 4]), PoolError::EntryTruncated(0));
    let twice = index_refusal(|index| index.entries[0].name = "one".to_owned());
    assert_eq!(twice, PoolError::Duplicate("one".to_owned()));
}

#[test]
fn types_and_shapes() {
    assert_eq!(bytes_refusal(ENTRY + 8, &[31]), entry_error("norm", "an unknown type"));
    for count in [0, 5] {
        let refused = bytes_refusal(ENTRY + 12, &[count]);
        assert_eq!(refused, entry_error("norm", "a number of dimensions other than 1 to 4"));
    }
    let contradiction = entry_error("norm", "its length contradicts its type and shape");
    assert_eq!(index_refusal(|index| index.entries[0].len += 1), contradiction);
    assert_eq!(
        index_refusal(|index| index.entries[0].dims = Dims::new(&[1 << 63, 2]).unwrap()),
        contradiction
    );
}

#[test]
fn places_in_the_original() {
    let overlap = index_refusal(|index| index.entries[1].offset = 64);
    assert_eq!(overlap, entry_error("one", "its original bytes overlap those of another tensor"));
    let beyond = entry_error("two", "its original bytes lie beyond the end of the original");
    assert_eq!(index_refusal(|index| index.entries[2].offset = 1 << 60), beyond);
    assert_eq!(index_refusal(|index| index.original_len = 10_000), beyond);
    let overflow = index_refusal(|index| index.entries[2].offset = u64::MAX - 31);
    assert_eq!(overflow, entry_error("two", "its extent overflows"));
}

#[test]
fn places_in_the_pool() {
    let refused = |name: &str| PoolError::Extent { what: format!("the blob of tensor {name:?}") };
    let set = |i: usize, offset, len| {
        index_refusal(|index| *extent_of(&mut index.entries[i]) = Extent { offset, len })
    };
    for (offset, len) in [(0, 1), (64, 1), (1 << 20, 0), (u64::MAX, 1), (1000, u64::MAX)] {
        assert_eq!(set(1, offset, len), refused("one"));
    }
    // Behind the index, but in the blob before.
    assert_eq!(set(2, 1024, 64), refused("two"));

    for extent in
        [Extent { offset: 1024, len: 64 }, Extent { offset: 1 << 20, len: 64 }, Extent { offset: 0, len: 1 }]
    {
        let remainder = index_refusal(|index| index.remainder = Some(Remainder { extent, xxh3: 1 }));
        assert_eq!(remainder, PoolError::Extent { what: "the remainder".to_owned() });
    }
}
