//! Files that are no GGUF, one test per cause.

use unweight::container::gguf::{Gguf, GgufError, TensorType};

use crate::file::{ARRAY, File, STRING, Tensor, Value, string};
use crate::memory::peak;

fn refusal(bytes: &[u8]) -> GgufError {
    Gguf::parse(bytes).expect_err("a malformed file")
}

/// Why a file with this one tensor, changed so, is refused.
fn tensor_refusal(change: impl FnOnce(&mut Tensor)) -> GgufError {
    let mut file = File::of(vec![Tensor::new("w", TensorType::BF16, &[4, 3], 1)]);
    change(&mut file.tensors[0]);
    refusal(&file.to_bytes())
}

fn value_refusal(value: Value) -> GgufError {
    refusal(&File::of(vec![]).with_kv("k", value).to_bytes())
}

fn key_error(key: &str, what: &'static str) -> GgufError {
    GgufError::Key { key: key.to_owned(), what }
}

/// The first 24 bytes of a file.
fn counts(version: u32, tensors: u64, kv: u64) -> Vec<u8> {
    [&b"GGUF"[..], &version.to_le_bytes(), &tensors.to_le_bytes(), &kv.to_le_bytes()].concat()
}

#[test]
fn magic() {
    assert_eq!(refusal(b""), GgufError::Magic);
    assert_eq!(refusal(b"GGU"), GgufError::Magic);
    assert_eq!(refusal(b"GGML\x03\0\0\0"), GgufError::Magic);
}

#[test]
fn big_endian() {
    assert_eq!(refusal(b"GGUF\0\0\0\x03"), GgufError::BigEndian);
}

#[test]
fn version() {
    for version in [0, 1, 4, u32::MAX] {
        assert_eq!(refusal(&counts(version, 0, 0)), GgufError::Version(version));
    }
}

#[test]
fn counts_that_no_file_can_have() {
    for count in [1, 1 << 60, u64::MAX] {
        let metadata = GgufError::Truncated { what: "the metadata", at: 24 };
        assert_eq!(refusal(&counts(3, 0, count)), metadata);
        let info = GgufError::Truncated { what: "a tensor info", at: 24 };
        assert_eq!(refusal(&counts(3, count, 0)), info);
    }
}

#[test]
fn counts_that_the_file_has_not_earned_cost_nothing() {
    let array = |item: u32| {
        [&counts(3, 0, 1)[..], &string("k"), &ARRAY.to_le_bytes(), &item.to_le_bytes(), &[0xFF; 8]].concat()
    };
    for start in [counts(3, 0, 1 << 60), counts(3, 1 << 60, 0), array(0), array(STRING), array(ARRAY)] {
        let mut file = start;
        file.resize(4 << 20, 0);
        let (result, bytes) = peak(|| Gguf::parse(&file).map(|_| ()));
        assert!(result.is_err());
        assert!(bytes < 16 << 10, "{bytes} bytes allocated for {result:?}");
    }
}

/// Of a size that the file would have earned.
#[test]
fn more_keys_and_tensors_than_any_model_has() {
    let key = |i: u32| [&string(&format!("{i:x}"))[..], &0u32.to_le_bytes(), &[0]].concat();
    let keys = |count: u32| {
        let all: Vec<u8> = (0..count).flat_map(key).collect();
        Gguf::parse(&[counts(3, 0, count.into()), all].concat()).map(|_| ())
    };
    assert_eq!(keys(1 << 16), Ok(()));
    let many = GgufError::TooMany { what: "metadata keys", count: (1 << 16) + 1 };
    assert_eq!(keys((1 << 16) + 1), Err(many));
    let info = |i: u32| {
        [&string(&format!("{i:x}"))[..], &0u32.to_le_bytes(), &24u32.to_le_bytes(), &[0; 8]].concat()
    };
    let infos: Vec<u8> = (0..=1 << 16).flat_map(info).collect();
    let many = GgufError::TooMany { what: "tensors", count: (1 << 16) + 1 };
    assert_eq!(refusal(&[counts(3, (1 << 16) + 1, 0), infos].concat()), many);
}

#[test]
fn lengths_of_strings() {
    for len in [100, 1 << 63, u64::MAX] {
        let key = [&counts(3, 0, 1)[..], &len.to_le_bytes(), b"ke"].concat();
        assert_eq!(refusal(&key), GgufError::Truncated { what: "the metadata", at: 24 });
        let value = Value::Scalar(STRING, [&len.to_le_bytes()[..], b"ab"].concat());
        assert_eq!(value_refusal(value), key_error("k", "the file ends inside its value"));
        let name = [&counts(3, 1, 0)[..], &len.to_le_bytes(), b"ab"].concat();
        assert_eq!(refusal(&name), GgufError::Truncated { what: "a tensor info", at: 24 });
    }
}

#[test]
fn lengths_of_arrays() {
    for (item, count) in [(0, 1 << 40), (12, 1 << 61), (12, u64::MAX), (STRING, 1 << 60), (ARRAY, u64::MAX)] {
        let value = Value::Scalar(ARRAY, [&u32::to_le_bytes(item)[..], &u64::to_le_bytes(count)].concat());
        assert_eq!(value_refusal(value), key_error("k", "the file ends inside its value"));
    }
}

