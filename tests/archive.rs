//! The codes of archives: what goes in comes out, on every instruction set, and damage does no harm.

use std::sync::Mutex;

use proptest::prelude::*;
use unweight::archive::{Encoder, Error, Model, oracle, planes};
use unweight::codec::Number;
use unweight::kernel::Isa;

/// The instruction set is chosen for the whole process: one test at a time.
static ISA: Mutex<()> = Mutex::new(());

fn for_each_isa(mut test: impl FnMut(Isa)) {
    let _guard = ISA.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    for isa in Isa::ALL {
        if isa.available() {
            assert!(isa.select());
            test(isa);
        }
    }
}

fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 16
    }
}

/// What weights may be.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Weights {
    /// Any bits.
    Wild,
    /// As training leaves them: rows and columns of different scales.
    Trained,
    /// The same, with any bits here and there.
    Spoiled,
    Equal,
    Alternating,
    /// Few values at the edges: zeros, subnormals, infinities, NaNs.
    Edges,
}

const ALL: [Weights; 6] =
    [Weights::Wild, Weights::Trained, Weights::Spoiled, Weights::Equal, Weights::Alternating, Weights::Edges];

const EDGES: [u32; 9] =
    [0, 1, 0x007F_FFFF, 0x0080_0000, 0x7F7F_FFFF, 0x7F80_0000, 0x7FC0_0001, 0xFF80_0001, 0xFFFF_FFFF];

fn single(next: &mut impl FnMut() -> u64, weights: Weights, row: usize, column: usize) -> u32 {
    let bits = next();
    let wild = next() as u32 ^ (bits << 7) as u32;
    match weights {
        Weights::Wild => wild,
        Weights::Spoiled if bits.is_multiple_of(97) => wild,
        Weights::Trained | Weights::Spoiled => {
            let sum: f32 = (0..6).map(|_| (next() & 0xFFFF) as f32 / 65536.0).sum::<f32>() - 3.0;
            let scale = [1.0, 1.3, 0.6, 2.1, 0.25][row % 5] * [1.0, 0.7, 1.9][column % 3];
            (sum * scale * 0.03).to_bits()
        }
        Weights::Equal => 0x3F80_1234,
        Weights::Alternating => [0x3F80_1234, 0xBA12_3456][(row + column) % 2],
        Weights::Edges => EDGES[bits as usize % 9],
    }
}

fn tensor(number: Number, weights: Weights, k: usize, rows: usize) -> Vec<u8> {
    let mut next = random((k * 31 + rows) as u64);
    let places = (0..rows).flat_map(|row| (0..k).map(move |column| (row, column)));
    let weight = |(row, column)| {
        let single = single(&mut next, weights, row, column);
        match number {
            Number::F32 => single.to_le_bytes().to_vec(),
            Number::Bf16 => ((single >> 16) as u16).to_le_bytes().to_vec(),
            Number::F16 if matches!(weights, Weights::Trained | Weights::Spoiled) => {
                half::f16::from_f32(f32::from_bits(single)).to_le_bytes().to_vec()
            }
            Number::F16 => ((single >> 13) as u16).to_le_bytes().to_vec(),
        }
    };
    places.flat_map(weight).collect()
}

/// Chunks of `chunk` rows, on every instruction set; what the oracle says; the model from its bytes.
fn check(number: Number, k: usize, bytes: &[u8], chunk: usize) {
    let row = k * number.bytes() as usize;
    let mut coded: Option<(Vec<u8>, Vec<Vec<u8>>)> = None;
    for_each_isa(|isa| {
        let encoder = Encoder::learn(number, k, bytes, false).unwrap();
        let model = encoder.model().to_bytes();
        let chunks: Vec<Vec<u8>> =
            bytes.chunks(chunk * row).map(|rows| encoder.encode(rows).unwrap()).collect();
        let (model, chunks) = match &coded {
            None => coded.insert((model, chunks)),
            Some(first) => {
                assert!(*first == (model, chunks), "{} codes otherwise", isa.name());
                first
            }
        };
        let bytes_of_model = model;
        let model = Model::from_bytes(number, k, bytes_of_model).unwrap();
        assert_eq!(model.to_bytes(), *bytes_of_model);
        for (rows, coded) in bytes.chunks(chunk * row).zip(chunks) {
            let mut out = vec![0xA5; rows.len()];
            model.decode(coded, &mut out).unwrap();
            assert!(out == rows, "{} decodes otherwise", isa.name());
            if isa == Isa::Scalar {
                assert!(oracle::decode(&model, coded, rows.len() / row).unwrap() == rows, "the oracle");
            }
        }
    });
}

