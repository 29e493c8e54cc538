//! Whatever is accepted can be converted and comes back.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use unweight::codec::Encoding;
use unweight::container::converted::{Converted, is_converted};
use unweight::container::gguf::{Gguf, TensorType};
use unweight::container::layout::LayoutError;
use unweight::container::pool::Stored;

use crate::conversion::{convert, restore};
use crate::file::{ARRAY, File, SCALARS, STRING, Tensor, Value};

/// A file, and an encoding for each tensor that gets one.
type Case = (File, Vec<Option<Encoding>>);

pub fn types() -> Vec<TensorType> {
    (0..100).filter_map(TensorType::from_id).collect()
}

fn values() -> impl Strategy<Value = Value> {
    let scalar = select(&SCALARS[..]).prop_flat_map(|(ty, bytes)| {
        prop::collection::vec(any::<u8>(), bytes).prop_map(move |bytes| Value::Scalar(ty, bytes))
    });
    let scalars = (select(&SCALARS[..]), 0usize..20, any::<u8>()).prop_map(|((ty, bytes), n, fill)| {
        Value::Array(ty, (0..n).map(|_| Value::Scalar(ty, vec![fill; bytes])).collect())
    });
    let strings = prop::collection::vec(".{0,9}", 0..5)
        .prop_map(|s| Value::Array(STRING, s.into_iter().map(Value::String).collect()));
    let leaf = prop_oneof![scalar, ".{0,20}".prop_map(Value::String), scalars.clone(), strings.clone()];
    let nested = prop_oneof![scalars, strings].prop_recursive(4, 16, 4, |inner| {
        prop::collection::vec(inner, 0..4).prop_map(|items| Value::Array(ARRAY, items))
    });
    prop_oneof![3 => leaf, 1 => nested]
}

fn kv() -> impl Strategy<Value = Vec<(String, Value)>> {
    let alignment = prop::option::of(select(&[1u32, 2, 8, 16, 32, 64, 4096][..]));
    (prop::collection::btree_map(".{0,12}", values(), 0..8), alignment, any::<Index>()).prop_map(
        |(pairs, alignment, at)| {
            let mut kv: Vec<_> = pairs.into_iter().rev().collect();
            if let Some(alignment) = alignment {
                kv.insert(at.index(kv.len() + 1), ("general.alignment".to_owned(), Value::u32(alignment)));
            }
            kv
        },
    )
}

fn tensor() -> impl Strategy<Value = (Tensor, Option<Encoding>)> {
    let ty = prop_oneof![Just(TensorType::BF16), select(types())];
    let encoding = select(&[None, Some(Encoding::Bf16Palette8), Some(Encoding::Bf16Palette16)][..]);
    let dims = (0u64..4, prop::collection::vec(prop_oneof![1 => 0u64..2, 9 => 1u64..6], 0..4));
    (ty, dims, 1u64..90, any::<u64>(), encoding).prop_map(|(ty, (blocks, rest), k, seed, encoding)| {
        let row = if ty == TensorType::BF16 { k } else { blocks * ty.block() };
        let tensor = Tensor::new("", ty, &[&[row], &rest[..]].concat(), seed);
        let fit = ty == TensorType::BF16 && !tensor.data.is_empty();
        (tensor, encoding.filter(|_| fit))
    })
}

const MOST_TENSORS: usize = 9;

fn cases() -> impl Strategy<Value = Case> {
    let order = Just((0..MOST_TENSORS).collect::<Vec<_>>()).prop_shuffle();
    let gaps = prop::collection::vec(prop_oneof![3 => Just(0), 1 => 1u64..3], MOST_TENSORS);
    let filler = select(&[0u8, 0xA5][..]);
    // Tiny tensors grow, and carriers are not limitless: mostly, a larger one makes room.
    let large = (any::<u64>(), prop::bool::weighted(0.9)).prop_map(|(seed, coded)| {
        let tensor = Tensor::new("", TensorType::BF16, &[128, 100], seed);
        (String::new(), (tensor, coded.then_some(Encoding::Bf16Palette8)))
    });
    let tensors = (
        prop::collection::vec((".{0,20}", tensor()), 0..MOST_TENSORS),
        prop::option::of(large),
        any::<Index>(),
    )
        .prop_map(|(mut tensors, large, at)| {
            let at = at.index(tensors.len() + 1);
            tensors.splice(at..at, large);
            tensors
        });
    (2u32..4, kv(), tensors, order, gaps, filler, 0usize..80).prop_map(
        |(version, kv, tensors, order, gaps, filler, trailing)| {
            let (tensors, encodings): (Vec<_>, _) = tensors
                .into_iter()
                .enumerate()
                // A name of its own for each.
                .map(|(i, (name, (tensor, encoding)))| {
                    (Tensor { name: format!("{name}{i}"), ..tensor }, encoding)
                })
                .unzip();
            let order = order.into_iter().filter(|&i| i < tensors.len()).zip(gaps).collect::<Vec<_>>();
            let mut file = File { version, kv, tensors, filler, trailing };
            file.place(&order);
            (file, encodings)
        },
    )
}

