//! In which order this program's CPU backend forms sums, found out by trying: its source has changed before and will again.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use unweight::codec::Number;
use unweight::kernel::{Numbers, Order, plain_matvec, prepare, prepared_bytes, scratch_bytes};

use super::cpu::{self, Cpu};
use super::log;
use super::orders::Product;
use super::trial::{Trial, by_host};

/// Rows of a trial: enough that another order does not give the same bits by chance.
const ROWS: u64 = 8;
/// Columns of the trials that stand for this many and more: hosts may have other ways for few and for many.
const COLUMNS: [(u64, u64); 5] = [(1, 1), (2, 2), (3, 3), (4, 4), (8, 16)];

struct Measured {
    orders: HashMap<Trial, Order>,
    /// Kinds of weights that no order was found for, as far as the user has been told.
    told: Vec<Number>,
}

/// The order in which the CPU backend adds up a product.
pub fn product(product: Product) -> Order {
    let trial = Trial {
        weights: product.weights,
        k: product.k,
        // tinyBLAS takes rows by four.
        rows: if product.rows.is_multiple_of(4) { ROWS } else { ROWS + 1 },
        columns: columns(product.columns),
        of_experts: false,
        is_contiguous: product.is_contiguous || product.columns == 1,
    };
    measured(trial, || cpu::orders().product(product))
}

/// The order in which it adds up products of experts with rows of `k` weights, for so many tokens.
pub fn experts(weights: Number, k: u64, tokens: u64) -> Order {
    let trial =
        Trial { weights, k, rows: ROWS, columns: columns(tokens), of_experts: true, is_contiguous: true };
    measured(trial, || cpu::orders().experts(weights))
}

fn columns(count: u64) -> u64 {
    COLUMNS.iter().rev().find(|(from, _)| count >= *from).map_or(1, |&(_, columns)| columns)
}

/// `expected`: what its features let us expect.
fn measured(trial: Trial, expected: impl FnOnce() -> Order) -> Order {
    static MEASURED: OnceLock<Mutex<Measured>> = OnceLock::new();
    let lock = || {
        let measured =
            MEASURED.get_or_init(|| Mutex::new(Measured { orders: HashMap::new(), told: Vec::new() }));
        measured.lock().unwrap_or_else(PoisonError::into_inner)
    };
    if let Some(&order) = lock().orders.get(&trial) {
        return order;
    }
    // Without the lock: the host computes, and a log may wait for what another thread holds. Two threads may both measure.
    let expected = expected();
    let found = find(trial, expected);
    let order = found.unwrap_or(expected);
    let news = {
        let mut measured = lock();
        measured.orders.insert(trial, order);
        let news = found.is_none() && !measured.told.contains(&trial.weights);
        if news {
            measured.told.push(trial.weights);
        }
        news
    };
    if news {
        log::warn(&format!(
            "this program adds up {} products in an order that is not known here: results differ slightly from those of the original \
             model",
            trial.weights.name()
        ));
    }
    order
}

/// The order that gives the host's bits; the expected one if it does. `None` if none does, or the host cannot be asked.
fn find(trial: Trial, expected: Order) -> Option<Order> {
    let weights = weights(trial);
    let x = numbers(trial.k * trial.columns, 2);
    let mut cpu = Cpu::new()?;
    cpu.set_threads(1);
    let by_host = by_host(&mut cpu, trial, &weights, &x)?;
    let gives_the_same =
        |&order: &Order| takes(order, trial.weights) && by_us(trial, order, &weights, &x) == by_host;
    [expected].into_iter().chain(Order::ALL).find(gives_the_same)
}

/// Orders of pairs round activations to BF16.
fn takes(order: Order, weights: Number) -> bool {
    weights == Number::Bf16 || !matches!(order, Order::Bf16Avx512Bf16 | Order::TileAvx512Bf16)
}

fn by_us(trial: Trial, order: Order, weights: &[u8], x: &[f32]) -> Vec<f32> {
    let k = trial.k;
    let (mut prepared, mut scratch) = (aligned(prepared_bytes(k)), aligned(scratch_bytes(k)));
    let mut y = vec![0.0; (trial.rows * trial.columns) as usize];
    for (x, y) in x.chunks_exact(k as usize).zip(y.chunks_exact_mut(trial.rows as usize)) {
        let prepared = prepared.bytes();
        prepare(order, Numbers::plain(trial.weights), x, prepared);
        plain_matvec(weights, trial.weights, k, order, prepared, y, scratch.bytes());
    }
    y
}

/// Bytes aligned as the kernels want them.
struct Aligned(Vec<[u64; 8]>);

fn aligned(bytes: usize) -> Aligned {
    Aligned(vec![[0; 8]; bytes.div_ceil(64)])
}

impl Aligned {
    fn bytes(&mut self) -> &mut [u8] {
        let words = self.0.as_flattened_mut();
        // SAFETY: any byte of initialised words is one.
        unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), size_of_val(words)) }
    }
}

fn weights(trial: Trial) -> Vec<u8> {
    let values = numbers(trial.k * trial.rows, 1);
    let to_bytes = |value: f32| match trial.weights {
        // Numbers of 8 significant bits, so that cutting is enough.
        Number::Bf16 => ((value.to_bits() >> 16) as u16).to_le_bytes().to_vec(),
        Number::F16 => half(value).to_le_bytes().to_vec(),
        Number::F32 => value.to_le_bytes().to_vec(),
    };
    values.into_iter().flat_map(to_bytes).collect()
}

/// The F16 that a number between 2^-14 and 2^15 is cut to.
fn half(value: f32) -> u16 {
    let bits = value.to_bits();
    (bits >> 16 & 0x8000) as u16 | (((bits & 0x7FFF_FFFF) - (112 << 23)) >> 13) as u16
}

/// Numbers of either sign between 2^-13 and 1, of all significant bits: even products of BF16 are so far apart then that their sums lose
/// bits at nearly every step, others in another order.
fn numbers(count: u64, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut number = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let bits = (state >> 24) as u32;
        f32::from_bits(bits & 0x807F_FFFF | (126 - (bits >> 23 & 0xFF) % 13) << 23)
    };
    (0..count).map(|_| number()).collect()
}