#[test]
fn every_kind_of_number_and_weight_comes_back() {
    for number in Number::ALL {
        for weights in ALL {
            for (k, rows) in
                [(1, 1), (1, 300), (3, 65), (63, 64), (64, 130), (65, 63), (384, 200), (4097, 1), (100, 700)]
            {
                check(number, k, &tensor(number, weights, k, rows), 130);
            }
        }
    }
}

#[test]
fn tensors_that_are_only_sampled_come_back() {
    for weights in [Weights::Spoiled, Weights::Wild] {
        check(Number::Bf16, 1024, &tensor(Number::Bf16, weights, 1024, 700), 333);
    }
    check(Number::F32, 700_001, &tensor(Number::F32, Weights::Spoiled, 700_001, 1), 1);
}

#[test]
fn no_rows_at_all() {
    for number in Number::ALL {
        check(number, 7, &[], 1);
        let encoder = Encoder::learn(number, 7, &[], false).unwrap();
        encoder.model().decode(&encoder.encode(&[]).unwrap(), &mut []).unwrap();
    }
}

fn coded(number: Number, weights: Weights, k: usize, rows: usize) -> usize {
    let bytes = tensor(number, weights, k, rows);
    let encoder = Encoder::learn(number, k, &bytes, false).unwrap();
    encoder.model().to_bytes().len() + encoder.encode(&bytes).unwrap().len()
}

#[test]
fn sizes_are_what_is_to_be_expected() {
    // One value: sign and mantissa are all that is left.
    assert!(coded(Number::Bf16, Weights::Equal, 64, 64) < 64 * 64 + 300);
    // A vector of few weights does not grow by tables.
    for number in Number::ALL {
        let plain = 384 * number.bytes() as usize;
        assert!(coded(number, Weights::Trained, 384, 1) < plain * 9 / 10, "{number:?}");
    }
    // Rows and columns of different scales are known by them.
    let bits = coded(Number::Bf16, Weights::Trained, 300, 1000) as f64 * 8.0 / 300_000.0;
    assert!(bits < 10.6, "{bits}");
}

#[test]
fn what_was_not_learnt_is_refused_or_an_escape() {
    let equal = tensor(Number::Bf16, Weights::Equal, 64, 70);
    let encoder = Encoder::learn(Number::Bf16, 64, &equal, false).unwrap();
    for rows in [1, 64, 640] {
        let other = tensor(Number::Bf16, Weights::Alternating, 64, rows);
        assert_eq!(encoder.encode(&other), Err(Error::NotLearnt));
    }
    assert!(matches!(encoder.encode(&equal[1..]), Err(Error::Length { .. })));
    assert!(matches!(Encoder::learn(Number::F32, 3, &[0; 13], false), Err(Error::Length { .. })));
    assert!(matches!(Encoder::learn(Number::F32, 0, &[], false), Err(Error::Length { .. })));
}