fn check_parsed(file: &File, bytes: &[u8]) {
    let gguf = Gguf::parse(bytes).unwrap();
    assert_eq!(gguf.version, file.version);
    assert_eq!(gguf.alignment, file.alignment());
    assert_eq!(gguf.metadata_len, file.metadata().len() as u64);
    assert_eq!(gguf.header_len, file.header().len() as u64);
    assert_eq!(gguf.kv.len(), file.kv.len());
    for (parsed, (key, value)) in gguf.kv.iter().zip(&file.kv) {
        let text = if let Value::String(text) = value { Some(text.as_str()) } else { None };
        assert_eq!((parsed.key, parsed.ty, parsed.as_str()), (key.as_str(), value.ty(), text));
        assert_eq!(parsed.value, value.to_bytes());
    }
    assert_eq!(gguf.tensors.len(), file.tensors.len());
    for (parsed, tensor) in gguf.tensors.iter().zip(&file.tensors) {
        assert_eq!(
            (parsed.name, parsed.ty.id(), parsed.offset),
            (tensor.name.as_str(), tensor.ty, tensor.offset)
        );
        assert_eq!(parsed.dims.as_slice(), tensor.dims);
        assert_eq!(gguf.bytes(gguf.tensor(&tensor.name).unwrap()), tensor.data);
    }
}

fn check_converted(file: &File, encodings: &[Option<Encoding>], bytes: &[u8]) {
    let gguf = Gguf::parse(bytes).unwrap();
    assert!(is_converted(&gguf));
    assert_eq!(gguf.version, file.version);
    // llama.cpp wants every tensor right behind the one before.
    let mut end = 0;
    for tensor in &gguf.tensors {
        assert_eq!(tensor.offset, end, "{}", tensor.name);
        end = (end + tensor.len).next_multiple_of(gguf.alignment);
    }
    let original = file.metadata();
    let kept = &original[24..];
    assert_eq!(&bytes[24..24 + kept.len()], kept, "the original's keys come first, as they were");

    let converted = Converted::open(gguf).unwrap();
    assert!(converted.metadata_untouched());
    for ((entry, encoding), tensor) in converted.index.entries.iter().zip(encodings).zip(&file.tensors) {
        match entry.stored {
            Stored::Plain => assert_eq!((*encoding, converted.declared(entry)), (None, &tensor.data[..])),
            Stored::Blob { encoding: id, extent, .. } => {
                assert_eq!(encoding.map(Encoding::id), Some(id));
                assert_eq!((converted.pool_position + extent.offset) % 64, 0);
            }
        }
    }
}

proptest! {
    #[test]
    fn any_file_comes_back((file, encodings) in cases()) {
        let original = file.to_bytes();
        check_parsed(&file, &original);
        match convert(&original, &encodings) {
            Ok(converted) => {
                check_converted(&file, &encodings, &converted);
                prop_assert_eq!(restore(&converted).unwrap(), original);
            }
            Err(LayoutError::NothingToCompress) => prop_assert!(encodings.iter().all(Option::is_none)),
            Err(LayoutError::Carriers(pool)) => {
                let coded = file.tensors.iter().zip(&encodings).filter(|(_, encoding)| encoding.is_some());
                let widest: u64 = coded.map(|(tensor, _)| 8 * tensor.data.len() as u64 / 2).sum();
                prop_assert!(widest < pool, "{} bytes could hold {}", widest, pool);
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}

#[test]
fn every_tensor_type_passes() {
    let mut tensors: Vec<_> =
        types().into_iter().map(|ty| Tensor::new(ty.name(), ty, &[256, 3], u64::from(ty.id()))).collect();
    let encodings: Vec<_> =
        tensors.iter().map(|t| (t.ty == TensorType::BF16.id()).then_some(Encoding::Bf16Palette8)).collect();
    // The data in the reverse order of the infos.
    tensors.reverse();
    let mut file = File::of(tensors);
    file.tensors.reverse();
    let original = file.to_bytes();
    check_parsed(&file, &original);
    assert_eq!(restore(&convert(&original, &encodings).unwrap()).unwrap(), original);
}

#[test]
fn many_tensors_pass() {
    let tensors: Vec<_> =
        (0..3000).map(|i| Tensor::new(&i.to_string(), TensorType::BF16, &[61 + i % 7, 4], i)).collect();
    let original = File::of(tensors).to_bytes();
    let encodings = vec![Some(Encoding::Bf16Palette8); 3000];
    assert_eq!(restore(&convert(&original, &encodings).unwrap()).unwrap(), original);
}
