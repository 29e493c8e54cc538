//! Every instruction set and every order of sums against oracles written to be read.

mod samples;

use std::sync::Mutex;

use proptest::prelude::*;
use samples::Coded;
use unweight::codec::Encoding;
use unweight::kernel::{Isa, Order, Tensor, plain_matvec, prepare, prepared_bytes, scratch_bytes};

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
    let mut next = samples::random(seed);
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
        let mut y = vec![0.0; rows];
        plain_matvec(weights, tensor.k(), order, &prepared.bytes, &mut y);
        for (i, y) in y.into_iter().enumerate() {
            check("plain", i, y);
        }
    }
}

#[test]
fn every_row_length_decodes_to_the_bit() {
    let [three, four] = [Encoding::Bf16Palette8, Encoding::Bf16Palette16];
    let longer = [576, 1024, 1536, 2047, 2048, 2049, 2048 + 32, 4095, 4096, 4097, 4096 + 32, 8192, 8300];
    for k in (1..=300).chain(longer) {
        for (wild, encoding) in [(0, three), (1, three), (1, four), (9, three), (40, four), (256, three)] {
            let weights = weights((k * 35) as usize, wild, k * 31 + u64::from(wild));
            for cuts in [&[][..], &[1, 1]] {
                let coded = Coded::new(&weights, k, encoding, cuts);
                assert_eq!(coded.decode().unwrap(), weights);
                let tensor = coded.tensor();
                for_each_isa(|isa| {
                    let mut out = vec![0; weights.len()];
                    tensor.decode_bf16(0, 35, &mut out);
                    assert!(out == weights, "{} k {k} wild {wild} cuts {cuts:?}", isa.name());
                    let mut floats = vec![0.0; k as usize];
                    for row in [0, 34] {
                        tensor.decode_f32(row, &mut floats);
                        let expected = weights[(row * k) as usize..].iter().map(|&w| u32::from(w) << 16);
                        let equal = floats.iter().zip(expected).all(|(f, bits)| f.to_bits() == bits);
                        assert!(equal, "{} k {k} row {row}", isa.name());
                    }
                });
            }
        }
    }
}

#[test]
fn every_order_gives_the_bits_of_the_host() {
    let [three, four] = [Encoding::Bf16Palette8, Encoding::Bf16Palette16];
    for_each_isa(|isa| {
        for k in [
            1, 2, 7, 8, 15, 16, 31, 32, 33, 47, 63, 64, 65, 79, 95, 96, 97, 111, 127, 128, 160, 172, 200,
            576, 1000, 1088, 2080, 2112, 4096, 4097, 4160, 8300,
        ] {
            for (encoding, columns, cuts) in [(three, 1, &[][..]), (four, 5, &[1]), (three, 8, &[])] {
                let weights = weights((k * 21) as usize, 0, k + columns);
                let coded = Coded::new(&weights, k, encoding, cuts);
                check_products(isa, &coded.tensor(), &weights, columns);
            }
        }
    });
}

#[test]
fn either_shift_comes_out() {
    let shifts = [0, 1].map(|seed| {
        let coded = Coded::new(&weights(64 * 64, 0, 2 + seed), 64, Encoding::Bf16Palette8, &[]);
        coded.pieces[0].1[25]
    });
    assert_eq!(shifts, [0, 1]);
}