/// Every truncation and every flipped bit: an error, or rows of the right length; where the oracle takes it, all give the same.
fn damage(chunk: &[u8], mut decode: impl FnMut(&[u8])) {
    for end in (0..chunk.len()).step_by(if chunk.len() > 4000 { 11 } else { 1 }) {
        decode(&chunk[..end]);
    }
    decode(&[chunk, &[0]].concat());
    let mut damaged = chunk.to_vec();
    // Of long ones, every eleventh.
    for bit in (0..8 * chunk.len()).step_by(if chunk.len() > 4000 { 11 } else { 1 }) {
        damaged[bit / 8] ^= 1 << (bit % 8);
        decode(&damaged);
        damaged[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn damaged_chunks_do_no_harm() {
    for (number, k, rows) in
        [(Number::Bf16, 16, 70), (Number::F16, 30, 3), (Number::F32, 9, 66), (Number::Bf16, 2100, 64)]
    {
        let bytes = tensor(number, Weights::Spoiled, k, rows);
        let encoder = Encoder::learn(number, k, &bytes, false).unwrap();
        let (model, few) = (encoder.model(), if k > 1000 { 2 } else { rows });
        let chunk = encoder.encode(&bytes[..few * k * number.bytes() as usize]).unwrap();
        for_each_isa(|_| {
            let mut refused = 0;
            damage(&chunk, |damaged| {
                let mut out = vec![0; few * k * number.bytes() as usize];
                let ours = model.decode(damaged, &mut out);
                refused += usize::from(ours.is_err());
                if k < 1000 && damaged.len() % 3 == 0 {
                    match oracle::decode(model, damaged, few) {
                        Ok(theirs) => assert!(ours.is_ok() && theirs == out),
                        Err(error) => {
                            assert!(
                                ours.is_err() || error == Error::Range("what fills a bit-plane up"),
                                "{error}"
                            );
                        }
                    }
                }
            });
            assert!(refused >= chunk.len() / 11);
        });
    }
}

#[test]
fn damaged_models_do_no_harm() {
    for (number, k, rows) in [(Number::Bf16, 24, 4000), (Number::F16, 30, 3), (Number::F32, 9, 2000)] {
        let bytes = tensor(number, Weights::Trained, k, rows);
        let encoder = Encoder::learn(number, k, &bytes, false).unwrap();
        let chunk = encoder.encode(&bytes[..bytes.len().min(70 * k * number.bytes() as usize)]).unwrap();
        for_each_isa(|_| {
            damage(&encoder.model().to_bytes(), |damaged| {
                if let Ok(model) = Model::from_bytes(number, k, damaged) {
                    assert_eq!(model.to_bytes(), damaged, "one model, one form");
                    let rows = rows.min(70);
                    let mut out = vec![0; rows * k * number.bytes() as usize];
                    if model.decode(&chunk, &mut out).is_ok() {
                        assert!(oracle::decode(&model, &chunk, rows).unwrap() == out);
                    }
                }
            });
        });
    }
}

/// Records as quantizing makes them: a scale, then small numbers.
fn records(width: usize, n: usize) -> Vec<u8> {
    let mut next = random((width * n) as u64);
    let byte = |i: usize, bits: u64| match i % width {
        0 => bits as u8,
        1 => 0x20 + (bits % 3) as u8,
        _ => ((bits & 0x1F) + (bits >> 5 & 0x1F) + (bits >> 10 & 0x1F)) as u8,
    };
    (0..width * n).map(|i| byte(i, next())).collect()
}

#[test]
fn planes_come_back() {
    for (width, ends) in
        [(1, &[1][..]), (34, &[2, 34]), (17, &[1, 17]), (210, &[128, 192, 208, 210]), (512, &[512])]
    {
        for n in [0, 1, 63, 64, 1000, 7001] {
            let bytes = records(width, n);
            let mut first = None;
            for_each_isa(|isa| {
                let encoder = planes::Encoder::learn(width, ends, &bytes, false).unwrap();
                let chunk = encoder.encode(&bytes).unwrap();
                let model = planes::Model::from_bytes(width, ends, &encoder.model().to_bytes()).unwrap();
                assert_eq!(model.is_raw(), encoder.model().is_raw());
                let mut out = vec![0xA5; bytes.len()];
                model.decode(&chunk, &mut out).unwrap();
                assert!(out == bytes, "{}", isa.name());
                assert!(oracle::decode_planes(&model, &chunk, n).unwrap() == bytes);
                assert_eq!(*first.get_or_insert(chunk.clone()), chunk);
            });
        }
    }
    let model = planes::Encoder::learn(34, &[2, 34], &records(34, 4000), false).unwrap();
    assert!(!model.model().is_raw());
    for ends in [&[][..], &[2], &[2, 2, 34], &[35], &[40, 34]] {
        assert!(planes::Encoder::learn(34, ends, &[], false).is_err());
        assert!(planes::Model::from_bytes(34, ends, &[]).is_err());
    }
}

#[test]
fn damaged_planes_do_no_harm() {
    let bytes = records(34, 300);
    let encoder = planes::Encoder::learn(34, &[2, 34], &bytes, false).unwrap();
    let chunk = encoder.encode(&bytes[..34 * 20]).unwrap();
    for_each_isa(|_| {
        let mut out = vec![0; 34 * 20];
        damage(&chunk, |damaged| {
            let ours = encoder.model().decode(damaged, &mut out);
            match oracle::decode_planes(encoder.model(), damaged, 20) {
                Ok(theirs) => assert!(ours.is_ok() && theirs == out),
                Err(error) => assert!(ours.is_err(), "{error}"),
            }
        });
        damage(&encoder.model().to_bytes(), |damaged| {
            if let Ok(model) = planes::Model::from_bytes(34, &[2, 34], damaged) {
                let _ = model.decode(&chunk, &mut out);
            }
        });
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_shape_comes_back(
        number in prop::sample::select(&Number::ALL[..]),
        weights in prop::sample::select(&ALL[..]),
        k in 1usize..150,
        rows in 1usize..260,
        chunk in 1usize..260,
    ) {
        check(number, k, &tensor(number, weights, k, rows), chunk);
    }

    #[test]
    fn any_bits_come_back(bytes in prop::collection::vec(any::<u8>(), 0..3000), k in 1usize..40) {
        for number in Number::ALL {
            let row = k * number.bytes() as usize;
            check(number, k, &bytes[..bytes.len() / row * row], 9);
        }
    }
}
