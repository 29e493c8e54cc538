//! The kernels by themselves: in cache, where instructions count, and from memory, where bytes do.

use std::cell::RefCell;
use std::hint::black_box;
use std::time::Instant;

use rayon::ThreadPool;
use rayon::prelude::*;
use unweight::codec::constants::BLOCK;
use unweight::codec::number::f16_of_f32;
use unweight::codec::{Analysis, Encoder, Encoding, Number, Shape};
use unweight::kernel::{Isa, Numbers, Order, Tensor, plain_matvec, prepare, prepared_bytes, scratch_bytes};

use super::sample::{Sample, ratio};
use super::{Row, thread_counts};

const K: u64 = 2048;
/// A matrix that stays in L2: 0.25 MB of BF16, or 0.18 compressed.
const ROWS_IN_CACHE: u64 = 64;
/// A matrix of 256 MB of BF16, or 180 compressed.
const ROWS_IN_MEMORY: u64 = 1 << 16;
/// Columns of the product of two matrices.
const COLUMNS: u64 = 128;
/// Least time of one measurement in seconds.
const LEAST: f64 = 0.05;

/// A matrix in both forms.
struct Matrix {
    shape: Shape,
    original: Number,
    plain: Vec<u8>,
    encoding: Encoding,
    home: Aligned,
    piece: Aligned,
}

/// Bytes that begin at a multiple of 64, as in the files that are written.
struct Aligned {
    bytes: Vec<u8>,
    from: usize,
}

impl Aligned {
    fn new(bytes: &[u8]) -> Self {
        let mut room = vec![0; bytes.len() + 64];
        let from = room.as_ptr().align_offset(64);
        room[from..from + bytes.len()].copy_from_slice(bytes);
        room.truncate(from + bytes.len());
        Self { bytes: room, from }
    }

    fn get(&self) -> &[u8] {
        &self.bytes[self.from..]
    }
}

impl Matrix {
    fn new(kind: Kind, rows: u64) -> Self {
        let shape = Shape { k: K, rows };
        let plain = trained(kind, (K * rows) as usize);
        let encoder =
            Encoder::new(&Analysis::of(kind.original, &plain), shape).expect("such weights get smaller");
        let (home, piece) = encoder.whole(&plain);
        let (home, piece) = (Aligned::new(&home), Aligned::new(&piece));
        Self { shape, original: kind.original, plain, encoding: encoder.encoding, home, piece }
    }

    fn weights(&self) -> u64 {
        self.shape.k * self.shape.rows
    }

    fn tensor(&self) -> Tensor<'_> {
        let pieces = [(self.shape.rows, self.piece.get())];
        Tensor::open(self.encoding.id(), self.original, self.home.get(), self.shape.k, &pieces)
            .expect("what the encoder made")
    }
}

/// What weights are in the original, and what they were before that: no more than this is stored.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    original: Number,
    source: Number,
}

const KINDS: [Kind; 5] = [
    Kind { name: "BF16", original: Number::Bf16, source: Number::Bf16 },
    Kind { name: "F16 from BF16", original: Number::F16, source: Number::Bf16 },
    Kind { name: "F16", original: Number::F16, source: Number::F16 },
    Kind { name: "F32 from BF16", original: Number::F32, source: Number::Bf16 },
    Kind { name: "F32", original: Number::F32, source: Number::F32 },
];

/// Gaussian weights.
fn trained(kind: Kind, count: usize) -> Vec<u8> {
    let row = |number: usize| {
        let mut state = 0x9E37_79B9_7F4A_7C15u64.wrapping_mul(number as u64 + 1);
        let mut uniform = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 24) as f32
        };
        let mut gaussian = move || ((0..6).map(|_| uniform()).sum::<f32>() - 3.0) * 0.03;
        let mut weight = move || {
            let value = gaussian().to_bits();
            match (kind.original, kind.source) {
                (Number::F32, Number::F32) => value,
                (Number::F32, _) => value & 0xFFFF_0000,
                (Number::F16, Number::Bf16) => u32::from(f16_of_f32(value & 0xFFFF_0000)),
                (Number::F16, _) => u32::from(f16_of_f32(value)),
                (Number::Bf16, _) => value >> 16,
            }
        };
        let bytes = kind.original.bytes() as usize;
        (0..K as usize).flat_map(|_| weight().to_le_bytes().into_iter().take(bytes)).collect::<Vec<u8>>()
    };
    (0..count / K as usize).into_par_iter().flat_map_iter(row).collect()
}

/// Weights per second of one run after the other, for at least [`LEAST`] seconds.
fn rate(weights: u64, mut run: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut done = 0;
    while start.elapsed().as_secs_f64() < LEAST {
        run();
        done += weights;
    }
    done as f64 / start.elapsed().as_secs_f64()
}

