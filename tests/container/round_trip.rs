//! Whatever is accepted can be converted and comes back.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use unweight::codec::{Encoding, Number};
use unweight::container::converted::{Converted, is_converted};
use unweight::container::gguf::{Gguf, TensorType};
use unweight::container::layout::LayoutError;
use unweight::container::number;
use unweight::container::rooms::{Stored, is_carrier_type};

use crate::conversion::{Coding, PALETTE8, convert, restore, rooms};
use crate::file::{ARRAY, File, SCALARS, STRING, Tensor, Value};

/// A file, and how each tensor is coded that is.
type Case = (File, Vec<Option<Coding>>);

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
    let alignment = prop::option::of(select(&[1u32, 2, 8, 16, 32, 64, 128, 4096, 65536][..]));
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

fn tensor() -> impl Strategy<Value = (Tensor, Option<Coding>)> {
    let ty = prop_oneof![
        4 => Just(TensorType::BF16), 1 => Just(TensorType::F16), 1 => Just(TensorType::F32), 6 => select(types()),
    ];
    let coding = (prop::option::weighted(0.7, any::<Index>()), prop::bool::weighted(0.2));
    let rows = prop::collection::vec(prop_oneof![1 => 0u64..2, 9 => 1u64..6], 0..4);
    // Widths and vocabularies of real models that are no multiples of 64.
    let k = prop_oneof![8 => 1u64..90, 1 => select(&[200u64, 515][..])];
    (ty, 0u64..4, rows, k, any::<u64>(), coding, prop::bool::weighted(0.05)).prop_map(
        |(ty, blocks, rows, k, seed, coding, is_number)| {
            let row = if number(ty).is_some() { k } else { blocks * ty.block() };
            let dims = if is_number && ty.block() == 1 { vec![] } else { [&[row], &rows[..]].concat() };
            let tensor = Tensor::new("", ty, &dims, seed);
            // Those that any weights of this type fit.
            let stored_so = |encoding: &Encoding| Some(encoding.stored()) == number(ty);
            let encodings: Vec<_> = Encoding::ALL.into_iter().filter(stored_so).collect();
            let fit = !encodings.is_empty() && !tensor.data.is_empty();
            let (encoding, optional) = coding;
            let encoding =
                encoding.filter(|_| fit).map(|encoding| encodings[encoding.index(encodings.len())]);
            (tensor, encoding.map(|encoding| Coding { encoding, optional }))
        },
    )
}

const MOST_TENSORS: usize = 9;

fn cases() -> impl Strategy<Value = Case> {
    let order = Just((0..MOST_TENSORS).collect::<Vec<_>>()).prop_shuffle();
    let gaps = prop::collection::vec(prop_oneof![3 => Just(0), 1 => 1u64..3], MOST_TENSORS);
    let filler = select(&[0u8, 0xA5][..]);
    // Tiny tensors grow, and carriers are not limitless: mostly, a larger one makes room.
    let shape = select(&[[128u64, 100], [200, 64], [64, 515]][..]);
    let large = (shape, any::<u64>(), prop::bool::weighted(0.9)).prop_map(|(shape, seed, coded)| {
        let tensor = Tensor::new("", TensorType::BF16, &shape, seed);
        (String::new(), (tensor, coded.then_some(PALETTE8)))
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
            let (tensors, codings): (Vec<_>, _) = tensors
                .into_iter()
                .enumerate()
                // A name of its own for each.
                .map(|(i, (name, (tensor, coding)))| {
                    (Tensor { name: format!("{name}{i}"), ..tensor }, coding)
                })
                .unzip();
            let order = order.into_iter().filter(|&i| i < tensors.len()).zip(gaps).collect::<Vec<_>>();
            let mut file = File { version, kv, tensors, filler, trailing };
            file.place(&order);
            (file, codings)
        },
    )
}

