//! Every instruction set and every order of sums against oracles written to be read.

mod blobs;

use std::sync::Mutex;

use proptest::prelude::*;
use unweight::codec::{Analysis, Encoder, Encoding, Shape, oracle};
use unweight::kernel::{Isa, Order, Tensor, prepare, prepared_bytes, scratch_bytes};

/// The instruction set is chosen for the whole process: one test at a time.
static ISA: Mutex<()> = Mutex::new(());

fn for_each_isa(test: impl Fn(Isa)) {
    let _guard = ISA.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
        assert!(isa.select());
        test(isa);
    }
}

/// Weights that look trained, with `wild` of 256 drawn from all bit patterns.
fn weights(n: usize, wild: u32, seed: u64) -> Vec<u16> {
    let mut next = blobs::random(seed);
    (0..n)
        .map(|_| {
            let bits = next();
            if (bits >> 40) as u32 % 256 < wild {
                return bits as u16;
            }
            // The highest exponent is odd or even, so that either shift comes out.
            let exponent = 121 + seed as u16 % 2 - (bits >> 20 & 0xFFFF).trailing_ones().min(15) as u16;
            (bits as u16 & 0x807F) | exponent << 7
        })
        .collect()
}

fn blob(weights: &[u16], shape: Shape, encoding: Encoding) -> Vec<u8> {
    let encoder = Encoder::forced(&Analysis::of(weights), shape, encoding).unwrap();
    encoder.blob(weights)
}

fn activations(k: u64, seed: u64) -> Vec<f32> {
    let pairs = weights(2 * k as usize, 0, seed ^ 0x5A5A);
    pairs.chunks(2).map(|pair| f32::from_bits(u32::from(pair[0]) << 16 | u32::from(pair[1]))).collect()
}

/// What ggml does, written with loops over lanes.
mod host {
    use super::Order;

    pub fn round(x: f32) -> u16 {
        half::bf16::from_f32(x).to_bits()
    }

    pub fn widen(bits: u16) -> f32 {
        half::bf16::from_bits(bits).to_f32()
    }

    fn halves(mut lanes: Vec<f32>) -> f32 {
        while lanes.len() > 1 {
            let (low, high) = lanes.split_at(lanes.len() / 2);
            lanes = low.iter().zip(high).map(|(a, b)| b + a).collect();
        }
        lanes[0]
    }

    fn pair(acc: f32, w: &[f32], x: &[f32]) -> f32 {
        w[0].mul_add(x[0], w[1].mul_add(x[1], acc))
    }

    pub fn dot(order: Order, w: &[f32], x: &[f32]) -> f32 {
        let k = w.len();
        let (accs, lanes, per_lane, tile) = match order {
            Order::DotPlain => (0, 0, 0, false),
            Order::DotAvx | Order::DotAvx2 => (4, 8, 1, false),
            Order::DotAvx512 => (2, 16, 1, false),
            Order::DotAvx512Bf16 => (2, 16, 2, false),
            Order::TileAvx2 => (1, 8, 1, true),
            Order::TileAvx512 => (1, 16, 1, true),
            Order::TileAvx512Bf16 => (1, 16, 2, true),
        };
        let step = accs * lanes * per_lane;
        let full = match step {
            0 => 0,
            _ if tile => k.next_multiple_of(step),
            _ => k / step * step,
        };
        let padded = |v: &[f32]| {
            let mut v = v.to_vec();
            v.resize(k.max(full), 0.0);
            v
        };
        let (w, x) = (padded(w), padded(x));
        let mut acc = vec![vec![0.0f32; lanes]; accs];
        for at in (0..full).step_by(step.max(1)) {
            for (a, acc) in acc.iter_mut().enumerate() {
                for (lane, acc) in acc.iter_mut().enumerate() {
                    let i = at + (a * lanes + lane) * per_lane;
                    *acc = match per_lane {
                        2 => pair(*acc, &w[i..i + 2], &x[i..i + 2]),
                        _ if order == Order::DotAvx => w[i] * x[i] + *acc,
                        _ => w[i].mul_add(x[i], *acc),
                    };
                }
            }
        }
        let mut sum = 0.0f64;
        if let Order::DotAvx | Order::DotAvx2 = order {
            let c = (0..8).map(|l| (acc[0][l] + acc[2][l]) + (acc[1][l] + acc[3][l])).collect();
            sum += f64::from(halves(c));
        } else {
            for acc in acc {
                sum += f64::from(halves(acc));
            }
        }
        for i in full..k {
            sum += f64::from(w[i] * x[i]);
        }
        sum as f32
    }
}

fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