/// Cycles per second, from a chain of multiplications that wait for each other, [`CHAIN`] cycles each. (Additions will not do: some
/// machines fold several into one.)
fn clock() -> f64 {
    const STEPS: u64 = 10_000_000;
    const CHAIN: f64 = 3.0;
    let start = Instant::now();
    let mut x = 3u64;
    for _ in 0..STEPS {
        // SAFETY: a multiplication. In assembly because a compiler would take the chain apart.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            std::arch::asm!("imul {0}, {0}", inout(reg) x, options(nomem, nostack))
        };
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        unsafe {
            std::arch::asm!("mul {0}, {0}, {0}", inout(reg) x, options(nomem, nostack))
        };
    }
    black_box(x);
    STEPS as f64 * CHAIN / start.elapsed().as_secs_f64()
}

/// One kernel on one matrix: weights per second.
type Kernel<'a> = Box<dyn Fn(&ThreadPool) -> f64 + Sync + 'a>;

/// The order of a dot and of a tile that a llama.cpp would have which was built for the instruction set in use.
fn orders(original: Number) -> (Order, Order) {
    match (Isa::used(), original) {
        (Isa::Avx512Bf16, Number::Bf16) => (Order::Bf16Avx512Bf16, Order::TileAvx512Bf16),
        (Isa::Avx512, Number::Bf16) => (Order::Bf16Avx512, Order::TileAvx512),
        (Isa::Avx512 | Isa::Avx512Bf16, Number::F16) => (Order::F16Avx512, Order::TileAvx512),
        (Isa::Avx512 | Isa::Avx512Bf16, Number::F32) => (Order::F32Avx512, Order::TileAvx512),
        (Isa::Avx2, Number::Bf16) => (Order::Bf16Avx2, Order::TileFma),
        (Isa::Avx2, Number::F16) => (Order::F16Fma, Order::TileFma),
        (Isa::Avx2, Number::F32) => (Order::F32Fma, Order::TileFma),
        (Isa::Neon, Number::F16) => (Order::F16Neon, Order::TileNeon),
        (Isa::Neon, Number::F32) => (Order::F32Neon, Order::TileNeon),
        (Isa::Ssse3, Number::F16) => (Order::F16Sse3, Order::F16Sse3),
        (Isa::Ssse3, Number::F32) => (Order::F32Sse3, Order::F32Sse3),
        (Isa::Neon | Isa::Ssse3 | Isa::Scalar, _) => (Order::Plain, Order::Plain),
    }
}

pub fn measure(rounds: u32) -> Vec<Row> {
    let clocks: Vec<f64> = (0..rounds).map(|_| clock() / 1e9).collect();
    let sample = Sample::of(&clocks);
    let mut rows = vec![Row { what: "clock".to_owned(), threads: 1, unit: "GHz", sample, ratio: None }];
    for kind in KINDS {
        rows.extend(measure_kind(kind, rounds));
    }
    rows
}

fn measure_kind(kind: Kind, rounds: u32) -> Vec<Row> {
    let (near, far) = (Matrix::new(kind, ROWS_IN_CACHE), Matrix::new(kind, ROWS_IN_MEMORY));
    let (dot, tile) = orders(kind.original);
    let mut rows = Vec::new();
    for threads in thread_counts() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        if threads == 1 {
            rows.extend(cycles(
                kind.name,
                &pool,
                rounds,
                &[
                    ("plain dot", plain_dot(&near, dot)),
                    ("decode and dot", compressed_dot(&near, dot)),
                    ("decode", decode(&near)),
                ],
            ));
        }
        rows.extend(compare(
            kind.name,
            &pool,
            rounds,
            &[
                ("plain dot", plain_dot(&far, dot)),
                ("read of as many bytes", read(&far)),
                ("decode and dot", compressed_dot(&far, dot)),
                ("decode", decode(&far)),
            ],
        ));
        rows.extend(compare(
            kind.name,
            &pool,
            rounds,
            &[("decode and product with 128 columns", product(&far, tile))],
        ));
    }
    rows
}

/// Measures kernels in turn; ratios are to the first.
fn compare(kind: &str, pool: &ThreadPool, rounds: u32, kernels: &[(&str, Kernel)]) -> Vec<Row> {
    let mut values = vec![Vec::new(); kernels.len()];
    for _ in 0..rounds {
        for (values, (_, kernel)) in values.iter_mut().zip(kernels) {
            values.push(kernel(pool) / 1e9);
        }
    }
    let row = |(i, ((name, _), sample)): (usize, (&(&str, Kernel), &Vec<f64>))| Row {
        what: format!("{kind}: {name}, from memory"),
        threads: pool.current_num_threads(),
        unit: "G weights/s",
        sample: Sample::of(sample),
        ratio: (i > 0).then(|| ratio(sample, &values[0])),
    };
    kernels.iter().zip(&values).enumerate().map(row).collect()
}