#[test]
fn rows_may_begin_anywhere() {
    for_each_isa(|isa| {
        for k in [40, 64, 96, 320, 576, 4200] {
            let weights = weights((k * 37) as usize, 3, k);
            let whole = Coded::new(&weights, k, Encoding::Bf16Palette8, &[]);
            let cut = Coded::new(&weights, k, Encoding::Bf16Palette8, &[1, 1]);
            assert_eq!(cut.pieces.len(), 3);
            let tensor = cut.tensor();
            let mut scratch = vec![0x55; scratch_bytes(k)];
            for order in Order::ALL {
                let prepared = prepare_columns(order, k, 3).bytes;
                let (vector, matrix) =
                    (matvec(&whole.tensor(), order, &prepared), matmul(&whole.tensor(), order, &prepared, 3));
                for (row, n) in
                    [(0, 1), (0, 37), (1, 2), (3, 5), (7, 30), (15, 17), (16, 16), (36, 1), (37, 0)]
                {
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
    for k in [96, 200] {
        let coded = Coded::new(&weights(k * 17, 30, 11), k as u64, Encoding::Bf16Palette8, &[]);
        let tensor = coded.tensor();
        for order in Order::ALL {
            let results = Mutex::new(Vec::new());
            for_each_isa(|isa| {
                let prepared = prepare_columns(order, k as u64, 3);
                results.lock().unwrap().push((isa, matmul(&tensor, order, &prepared.bytes, 3)));
            });
            let results = results.into_inner().unwrap();
            for (isa, result) in &results[1..] {
                for (i, (&a, &b)) in result.iter().zip(&results[0].1).enumerate() {
                    assert!(same(a, b), "{} {order:?} k {k} at {i}: {a}, not {b}", isa.name());
                }
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
fn what_contradicts_itself_is_refused() {
    let weights = weights(64 * 20, 5, 3);
    let good = Coded::new(&weights, 64, Encoding::Bf16Palette8, &[1]);
    let open = |encoding: u32, home: &[u8], k: u64, pieces: &[(u64, &[u8])]| {
        Tensor::open(encoding, home, k, pieces).map(|tensor| (tensor.rows(), tensor.escapes())).ok()
    };
    let (home, [(_, first), (_, last)]) = (&good.home[..], &good.pieces[..]) else { panic!("two pieces") };
    let escapes = [first, last].map(|piece| u64::from(piece[16])).iter().sum();
    assert_eq!(open(1, home, 64, &[(16, first), (4, last)]), Some((20, escapes)));
    assert_eq!(open(1, &home[16 * 64..], 64, &[(4, last)]), Some((4, u64::from(last[16]))));
    assert_eq!(open(2, &[], 64, &[]), Some((0, 0)));
    for encoding in [0, 2, 3, u32::MAX] {
        assert_eq!(open(encoding, home, 64, &[(16, first), (4, last)]), None, "encoding {encoding}");
    }
    for (k, rows) in [(63, 16), (64, 15), (16, 64), (128, 8), (u64::MAX, u64::MAX), (0, 0), (1 << 21, 0)] {
        assert_eq!(open(1, &home[..16 * 64], k, &[(rows, first)]), None, "k {k} rows {rows}");
    }
    for length in [0, 20 * 64 - 1] {
        assert_eq!(open(1, &home[..length], 64, &[(16, first), (4, last)]), None, "home of {length} bytes");
    }
    for pieces in [&[(16, &first[..])][..], &[(4, last), (16, first)], &[(16, first), (4, last), (0, &[])]] {
        assert_eq!(open(1, home, 64, pieces), None);
    }
    for cut in 0..first.len() {
        assert_eq!(open(1, home, 64, &[(16, &first[..cut]), (4, last)]), None, "cut at {cut}");
    }
    assert_eq!(open(1, home, 64, &[(16, &[&first[..], &[0]].concat()), (4, last)]), None);
    for (at, byte) in [(24, 5), (25, 2), (26, 1), (31, 1), (40, 1), (48, 1), (63, 1), (16, 0xFF), (23, 0xFF)]
    {
        let mut bad = first.clone();
        bad[at] = byte;
        assert_eq!(open(1, home, 64, &[(16, &bad), (4, last)]), None, "byte {at}");
    }
    // Pieces that are well by themselves.
    let mut shifted = last.clone();
    shifted[25] ^= 1;
    assert_eq!(open(1, &home[16 * 64..], 64, &[(4, &shifted)]), Some((4, u64::from(last[16]))));
    assert_eq!(open(1, home, 64, &[(16, first), (4, &shifted)]), None);
}

/// Pages that may not be touched stand before and behind what the kernels are given.
#[cfg(unix)]
mod guarded {
    use memmap2::MmapMut;

    use super::*;

    /// Where in its pages a buffer is.
    #[derive(Clone, Copy, Debug)]
    enum Place {
        /// So many bytes behind the forbidden page before it.
        Start(usize),
        /// Right before the forbidden page behind it.
        End,
    }

    const PLACES: [Place; 3] = [Place::Start(0), Place::Start(32), Place::End];

    struct Guarded {
        map: MmapMut,
        start: usize,
        len: usize,
    }

    const PAGE: usize = 4096;

    impl Guarded {
        fn new(len: usize, place: Place) -> Self {
            let inner = (len + 32).next_multiple_of(PAGE);
            let mut map = MmapMut::map_anon(inner + 2 * PAGE).unwrap();
            for page in [0, PAGE + inner] {
                // SAFETY: whole pages of our own anonymous mapping; no reference into them exists.
                let result =
                    unsafe { libc::mprotect(map.as_mut_ptr().add(page).cast(), PAGE, libc::PROT_NONE) };
                assert_eq!(result, 0);
            }
            let start = match place {
                Place::Start(behind) => PAGE + behind,
                Place::End => PAGE + inner - len,
            };
            Self { map, start, len }
        }

        fn copy(bytes: &[u8], place: Place) -> Self {
            let mut copy = Self::new(bytes.len(), place);
            copy.bytes().copy_from_slice(bytes);
            copy
        }

        fn bytes(&mut self) -> &mut [u8] {
            // SAFETY: only the accessible part of the mapping, which lives as long as `self`.
            unsafe { std::slice::from_raw_parts_mut(self.map.as_mut_ptr().add(self.start), self.len) }
        }

        /// Of numbers for which every pattern of bits is one.
        fn numbers<T: Copy + 'static>(&mut self) -> &mut [T] {
            // SAFETY: u16 and f32 are such numbers, and nothing else is asked for here.
            let (before, numbers, behind) = unsafe { self.bytes().align_to_mut() };
            assert!(before.is_empty() && behind.is_empty());
            numbers
        }
    }

    fn compute(tensor: &Tensor, order: Order, place: Place) {
        let (k, rows) = (tensor.k(), tensor.rows());
        let mut prepared = Guarded::copy(&prepare_columns(order, k, 3).bytes, place);
        let mut scratch = Guarded::new(scratch_bytes(k), place);
        let mut y = Guarded::new(4 * rows as usize, place);
        tensor.matvec(order, 0, prepared.bytes(), y.numbers(), scratch.bytes());
        let mut y = Guarded::new(3 * 4 * rows as usize, place);
        let y = y.numbers().as_mut_ptr();
        // SAFETY: `y` holds a column of `rows` floats for each of 3.
        unsafe { tensor.matmul(order, 0, rows, prepared.bytes(), 3, y, rows as usize, scratch.bytes()) };
    }

    #[test]
    fn corrupt_pieces_are_read_alike_and_from_inside() {
        let shapes = [
            (64, 16),
            (172, 5),
            (65, 33),
            (96, 40),
            (31, 20),
            (160, 35),
            (320, 37),
            (1088, 17),
            (2080, 3),
            (4096, 2),
            (8300, 3),
        ];
        let mut placed = 0;
        for (round, &(k, rows)) in (0..).zip(shapes.iter().cycle().take(4 * shapes.len())) {
            for encoding in [Encoding::Bf16Palette8, Encoding::Bf16Palette16] {
                let cuts = [round % 3];
                let mut coded = Coded::new(&weights((k * rows) as usize, 60, round), k, encoding, &cuts);
                coded.corrupt(round);
                let expected = coded.decode_anything();
                let header = &coded.pieces[0].1;
                let palette = &header[32..32 + if encoding == Encoding::Bf16Palette8 { 8 } else { 16 }];
                let stored = |weight: &u16| weight.wrapping_add(128 * u16::from(header[25])) >> 8;
                placed += expected.iter().filter(|w| !palette.contains(&(stored(w) as u8))).count();
                for place in PLACES {
                    let mut home = Guarded::copy(&coded.home, place);
                    let mut pieces: Vec<(u64, Guarded)> = coded
                        .pieces
                        .iter()
                        .map(|(rows, bytes)| (*rows, Guarded::copy(bytes, place)))
                        .collect();
                    let pieces: Vec<(u64, &[u8])> =
                        pieces.iter_mut().map(|(rows, piece)| (*rows, &*piece.bytes())).collect();
                    let tensor = Tensor::open(encoding.id(), home.bytes(), k, &pieces).unwrap();
                    for_each_isa(|isa| {
                        let mut out = Guarded::new(2 * (k * rows) as usize, place);
                        tensor.decode_bf16(0, rows, out.numbers());
                        let what = format!("{} k {k} rows {rows} round {round} {place:?}", isa.name());
                        assert!(out.numbers::<u16>() == expected, "{what}");
                        let mut out = Guarded::new(4 * k as usize, place);
                        tensor.decode_f32(rows - 1, out.numbers());
                        for order in Order::ALL {
                            compute(&tensor, order, place);
                        }
                    });
                }
            }
        }
        assert!(placed > 1000, "only {placed} escapes were placed");
    }
}

proptest! {
    #[test]
    fn any_weights_come_back(
        k in 1u64..300, rows in 1u64..80, wild in 0u32..=256, four in any::<bool>(), seed in any::<u64>(),
        cuts in prop::collection::vec(0u64..3, 0..4),
    ) {
        let encoding = if four { Encoding::Bf16Palette16 } else { Encoding::Bf16Palette8 };
        let weights = weights((k * rows) as usize, wild, seed);
        let coded = Coded::new(&weights, k, encoding, &cuts);
        prop_assert_eq!(&coded.decode().unwrap(), &weights);
        let tensor = coded.tensor();
        let (row, n) = (seed % rows, seed / rows % (rows - seed % rows + 1));
        for_each_isa(|_| {
            let mut out = vec![0; (k * n) as usize];
            tensor.decode_bf16(row, n, &mut out);
            assert_eq!(out, weights[(row * k) as usize..][..out.len()]);
        });
    }
}
