//! Every instruction set and every order of sums against oracles written to be read.

mod samples;

use std::sync::Mutex;

use proptest::prelude::*;
use samples::{Coded, values, ways, weights};
use unweight::codec::{Encoding, Number};
use unweight::kernel::{Isa, Numbers, Order, Tensor, plain_matvec, prepare, prepared_bytes, scratch_bytes};

/// The instruction set is chosen for the whole process: one test at a time.
static ISA: Mutex<()> = Mutex::new(());

fn for_each_isa(test: impl Fn(Isa)) {
    let _guard = ISA.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
        assert!(isa.select());
        test(isa);
    }
}

fn activations(k: u64, seed: u64) -> Vec<f32> {
    values(Number::F32, &weights(Number::F32, Number::F32, k as usize, 0, seed ^ 0x5A5A))
}

/// What ggml does, written with loops over lanes.
mod host {
    use super::{Number, Order};

    pub fn round(order: Order, original: Number, x: f32) -> f32 {
        match original {
            _ if order == Order::TileNeon => x,
            Number::Bf16 => half::bf16::from_f32(x).to_f32(),
            Number::F16 => half::f16::from_f32(x).to_f32(),
            Number::F32 => x,
        }
    }

    fn halves(mut lanes: Vec<f32>) -> f32 {
        while lanes.len() > 1 {
            let (low, high) = lanes.split_at(lanes.len() / 2);
            lanes = low.iter().zip(high).map(|(a, b)| b + a).collect();
        }
        lanes[0]
    }

    fn neighbours(mut lanes: Vec<f32>) -> f32 {
        if lanes.len() == 8 {
            lanes = (0..4).map(|l| lanes[l] + lanes[l + 4]).collect();
        }
        (lanes[0] + lanes[1]) + (lanes[2] + lanes[3])
    }

    /// The odd product of vdpbf16ps comes first.
    fn pair(acc: f32, w: &[f32], x: &[f32]) -> f32 {
        w[0].mul_add(x[0], w[1].mul_add(x[1], acc))
    }

    pub fn is_paired(order: Order) -> bool {
        matches!(order, Order::Bf16Avx512Bf16 | Order::TileAvx512Bf16)
    }

    fn is_tile(order: Order) -> bool {
        use Order::{TileAvx, TileAvx512, TileAvx512Bf16, TileFma, TileNeon};
        matches!(order, TileAvx | TileFma | TileAvx512 | TileAvx512Bf16 | TileNeon)
    }

    /// What ggml_vec_dot_f32 adds in float, and of how many products of it at a time the compiler makes a vector, which is not fused.
    fn float_rest(order: Order) -> Option<usize> {
        match order {
            Order::F32Sse3 | Order::F32Avx => Some(1),
            Order::F32Fma | Order::F32Neon => Some(4),
            Order::F32Avx512 => Some(8),
            _ => None,
        }
    }

