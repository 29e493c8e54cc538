//! The kernels: homes and pieces of any bytes, between pages that may not be touched. What opens decodes to what the oracle says, and
//! every product of what a writer may have written is that of the scalar kernels, on every instruction set.

use unweight::codec::{Analysis, Encoder, Encoding, Number, Shape, oracle};
use unweight::kernel::{Order, Tensor, prepare, prepared_bytes, scratch_bytes};

use super::each_isa;
use crate::guard::{End, Guarded};
use crate::samples;

/// Encoding, kind of number, k (two bytes), rows (two bytes), order of sums, end.
const HEAD: usize = 8;

pub fn run(data: &[u8]) {
    let Some((head, rest)) = data.split_at_checked(HEAD) else { return };
    let original = Number::ALL[usize::from(head[1]) % Number::ALL.len()];
    let two = |at: usize| u64::from(u16::from_le_bytes([head[at], head[at + 1]]));
    let (k, rows) = (two(2), two(4));
    let home_len = usize::min((k * rows) as usize, rest.len());
    let (home, piece) = rest.split_at(home_len);
    let end = if head[7] & 1 == 0 { End::Last } else { End::First };
    let (home, piece) = (Guarded::of(home, end), Guarded::of(piece, end));
    let pieces = [(rows, &piece[..])];
    let id = u32::from(head[0]);
    let opened = Tensor::open(id, original, &home, k, &pieces);
    let expected = Encoding::from_id(id).map(|encoding| {
        (
            oracle::decode(&home, &pieces, encoding, original, k),
            oracle::decode_anything(&home, &pieces, encoding, original, k),
        )
    });
    let Ok(tensor) = opened else {
        assert!(
            expected.is_none_or(|(strict, _)| strict.is_err()),
            "the kernels refuse what the oracle takes"
        );
        return;
    };
    let (strict, anything) = expected.expect("an encoding that opens");
    let anything = anything.expect("what opens has headers that are right");
    // A word that is no number of the original's kind may be worth anything in a product.
    let is_valid = strict.is_ok();
    if let Ok(strict) = strict {
        assert!(strict == anything);
    }
    let orders: Vec<Order> = Order::ALL
        .into_iter()
        .filter(|order| {
            original == Number::Bf16 || !matches!(order, Order::Bf16Avx512Bf16 | Order::TileAvx512Bf16)
        })
        .collect();
    let order = orders[usize::from(head[6]) % orders.len()];
    let mut products: Option<Vec<u32>> = None;
    each_isa(|isa| {
        let mut out = Guarded::new(anything.len(), end);
        tensor.decode(0, rows, &mut out);
        assert!(*out == *anything, "{} decodes otherwise", isa.name());
        if rows == 0 {
            return;
        }
        let mut floats = Guarded::new(4 * k as usize, end);
        tensor.decode_f32(rows - 1, floats.floats());
        let these = product(&tensor, order, end);
        match &products {
            None => products = Some(these),
            Some(first) => {
                assert!(!is_valid || *first == these, "{} {order:?} multiplies otherwise", isa.name());
            }
        }
    });
}

/// Bits of the sums of all rows with one vector, and with three at once; NaN is as good as another.
fn product(tensor: &Tensor, order: Order, end: End) -> Vec<u32> {
    const COLUMNS: u64 = 3;
    let (k, rows) = (tensor.k(), tensor.rows());
    let x: Vec<f32> = (0..k).map(|i| ((i * 37 % 101) as f32 - 50.0) / 64.0).collect();
    let stride = prepared_bytes(k);
    let mut prepared = Guarded::new(COLUMNS as usize * stride, end);
    prepared.chunks_exact_mut(stride.max(1)).for_each(|column| prepare(order, tensor.numbers(), &x, column));
    let mut scratch = Guarded::new(scratch_bytes(k), end);
    let mut y = Guarded::new(4 * rows as usize, end);
    tensor.matvec(order, 0, &prepared[..stride], y.floats(), &mut scratch);
    let mut all = Guarded::new(4 * (COLUMNS * rows) as usize, end);
    // SAFETY: there is a column of `rows` floats for each of `COLUMNS`.
    unsafe {
        let to = all.floats().as_mut_ptr();
        tensor.matmul(order, 0, rows, &prepared, COLUMNS, to, rows as usize, &mut scratch);
    }
    let bits = |y: &f32| if y.is_nan() { u32::MAX } else { y.to_bits() };
    y.floats().iter().map(bits).chain(all.floats().iter().map(bits)).collect()
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for encoding in Encoding::ALL {
        for original in Number::ALL.into_iter().filter(|&original| encoding.takes(original)) {
            for (k, rows) in [(1u16, 3u16), (64, 9), (100, 5), (300, 2), (31, 70), (2100, 1)] {
                let n = usize::from(k) * usize::from(rows);
                let stored = samples::weights(encoding.stored(), n, u64::from(k));
                let weights = widened(encoding.stored(), original, &stored);
                let shape = Shape { k: k.into(), rows: rows.into() };
                let analysis = Analysis::of(original, &weights);
                let Some(encoder) = Encoder::forced(&analysis, shape, encoding) else { continue };
                let (home, piece) = encoder.whole(&weights);
                let mut seed = vec![encoding.id() as u8, original as u8];
                seed.extend(k.to_le_bytes().into_iter().chain(rows.to_le_bytes()));
                seed.extend([seeds.len() as u8, seeds.len() as u8 & 1]);
                seed.extend(home.into_iter().chain(piece));
                seeds.push(seed);
            }
        }
    }
    assert!(seeds.len() > 20);
    seeds
}

/// Numbers of a narrower kind as an original has them; empty where that is not simple.
fn widened(stored: Number, original: Number, bytes: &[u8]) -> Vec<u8> {
    match (stored, original) {
        _ if stored == original => bytes.to_vec(),
        (Number::Bf16, Number::F32) => {
            bytes.chunks_exact(2).flat_map(|pair| [0, 0, pair[0], pair[1]]).collect()
        }
        // F16 with a mantissa that BF16 has; F32 of zeros.
        _ => vec![0; bytes.len() / stored.bytes() as usize * original.bytes() as usize],
    }
}