struct Prepared {
    bytes: Vec<u8>,
    rounded: Vec<Vec<f32>>,
}

fn prepare_columns(order: Order, k: u64, columns: u64) -> Prepared {
    let stride = prepared_bytes(k);
    let mut bytes = vec![0xAA; stride * columns as usize];
    let mut rounded = Vec::new();
    for (c, column) in bytes.chunks_mut(stride).enumerate() {
        let x = activations(k, c as u64 + 77);
        prepare(order, &x, column);
        rounded.push(x.iter().map(|&x| host::widen(host::round(x))).collect());
    }
    Prepared { bytes, rounded }
}

fn matmul(tensor: &Tensor, order: Order, prepared: &[u8], columns: u64) -> Vec<f32> {
    let mut out = vec![0.0; (tensor.rows() * columns) as usize];
    let mut scratch = vec![0x55; scratch_bytes(tensor.k())];
    // SAFETY: `out` holds a column of `rows` floats for each of `columns`.
    unsafe {
        let rows = tensor.rows();
        tensor.matmul(order, 0, rows, prepared, columns, out.as_mut_ptr(), rows as usize, &mut scratch);
    }
    out
}

fn matvec(tensor: &Tensor, order: Order, prepared: &[u8]) -> Vec<f32> {
    let mut out = vec![0.0; tensor.rows() as usize];
    tensor.matvec(order, 0, prepared, &mut out, &mut vec![0x55; scratch_bytes(tensor.k())]);
    out
}

fn check_products(isa: Isa, tensor: &Tensor, weights: &[u16], columns: u64) {
    let (k, rows) = (tensor.k() as usize, tensor.rows() as usize);
    for order in Order::ALL {
        let prepared = prepare_columns(order, tensor.k(), columns);
        let check = |what: &str, i: usize, y: f32| {
            let (row, column) = (i % rows, i / rows);
            let w: Vec<f32> = weights[row * k..][..k].iter().map(|&w| host::widen(w)).collect();
            let expected = host::dot(order, &w, &prepared.rounded[column]);
            let isa = isa.name();
            assert!(
                same(y, expected),
                "{isa} {order:?} {what} k {k} row {row} column {column}: {y}, not {expected}"
            );
        };
        for (i, y) in matvec(tensor, order, &prepared.bytes).into_iter().enumerate() {
            check("matvec", i, y);
        }
        for (i, y) in matmul(tensor, order, &prepared.bytes, columns).into_iter().enumerate() {
            check("matmul", i, y);
        }
    }
}

#[test]
fn every_row_length_decodes_to_the_bit() {
    let [three, four] = Encoding::ALL;
    for_each_isa(|isa| {
        for k in (1..=200).chain([255, 256, 257, 576, 1024, 1536, 2049, 4095, 4096, 4097, 8192, 8300]) {
            for (wild, encoding) in [(0, three), (1, three), (1, four), (9, three), (40, four), (256, three)]
            {
                let shape = Shape { k, rows: 19 };
                let weights = weights((k * 19) as usize, wild, k * 31 + u64::from(wild));
                let blob = blob(&weights, shape, encoding);
                let tensor = Tensor::open(&blob, k, 19).unwrap();
                let mut out = vec![0; weights.len()];
                tensor.decode_bf16(0, 19, &mut out);
                assert_eq!(out, weights, "{} k {k} wild {wild}", isa.name());
                assert_eq!(oracle::decode(&blob, encoding, shape).unwrap(), weights);
                let mut floats = vec![0.0; k as usize];
                tensor.decode_f32(18, &mut floats);
                let expected = weights[18 * k as usize..].iter().map(|&w| u32::from(w) << 16);
                assert!(floats.iter().map(|f| f.to_bits()).eq(expected), "{} k {k}", isa.name());
            }
        }
    });
}

#[test]
fn every_order_gives_the_bits_of_the_host() {
    let [three, four] = Encoding::ALL;
    for_each_isa(|isa| {
        for k in [
            1, 2, 7, 8, 15, 16, 31, 32, 33, 63, 64, 65, 95, 96, 97, 127, 128, 172, 200, 576, 1000, 1088,
            2112, 4096, 4160, 8300,
        ] {
            for (encoding, columns) in [(three, 1), (four, 5), (three, 8)] {
                let weights = weights((k * 21) as usize, 0, k + columns);
                let blob = blob(&weights, Shape { k, rows: 21 }, encoding);
                check_products(isa, &Tensor::open(&blob, k, 21).unwrap(), &weights, columns);
            }
        }
    });
}