    pub fn dot(order: Order, w: &[f32], x: &[f32]) -> f32 {
        let k = w.len();
        let (accs, lanes) = match order {
            Order::Plain => (0, 0),
            Order::F16Sse3 | Order::F32Sse3 => (8, 4),
            Order::F16Neon | Order::F32Neon => (4, 4),
            Order::Bf16Avx | Order::Bf16Avx2 => (4, 8),
            Order::F16Avx | Order::F16Fma | Order::F32Avx | Order::F32Fma => (4, 8),
            Order::Bf16Avx512 | Order::Bf16Avx512Bf16 => (2, 16),
            Order::F16Avx512 | Order::F32Avx512 => (4, 16),
            Order::TileNeon => (1, 4),
            Order::TileAvx | Order::TileFma => (1, 8),
            Order::TileAvx512 | Order::TileAvx512Bf16 => (1, 16),
        };
        let is_rounded = matches!(
            order,
            Order::Bf16Avx | Order::F16Sse3 | Order::F32Sse3 | Order::F16Avx | Order::F32Avx | Order::TileAvx
        );
        let per_lane = if is_paired(order) { 2 } else { 1 };
        let step: usize = accs * lanes * per_lane;
        let full = match step {
            0 => 0,
            _ if is_tile(order) => k.next_multiple_of(step),
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
                        _ if is_rounded => w[i] * x[i] + *acc,
                        _ => w[i].mul_add(x[i], *acc),
                    };
                }
            }
        }
        let sum = match order {
            Order::Plain => 0.0,
            Order::Bf16Avx512 | Order::Bf16Avx512Bf16 => {
                acc.into_iter().map(|acc| f64::from(halves(acc))).sum()
            }
            _ => {
                while acc.len() > 1 {
                    let behind = acc.split_off(acc.len() / 2);
                    for (acc, behind) in acc.iter_mut().zip(behind) {
                        acc.iter_mut().zip(behind).for_each(|(a, b)| *a += b);
                    }
                }
                let [acc] = <[_; 1]>::try_from(acc).unwrap();
                match order {
                    Order::F16Avx512 | Order::F32Avx512 | Order::Bf16Avx | Order::Bf16Avx2 => {
                        f64::from(halves(acc))
                    }
                    Order::TileAvx | Order::TileFma | Order::TileAvx512 | Order::TileAvx512Bf16 => {
                        f64::from(halves(acc))
                    }
                    _ => f64::from(neighbours(acc)),
                }
            }
        };
        if is_tile(order) {
            return sum as f32;
        }
        let Some(group) = float_rest(order) else {
            return (full..k).fold(sum, |sum, i| sum + f64::from(w[i] * x[i])) as f32;
        };
        let fused_from = full + (k - full) / group * group;
        let sum = (full..fused_from).fold(sum as f32, |sum, i| sum + w[i] * x[i]);
        (fused_from..k).fold(sum, |sum, i| w[i].mul_add(x[i], sum))
    }
}

fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

struct Prepared {
    bytes: Vec<u8>,
    rounded: Vec<Vec<f32>>,
}

/// Orders in which such numbers are added up: only BF16 is multiplied in pairs.
fn orders(original: Number) -> impl Iterator<Item = Order> {
    Order::ALL.into_iter().filter(move |&order| original == Number::Bf16 || !host::is_paired(order))
}