/// Files that are accepted.
pub fn any_file() -> impl Strategy<Value = File> {
    cases().prop_map(|(file, _)| file)
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

fn check_converted(file: &File, codings: &[Option<Coding>], bytes: &[u8]) {
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
    check_order(file, codings, &gguf);

    let converted = Converted::open(gguf, &[]).unwrap();
    let index = converted.untouched().unwrap();
    let positions: Vec<_> = rooms(bytes).into_iter().map(|room| room.start as u64).collect();
    assert_eq!(positions.len(), index.rooms.len());
    let is_optional = |tensor: u32| codings[tensor as usize].is_some_and(|coding| coding.optional);
    let only_optional = codings.iter().flatten().all(|coding| coding.optional);
    for room in &index.rooms {
        assert!(only_optional || !is_optional(room.carrier), "a room that may be missing");
    }
    for ((entry, coding), tensor) in index.entries.iter().zip(codings).zip(&file.tensors) {
        let Stored::Coded { encoding, pieces } = &entry.stored else {
            let found = converted.gguf.tensor(&entry.name).unwrap();
            assert_eq!((*coding, converted.gguf.bytes(found)), (None, &tensor.data[..]));
            continue;
        };
        let coding = coding.unwrap();
        assert_eq!(coding.encoding.id(), *encoding);
        for piece in pieces {
            assert_eq!((positions[piece.room as usize] + piece.offset) % 64, 0);
        }
    }
}

/// Plain tensors, then carriers, those last behind which the next would not begin at a multiple of 64.
fn check_order(file: &File, codings: &[Option<Coding>], gguf: &Gguf) {
    let coded = |name: &str| {
        let at = file.tensors.iter().position(|tensor| tensor.name == name).unwrap();
        (codings[at].is_some(), at)
    };
    let order: Vec<_> = gguf
        .tensors
        .iter()
        .map(|tensor| {
            let (coded, at) = coded(tensor.name);
            assert!(!coded || is_carrier_type(tensor.ty), "{} is of type {}", tensor.name, tensor.ty);
            if coded && tensor.len.is_multiple_of(64) {
                assert_eq!(gguf.position(tensor) % 64, 0, "the home of {}", tensor.name);
            }
            (coded, coded && !tensor.len.is_multiple_of(64), at)
        })
        .collect();
    assert!(order.is_sorted(), "{order:?}");
}

/// Whether it is true that carriers cannot hold all: at their widest, those that are always there have fewer bytes than all need, or none
/// has space for the index.
fn is_too_small(file: &File, codings: &[Option<Coding>]) -> bool {
    // Of a piece, besides its codes and escapes.
    const OVERHEAD: usize = 64 + 3 * 63;
    let tensors = || file.tensors.iter().zip(codings);
    let coded = || tensors().filter_map(|(tensor, coding)| Some((tensor, (*coding)?)));
    let only_optional = coded().all(|(_, coding)| coding.optional);
    let entries: usize =
        file.tensors.iter().map(|tensor| 44 + tensor.name.len() + 8 * tensor.dims.len()).sum();
    let index = 120 + entries + (20 + 4 + 2 * 28) * coded().count();
    let between =
        file.trailing + file.header().len().next_multiple_of(file.alignment() as usize).min(1 << 10);
    let others = index + between + OVERHEAD;
    // Codes of at most 4 bits, and an escape for about a sixteenth of the weights; of F16, 3 raw bits, of F32, 16 beside.
    let eighths = |coding: &Coding| match coding.encoding.stored() {
        Number::Bf16 => 5,
        Number::F16 => 7,
        Number::F32 => 5 + 16,
    };
    let weights = |tensor: &Tensor| tensor.dims.iter().product::<u64>() as usize;
    // What is left at the end of a room may be too small for a segment.
    let segments = coded().map(|(tensor, coding)| weights(tensor).min(4096) * (eighths(&coding) + 3) / 8);
    let segment = segments.max().unwrap_or(0);
    let (mut space, mut largest, mut need) = (0, 0, others);
    for (tensor, coding) in coded() {
        let weights = weights(tensor);
        need += weights * eighths(&coding) / 8 + OVERHEAD;
        if only_optional || !coding.optional {
            largest = largest.max(7 * weights);
            space += (7 * weights).saturating_sub(64 + 63 + OVERHEAD + segment);
        }
    }
    space < need || largest < 64 + others
}

proptest! {
    #[test]
    fn any_file_comes_back((file, codings) in cases()) {
        let original = file.to_bytes();
        check_parsed(&file, &original);
        match convert(&original, &codings) {
            Ok(converted) => {
                check_converted(&file, &codings, &converted);
                prop_assert!(restore(&converted).unwrap() == original);
            }
            Err(LayoutError::NothingToCompress) => prop_assert!(codings.iter().all(Option::is_none)),
            Err(LayoutError::TooSmall) => prop_assert!(is_too_small(&file, &codings)),
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}

#[test]
fn every_tensor_type_passes() {
    let mut tensors: Vec<_> =
        types().into_iter().map(|ty| Tensor::new(ty.name(), ty, &[256, 3], u64::from(ty.id()))).collect();
    let codings: Vec<_> =
        tensors.iter().map(|tensor| (tensor.ty == TensorType::BF16.id()).then_some(PALETTE8)).collect();
    // The data in the reverse order of the infos.
    tensors.reverse();
    let mut file = File::of(tensors);
    file.tensors.reverse();
    let original = file.to_bytes();
    check_parsed(&file, &original);
    assert_eq!(restore(&convert(&original, &codings).unwrap()).unwrap(), original);
}

#[test]
fn many_tensors_pass() {
    let tiny = (0..3000).map(|i| Tensor::new(&i.to_string(), TensorType::BF16, &[61 + i % 7, 4], i));
    // None of them has space for the index.
    let large = Tensor::new("large", TensorType::BF16, &[512, 512], 1);
    let tensors: Vec<_> = tiny.chain([large]).collect();
    let codings = vec![Some(PALETTE8); tensors.len()];
    let original = File::of(tensors).to_bytes();
    assert_eq!(restore(&convert(&original, &codings).unwrap()).unwrap(), original);
}