#[test]
fn either_shift_comes_out() {
    let shape = Shape { k: 64, rows: 64 };
    let shifts = [0, 1].map(|seed| blob(&weights(64 * 64, 0, 2 + seed), shape, Encoding::Bf16Palette8)[25]);
    assert_eq!(shifts, [0, 1]);
}

#[test]
fn rows_may_begin_anywhere() {
    for_each_isa(|isa| {
        for k in [40, 64, 320, 576, 4200] {
            let shape = Shape { k, rows: 37 };
            let weights = weights((k * 37) as usize, 3, k);
            let blob = blob(&weights, shape, Encoding::Bf16Palette8);
            let tensor = Tensor::open(&blob, k, 37).unwrap();
            let mut scratch = vec![0x55; scratch_bytes(k)];
            for order in Order::ALL {
                let prepared = prepare_columns(order, k, 3).bytes;
                let (vector, matrix) =
                    (matvec(&tensor, order, &prepared), matmul(&tensor, order, &prepared, 3));
                for (row, n) in [(0, 1), (1, 2), (3, 5), (7, 30), (15, 17), (36, 1), (37, 0)] {
                    let mut y = vec![0.0; n];
                    tensor.matvec(order, row as u64, &prepared, &mut y, &mut scratch);
                    let equal = |y: &[f32], whole: &[f32]| y.iter().zip(whole).all(|(&a, &b)| same(a, b));
                    assert!(equal(&y, &vector[row..row + n]), "{} {order:?} k {k} row {row}", isa.name());
                    let mut y = vec![0.0; 3 * n];
                    // SAFETY: `y` holds a column of `n` floats for each of 3.
                    unsafe {
                        let to = y.as_mut_ptr();
                        tensor.matmul(order, row as u64, n as u64, &prepared, 3, to, n, &mut scratch);
                    }
                    for column in 0..3 {
                        let whole = &matrix[37 * column + row..][..n];
                        assert!(
                            equal(&y[n * column..][..n], whole),
                            "{} {order:?} k {k} row {row}",
                            isa.name()
                        );
                    }
                    let mut out = vec![0; n * k as usize];
                    tensor.decode_bf16(row as u64, n as u64, &mut out);
                    assert_eq!(out, weights[row * k as usize..][..n * k as usize]);
                }
            }
        }
    });
}

#[test]
fn instruction_sets_agree_on_wild_numbers() {
    // Infinities, NaN, denormals and overflow: the scalar kernels say what is right, NaN payloads aside.
    let (k, rows) = (200, 17);
    let weights = weights(k * rows, 30, 11);
    let blob = blob(&weights, Shape { k: k as u64, rows: rows as u64 }, Encoding::Bf16Palette8);
    let tensor = Tensor::open(&blob, k as u64, rows as u64).unwrap();
    for order in Order::ALL {
        let results = Mutex::new(Vec::new());
        for_each_isa(|isa| {
            let prepared = prepare_columns(order, k as u64, 3);
            results.lock().unwrap().push((isa, matmul(&tensor, order, &prepared.bytes, 3)));
        });
        let results = results.into_inner().unwrap();
        for (isa, result) in &results[1..] {
            for (i, (&a, &b)) in result.iter().zip(&results[0].1).enumerate() {
                assert!(same(a, b), "{} {order:?} at {i}: {a}, not {b}", isa.name());
            }
        }
    }
}

#[test]
fn activations_round_as_ggml_rounds() {
    let bits = [
        1,
        0x8000,
        0x3F80_8000,
        0x3F81_8000,
        0x7F80_0001,
        0xFFFF_FFFF,
        0x7F80_0000,
        0x8000_0000,
        0x7F7F_FFFF,
    ];
    let x = bits.map(f32::from_bits);
    for_each_isa(|isa| {
        let mut prepared = vec![0; prepared_bytes(x.len() as u64)];
        prepare(Order::TileAvx2, &x, &mut prepared);
        for (x, bytes) in x.iter().zip(prepared.chunks(4)) {
            let bits = u32::from_le_bytes(std::array::from_fn(|i| bytes[i]));
            assert_eq!(bits >> 16, u32::from(host::round(*x)), "{} {x}", isa.name());
        }
        prepare(Order::DotAvx512Bf16, &x, &mut prepared);
        let float_size = if isa == Isa::Avx512Bf16 { 2 } else { 4 };
        for (x, bytes) in x.iter().zip(prepared.chunks(float_size)) {
            let bits = u16::from_le_bytes([bytes[float_size - 2], bytes[float_size - 1]]);
            assert_eq!(bits, host::round(*x), "{} {x}", isa.name());
        }
    });
}