fn prepare_columns(order: Order, numbers: Numbers, k: u64, columns: u64) -> Prepared {
    let stride = prepared_bytes(k);
    let mut bytes = vec![0xAA; stride * columns as usize];
    let mut rounded = Vec::new();
    for (c, column) in bytes.chunks_mut(stride).enumerate() {
        let x = activations(k, c as u64 + 77);
        prepare(order, numbers, &x, column);
        rounded.push(x.iter().map(|&x| host::round(order, numbers.original, x)).collect());
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

fn check_products(isa: Isa, tensor: &Tensor, weights: &[u8], columns: u64) {
    let (k, rows, numbers) = (tensor.k() as usize, tensor.rows() as usize, tensor.numbers());
    let original = values(numbers.original, weights);
    for order in orders(numbers.original) {
        let prepared = prepare_columns(order, numbers, tensor.k(), columns);
        let check = |what: &str, i: usize, y: f32| {
            let (row, column) = (i % rows, i / rows);
            let expected = host::dot(order, &original[row * k..][..k], &prepared.rounded[column]);
            let isa = isa.name();
            assert!(
                same(y, expected),
                "{isa} {numbers:?} {order:?} {what} k {k} row {row} column {column}: {y}, not {expected}"
            );
        };
        for (i, y) in matvec(tensor, order, &prepared.bytes).into_iter().enumerate() {
            check("matvec", i, y);
        }
        for (i, y) in matmul(tensor, order, &prepared.bytes, columns).into_iter().enumerate() {
            check("matmul", i, y);
        }
        let plain = prepare_columns(order, Numbers::plain(numbers.original), tensor.k(), 1);
        let (mut y, mut scratch) = (vec![0.0; rows], vec![0x55; scratch_bytes(tensor.k())]);
        plain_matvec(weights, numbers.original, tensor.k(), order, &plain.bytes, &mut y, &mut scratch);
        for (i, y) in y.into_iter().enumerate() {
            check("plain", i, y);
        }
    }
}

#[test]
fn every_row_length_decodes_to_the_bit() {
    let longer = [576, 1024, 1536, 2047, 2048, 2049, 2048 + 32, 4095, 4096, 4097, 4096 + 32, 8192, 8300];
    for k in (1..=300).chain(longer) {
        let wild = |(encoding, original)| [0, 1, 9, 40, 256].map(|wild| (encoding, original, wild));
        // All of them with some lengths only.
        let step = if k <= 70 { 1 } else { 7 };
        for (encoding, original, wild) in ways().flat_map(wild).skip(k as usize % step).step_by(step) {
            let weights =
                weights(original, encoding.stored(), (k * 35) as usize, wild, k * 31 + u64::from(wild));
            for cuts in [&[][..], &[1, 1]] {
                let coded = Coded::new(original, &weights, k, encoding, cuts);
                assert!(coded.decode().unwrap() == weights);
                let tensor = coded.tensor();
                for_each_isa(|isa| {
                    let what = || {
                        format!("{} {encoding:?} {original:?} k {k} wild {wild} cuts {cuts:?}", isa.name())
                    };
                    let mut out = vec![0; weights.len()];
                    tensor.decode(0, 35, &mut out);
                    assert!(out == weights, "{}", what());
                    let mut floats = vec![0.0; k as usize];
                    for row in [0, 34] {
                        tensor.decode_f32(row, &mut floats);
                        let expected = values(original, &weights[(row * k * original.bytes()) as usize..]);
                        let equal = floats.iter().zip(expected).all(|(&a, b)| same(a, b));
                        assert!(equal, "{} row {row}", what());
                    }
                });
            }
        }
    }
}

#[test]
fn every_order_gives_the_bits_of_the_host() {
    for_each_isa(|isa| {
        for k in [
            1, 2, 7, 8, 15, 16, 31, 32, 33, 47, 63, 64, 65, 79, 95, 96, 97, 111, 127, 128, 160, 172, 200,
            576, 1000, 1088, 2080, 2112, 4096, 4097, 4160, 8300,
        ] {
            let shapes = [(1, &[][..]), (5, &[1]), (8, &[])];
            for ((encoding, original), (columns, cuts)) in ways().zip(shapes.into_iter().cycle().skip(k % 3))
            {
                let k = k as u64;
                let weights = weights(original, encoding.stored(), (k * 21) as usize, 0, k + columns);
                let coded = Coded::new(original, &weights, k, encoding, cuts);
                check_products(isa, &coded.tensor(), &weights, columns);
            }
        }
    });
}

#[test]
fn either_shift_comes_out() {
    let shifts = [0, 1].map(|seed| {
        let shift = |(encoding, original): (Encoding, _)| {
            let weights = weights(original, encoding.stored(), 64 * 64, 0, 2 + seed);
            Coded::new(original, &weights, 64, encoding, &[]).pieces[0].1[25]
        };
        // With 16 of them both cover all exponents that occur.
        ways().filter(|(encoding, _)| !encoding.name().ends_with("16")).map(shift).collect::<Vec<_>>()
    });
    for (one, other) in shifts[0].iter().zip(&shifts[1]) {
        assert_eq!(one ^ other, 1, "{shifts:?}");
    }
}

#[test]
fn rows_may_begin_anywhere() {
    for_each_isa(|isa| {
        for (k, (encoding, original)) in
            [40, 64, 96, 320, 576, 4200].into_iter().flat_map(|k| ways().map(move |way| (k, way)))
        {
            let row_bytes = (k * original.bytes()) as usize;
            let weights = weights(original, encoding.stored(), (k * 37) as usize, 3, k);
            let whole = Coded::new(original, &weights, k, encoding, &[]);
            let cut = Coded::new(original, &weights, k, encoding, &[1, 1]);
            assert_eq!(cut.pieces.len(), 3);
            let tensor = cut.tensor();
            let mut scratch = vec![0x55; scratch_bytes(k)];
            for order in orders(original) {
                let prepared = prepare_columns(order, tensor.numbers(), k, 3).bytes;
                let (vector, matrix) =
                    (matvec(&whole.tensor(), order, &prepared), matmul(&whole.tensor(), order, &prepared, 3));
                for (row, n) in
                    [(0, 1), (0, 37), (1, 2), (3, 5), (7, 30), (15, 17), (16, 16), (36, 1), (37, 0)]
                {
                    let what =
                        || format!("{} {encoding:?} {original:?} {order:?} k {k} row {row}", isa.name());
                    let mut y = vec![0.0; n];
                    tensor.matvec(order, row as u64, &prepared, &mut y, &mut scratch);
                    let equal = |y: &[f32], whole: &[f32]| y.iter().zip(whole).all(|(&a, &b)| same(a, b));
                    assert!(equal(&y, &vector[row..row + n]), "{}", what());
                    let mut y = vec![0.0; 3 * n];
                    // SAFETY: `y` holds a column of `n` floats for each of 3.
                    unsafe {
                        let to = y.as_mut_ptr();
                        tensor.matmul(order, row as u64, n as u64, &prepared, 3, to, n, &mut scratch);
                    }
                    for column in 0..3 {
                        let whole = &matrix[37 * column + row..][..n];
                        assert!(equal(&y[n * column..][..n], whole), "{}", what());
                    }
                }
            }
            for (row, n) in [(0, 1), (0, 37), (3, 5), (15, 17), (36, 1), (37, 0)] {
                let mut out = vec![0; n * row_bytes];
                tensor.decode(row as u64, n as u64, &mut out);
                assert!(out == weights[row * row_bytes..][..out.len()]);
            }
        }
    });
}

#[test]
fn instruction_sets_agree_on_wild_numbers() {
    // Infinities, NaN, denormals and overflow: the scalar kernels say what is right, NaN payloads aside.
    for (k, (encoding, original)) in [96, 200].into_iter().flat_map(|k| ways().map(move |way| (k, way))) {
        let weights = weights(original, encoding.stored(), k * 17, 30, 11);
        let coded = Coded::new(original, &weights, k as u64, encoding, &[]);
        let tensor = coded.tensor();
        for order in orders(original) {
            let results = Mutex::new(Vec::new());
            for_each_isa(|isa| {
                let prepared = prepare_columns(order, tensor.numbers(), k as u64, 3);
                let mut sums = matmul(&tensor, order, &prepared.bytes, 3);
                // The way of one column is another.
                sums.extend(matmul(&tensor, order, &prepared.bytes, 1));
                results.lock().unwrap().push((isa, sums));
            });
            let results = results.into_inner().unwrap();
            for (isa, result) in &results[1..] {
                for (i, (&a, &b)) in result.iter().zip(&results[0].1).enumerate() {
                    assert!(same(a, b), "{} {encoding:?} {order:?} k {k} at {i}: {a}, not {b}", isa.name());
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
        for original in Number::ALL {
            prepare(Order::TileFma, Numbers::plain(original), &x, &mut prepared);
            let rounded = prepared.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
            for (&x, found) in x.iter().zip(rounded) {
                let expected = host::round(Order::TileFma, original, x);
                assert!(same(found, expected), "{} {original:?} {x}: {found}, not {expected}", isa.name());
            }
        }
        prepare(Order::Bf16Avx512Bf16, Numbers::plain(Number::Bf16), &x, &mut prepared);
        let float_size = if isa == Isa::Avx512Bf16 { 2 } else { 4 };
        for (&x, bytes) in x.iter().zip(prepared.chunks(float_size)) {
            let bits = u16::from_le_bytes([bytes[float_size - 2], bytes[float_size - 1]]);
            assert_eq!(bits, half::bf16::from_f32(x).to_bits(), "{} {x}", isa.name());
        }
    });
}

#[test]
fn what_contradicts_itself_is_refused() {
    let weights = weights(Number::Bf16, Number::Bf16, 64 * 20, 5, 3);
    let good = Coded::new(Number::Bf16, &weights, 64, Encoding::Bf16Palette8, &[1]);
    let open = |encoding: u32, home: &[u8], k: u64, pieces: &[(u64, &[u8])]| {
        Tensor::open(encoding, Number::Bf16, home, k, pieces)
            .map(|tensor| (tensor.rows(), tensor.escapes()))
            .ok()
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
    // Whatever a header says of code bits and kind of numbers must be what the encoding has.
    for (encoding, original) in ways() {
        let weights = self::weights(original, encoding.stored(), 64 * 4, 5, 3);
        let good = Coded::new(original, &weights, 64, encoding, &[]);
        let (home, [(rows, piece)]) = (&good.home[..], &good.pieces[..]) else { panic!("one piece") };
        for (at, byte) in [(24, 3), (24, 4), (26, 0), (26, 1), (26, 2), (26, 3)] {
            let mut bad = piece.clone();
            bad[at] = byte;
            let opened = Tensor::open(encoding.id(), original, home, 64, &[(*rows, &bad)]);
            assert_eq!(opened.is_ok(), bad == *piece, "{encoding:?} of {original:?}: byte {at} is {byte}");
        }
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
        let mut prepared = Guarded::copy(&prepare_columns(order, tensor.numbers(), k, 3).bytes, place);
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
            for (encoding, original) in ways() {
                let cuts = [round % 3];
                let weights = weights(original, encoding.stored(), (k * rows) as usize, 60, round);
                let mut coded = Coded::new(original, &weights, k, encoding, &cuts);
                coded.corrupt(round);
                let expected = coded.decode_anything();
                if (encoding, original) == (Encoding::Bf16Palette8, Number::Bf16) {
                    let (header, palette) = (&coded.pieces[0].1, &coded.pieces[0].1[32..40]);
                    let high = |pair: &[u8]| {
                        (u16::from_le_bytes([pair[0], pair[1]]).wrapping_add(128 * u16::from(header[25]))
                            >> 8) as u8
                    };
                    placed += expected.chunks(2).filter(|pair| !palette.contains(&high(pair))).count();
                }
                for place in PLACES {
                    let mut home = Guarded::copy(&coded.home, place);
                    let mut pieces: Vec<(u64, Guarded)> = coded
                        .pieces
                        .iter()
                        .map(|(rows, bytes)| (*rows, Guarded::copy(bytes, place)))
                        .collect();
                    let pieces: Vec<(u64, &[u8])> =
                        pieces.iter_mut().map(|(rows, piece)| (*rows, &*piece.bytes())).collect();
                    let tensor = Tensor::open(encoding.id(), original, home.bytes(), k, &pieces).unwrap();
                    for_each_isa(|isa| {
                        let mut out = Guarded::new(expected.len(), place);
                        tensor.decode(0, rows, out.bytes());
                        assert!(
                            out.bytes() == expected,
                            "{} {encoding:?} {original:?} k {k} rows {rows} round {round} {place:?}",
                            isa.name()
                        );
                        let mut out = Guarded::new(4 * k as usize, place);
                        tensor.decode_f32(rows - 1, out.numbers());
                        for order in orders(original) {
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
        k in 1u64..300, rows in 1u64..80, wild in 0u32..=256, way in 0usize..10, seed in any::<u64>(),
        cuts in prop::collection::vec(0u64..3, 0..4),
    ) {
        let (encoding, original) = ways().nth(way).unwrap();
        let weights = weights(original, encoding.stored(), (k * rows) as usize, wild, seed);
        let coded = Coded::new(original, &weights, k, encoding, &cuts);
        prop_assert!(coded.decode().unwrap() == weights);
        let tensor = coded.tensor();
        let (row, n, row_bytes) = (seed % rows, seed / rows % (rows - seed % rows + 1), k * original.bytes());
        for_each_isa(|_| {
            let mut out = vec![0; (n * row_bytes) as usize];
            tensor.decode(row, n, &mut out);
            assert!(out == weights[(row * row_bytes) as usize..][..out.len()]);
        });
    }
}