/// Measures kernels in turn on one thread, in cycles of the clock of the moment: fewer are better.
fn cycles(kind: &str, pool: &ThreadPool, rounds: u32, kernels: &[(&str, Kernel)]) -> Vec<Row> {
    let mut values = vec![Vec::new(); kernels.len()];
    for _ in 0..rounds {
        for (values, (_, kernel)) in values.iter_mut().zip(kernels) {
            let before = clock();
            let rate = kernel(pool);
            values.push(BLOCK as f64 * (before + clock()) / 2.0 / rate);
        }
    }
    let row = |((name, _), sample): (&(&str, Kernel), &Vec<f64>)| Row {
        what: format!("{kind}: {name}, in L2"),
        threads: 1,
        unit: "cycles per 64 weights",
        sample: Sample::of(sample),
        ratio: None,
    };
    kernels.iter().zip(&values).map(row).collect()
}

fn activations(order: Order, numbers: Numbers, seed: usize) -> Vec<u8> {
    let x: Vec<f32> = (0..K as usize).map(|i| ((i * 37 + seed) % 101) as f32 / 50.0 - 1.0).collect();
    let mut prepared = vec![0; prepared_bytes(K)];
    prepare(order, numbers, &x, &mut prepared);
    prepared
}

/// Rows that a thread takes at a time.
const CHUNK: usize = 64;

/// Rows decoded at a time: what is written stays in L1.
const DECODED: usize = 4;

thread_local! {
    /// Made once: to clear it for each run would cost more than some of the runs.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; scratch_bytes(K)]);
}

fn plain_dot(matrix: &Matrix, order: Order) -> Kernel<'_> {
    let (number, prepared) = (matrix.original, activations(order, Numbers::plain(matrix.original), 1));
    Box::new(move |pool| {
        let mut y = vec![0f32; matrix.shape.rows as usize];
        pool.install(|| {
            rate(matrix.weights(), || {
                let weights = matrix.plain.par_chunks(CHUNK * (K * number.bytes()) as usize);
                y.par_chunks_mut(CHUNK).zip(weights).for_each(|(y, w)| {
                    SCRATCH.with_borrow_mut(|scratch| {
                        plain_matvec(w, number, K, order, &prepared, y, scratch);
                    });
                });
                black_box(&y);
            })
        })
    })
}

fn compressed_dot(matrix: &Matrix, order: Order) -> Kernel<'_> {
    let prepared = activations(order, matrix.tensor().numbers(), 1);
    Box::new(move |pool| {
        let (tensor, mut y) = (matrix.tensor(), vec![0f32; matrix.shape.rows as usize]);
        pool.install(|| {
            rate(matrix.weights(), || {
                y.par_chunks_mut(CHUNK).enumerate().for_each(|(i, y)| {
                    SCRATCH.with_borrow_mut(|scratch| {
                        tensor.matvec(order, (i * CHUNK) as u64, &prepared, y, scratch);
                    });
                });
                black_box(&y);
            })
        })
    })
}

fn decode(matrix: &Matrix) -> Kernel<'_> {
    Box::new(move |pool| {
        let tensor = matrix.tensor();
        pool.install(|| {
            rate(matrix.weights(), || {
                (0..matrix.shape.rows / CHUNK as u64).into_par_iter().for_each_init(
                    || vec![0u8; DECODED * (K * matrix.original.bytes()) as usize],
                    |out, chunk| {
                        let first = chunk * CHUNK as u64;
                        for row in (first..first + CHUNK as u64).step_by(DECODED) {
                            tensor.decode(row, DECODED as u64, out);
                            black_box(&out);
                        }
                    },
                );
            })
        })
    })
}

/// The limit: the bytes of home and piece read, and nothing else.
fn read(matrix: &Matrix) -> Kernel<'_> {
    Box::new(move |pool| {
        pool.install(|| {
            rate(matrix.weights(), || {
                let sum = |chunk: &[u8]| {
                    chunk.as_chunks::<8>().0.iter().fold(0u64, |sum, word| sum ^ u64::from_le_bytes(*word))
                };
                for bytes in [matrix.home.get(), matrix.piece.get()] {
                    black_box(bytes.par_chunks(1 << 18).map(sum).reduce(|| 0, |a, b| a ^ b));
                }
            })
        })
    })
}

fn product(matrix: &Matrix, order: Order) -> Kernel<'_> {
    const TILE: u64 = 16;
    let numbers = matrix.tensor().numbers();
    let prepared: Vec<u8> =
        (0..COLUMNS as usize).flat_map(|column| activations(order, numbers, column)).collect();
    // A part of the matrix is enough: this is bound by arithmetic.
    let rows = matrix.shape.rows.min(4096);
    Box::new(move |pool| {
        let tensor = matrix.tensor();
        pool.install(|| {
            rate(rows * K, || {
                (0..rows / TILE).into_par_iter().for_each_init(
                    || vec![0f32; (TILE * COLUMNS) as usize],
                    |y, tile| {
                        let (y, stride) = (y.as_mut_ptr(), TILE as usize);
                        // SAFETY: `y` holds a column of TILE floats for each of COLUMNS, and is this thread's.
                        SCRATCH.with_borrow_mut(|scratch| unsafe {
                            tensor.matmul(order, tile * TILE, TILE, &prepared, COLUMNS, y, stride, scratch);
                        });
                        black_box(y);
                    },
                );
            })
        })
    })
}