#[test]
fn contradictory_headers_are_refused() {
    let weights = weights(64 * 16, 5, 3);
    let good = blob(&weights, Shape { k: 64, rows: 16 }, Encoding::Bf16Palette8);
    assert!(Tensor::open(&good, 64, 16).is_ok());
    for (k, rows) in [(63, 16), (64, 15), (16, 64), (u64::MAX, u64::MAX), (0, 0)] {
        assert!(Tensor::open(&good, k, rows).is_err());
    }
    for cut in 0..good.len() {
        assert!(Tensor::open(&good[..cut], 64, 16).is_err(), "cut at {cut}");
    }
    for (at, byte) in [(24, 5), (25, 2), (26, 1), (31, 1), (40, 1), (48, 1), (63, 1), (16, 0xFF), (23, 0xFF)]
    {
        let mut bad = good.clone();
        bad[at] = byte;
        assert!(Tensor::open(&bad, 64, 16).is_err(), "byte {at}");
    }
}

/// A page that may not be touched stands right before and right after what the kernels are given.
#[cfg(unix)]
mod guarded {
    use memmap2::MmapMut;

    use super::*;

    struct Guarded {
        map: MmapMut,
        start: usize,
        len: usize,
    }

    const PAGE: usize = 4096;

    impl Guarded {
        /// A copy of `bytes` that ends where a forbidden page begins.
        fn new(bytes: &[u8]) -> Self {
            let inner = bytes.len().next_multiple_of(PAGE);
            let mut map = MmapMut::map_anon(inner + 2 * PAGE).unwrap();
            let start = PAGE + inner - bytes.len();
            map[start..start + bytes.len()].copy_from_slice(bytes);
            for page in [0, PAGE + inner] {
                // SAFETY: whole pages of our own anonymous mapping; no reference into them exists.
                let result =
                    unsafe { libc::mprotect(map.as_mut_ptr().add(page).cast(), PAGE, libc::PROT_NONE) };
                assert_eq!(result, 0);
            }
            Self { map, start, len: bytes.len() }
        }

        fn bytes(&self) -> &[u8] {
            // SAFETY: only the readable part of the mapping, which lives as long as `self`.
            unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(self.start), self.len) }
        }
    }

    #[test]
    fn corrupt_blobs_are_read_alike_and_from_inside() {
        let shapes = [(64, 16), (172, 5), (65, 33), (320, 37), (1088, 17), (4096, 2), (8300, 3)];
        for_each_isa(|isa| {
            let mut placed = 0;
            for (round, &(k, rows)) in (0..).zip(shapes.iter().cycle().take(4 * shapes.len())) {
                let shape = Shape { k, rows };
                for encoding in Encoding::ALL {
                    let good = blob(&weights((k * rows) as usize, 60, round), shape, encoding);
                    let bad = blobs::corrupt(good, shape, round);
                    let expected = oracle::decode_anything(&bad, encoding, shape).unwrap();
                    let palette = &bad[32..32 + if encoding == Encoding::Bf16Palette8 { 8 } else { 16 }];
                    let stored = |weight: &u16| weight.wrapping_add(128 * u16::from(bad[25])) >> 8;
                    placed += expected.iter().filter(|w| !palette.contains(&(stored(w) as u8))).count();
                    let guarded = Guarded::new(&bad);
                    let tensor = Tensor::open(guarded.bytes(), k, rows).unwrap();
                    let mut out = vec![0; (k * rows) as usize];
                    tensor.decode_bf16(0, rows, &mut out);
                    assert!(out == expected, "{} k {k} rows {rows} round {round}", isa.name());
                    for order in Order::ALL {
                        let prepared = prepare_columns(order, k, 3);
                        matvec(&tensor, order, &prepared.bytes);
                        matmul(&tensor, order, &prepared.bytes, 3);
                    }
                }
            }
            assert!(placed > 1000, "only {placed} escapes were placed");
        });
    }
}

proptest! {
    #[test]
    fn any_weights_come_back(
        k in 1u64..300, rows in 1u64..40, wild in 0u32..=256, four in any::<bool>(), seed in any::<u64>(),
    ) {
        let encoding = if four { Encoding::Bf16Palette16 } else { Encoding::Bf16Palette8 };
        let shape = Shape { k, rows };
        let weights = weights((k * rows) as usize, wild, seed);
        let blob = blob(&weights, shape, encoding);
        prop_assert_eq!(&oracle::decode(&blob, encoding, shape).unwrap(), &weights);
        for_each_isa(|_| {
            let mut out = vec![0; weights.len()];
            Tensor::open(&blob, k, rows).unwrap().decode_bf16(0, rows, &mut out);
            assert_eq!(out, weights);
        });
    }
}