#[test]
fn nested_arrays() {
    let nested = |depth: usize| {
        let level = [&ARRAY.to_le_bytes()[..], &1u64.to_le_bytes()].concat();
        let innermost = [0; 12];
        Value::Scalar(ARRAY, [&level.repeat(depth - 1)[..], &innermost].concat())
    };
    assert!(Gguf::parse(&File::of(vec![]).with_kv("k", nested(8)).to_bytes()).is_ok());
    for depth in [9, 100_000] {
        assert_eq!(value_refusal(nested(depth)), key_error("k", "arrays nested too deep"));
    }
}

#[test]
fn value_types() {
    for ty in [13, u32::MAX] {
        let unknown = GgufError::ValueType { key: "k".to_owned(), ty };
        assert_eq!(value_refusal(Value::Scalar(ty, vec![0; 16])), unknown);
        assert_eq!(value_refusal(Value::Array(ty, vec![])), unknown);
    }
}

#[test]
fn text_that_is_not_utf8() {
    let bad = [&1u64.to_le_bytes()[..], &[0xFF; 40]].concat();
    assert_eq!(refusal(&[counts(3, 0, 1), bad.clone()].concat()), GgufError::KeyEncoding { at: 24 });
    assert_eq!(refusal(&[counts(3, 1, 0), bad].concat()), GgufError::TensorName { at: 24 });
}

#[test]
fn duplicate_keys() {
    let file = File::of(vec![]).with_kv("k", Value::u32(1)).with_kv("k", Value::u32(1));
    assert_eq!(refusal(&file.to_bytes()), GgufError::DuplicateKey("k".to_owned()));
}

#[test]
fn duplicate_tensors() {
    let tensor = Tensor::new("w", TensorType::F32, &[4], 1);
    let file = File::of(vec![tensor.clone(), tensor]);
    assert_eq!(refusal(&file.to_bytes()), GgufError::DuplicateTensor("w".to_owned()));
}

#[test]
fn alignment() {
    let with = |value| {
        let file = File::of(vec![Tensor::new("w", TensorType::F32, &[4], 1)]);
        let bytes = file.to_bytes();
        refusal(&[&file.with_kv("general.alignment", value).header(), &bytes[..]].concat())
    };
    for alignment in [0, 3, 48, u32::MAX] {
        assert_eq!(with(Value::u32(alignment)), GgufError::Alignment(alignment.into()));
    }
    for value in [Value::Scalar(10, 32u64.to_le_bytes().into()), Value::String("32".to_owned())] {
        assert_eq!(with(value), key_error("general.alignment", "not an unsigned 32-bit integer"));
    }
    let beyond = with(Value::u32(1 << 31));
    assert!(matches!(beyond, GgufError::TensorBeyondEnd { start: 0x8000_0000, .. }), "{beyond}");
}

#[test]
fn offsets_off_the_alignment() {
    let unaligned = GgufError::Unaligned { name: "w".to_owned(), offset: 8, alignment: 32 };
    assert_eq!(tensor_refusal(|w| w.offset = 8), unaligned);
}

#[test]
fn tensors_beyond_the_end() {
    let file = File::of(vec![Tensor::new("w", TensorType::BF16, &[4, 3], 1)]);
    let bytes = file.to_bytes();
    let len = bytes.len() as u64 - 1;
    let beyond =
        GgufError::TensorBeyondEnd { name: "w".to_owned(), start: len - 23, end: u128::from(len) + 1, len };
    assert_eq!(refusal(&bytes[..len as usize]), beyond);
}

#[test]
fn offsets_beyond_64_bits() {
    let far = u64::MAX - 31;
    for dims in [[1, 1], [0, 1]] {
        let mut file = File::of(vec![Tensor::new("w", TensorType::F32, &dims, 1)]);
        file.tensors[0].data.clear();
        file.tensors[0].offset = far;
        let refused = refusal(&file.to_bytes());
        assert!(matches!(refused, GgufError::TensorBeyondEnd { .. }), "{refused}");
    }
}

#[test]
fn overlapping_tensors() {
    let tensor = |name| Tensor::new(name, TensorType::BF16, &[32, 2], 1);
    let mut file = File::of(vec![tensor("a"), tensor("b")]);
    file.tensors[0].offset = 128 + 32;
    let overlap = GgufError::Overlap { first: "b".to_owned(), second: "a".to_owned() };
    assert_eq!(refusal(&file.to_bytes()), overlap);
}

#[test]
fn numbers_of_dimensions() {
    for dims in [vec![1; 5], vec![1; 1000]] {
        let count = dims.len() as u32;
        let refused = GgufError::Dimensions { name: "w".to_owned(), count };
        assert_eq!(tensor_refusal(|w| w.dims = dims), refused);
    }
}

#[test]
fn impossible_shapes() {
    let q4_k = TensorType::from_id(12).unwrap();
    for (ty, dims) in [
        (TensorType::BF16, vec![1 << 63]),
        (TensorType::BF16, vec![1 << 32, 1 << 32]),
        (TensorType::I8, vec![1 << 16, 1 << 16, 1 << 16, 1 << 16]),
        (TensorType::F32, vec![u64::MAX, u64::MAX, u64::MAX, u64::MAX]),
        (q4_k, vec![255, 256]),
    ] {
        let refused = GgufError::Shape { name: "w".to_owned(), dims: dims.clone(), ty: ty.name() };
        assert_eq!(tensor_refusal(|w| (w.ty, w.dims) = (ty.id(), dims)), refused);
    }
}

#[test]
fn tensor_types_that_ggml_does_not_have() {
    for id in [4, 5, 31, 38, 44, u32::MAX] {
        let refused = GgufError::TensorType { name: "w".to_owned(), id };
        assert_eq!(tensor_refusal(|w| w.ty = id), refused);
    }
}
