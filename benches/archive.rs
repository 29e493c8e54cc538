//! Sizes and rates of the codes of archives, for the tensors of a model, beside those of zstd at level 3 in the same run, on one thread:
//!     cargo bench --bench archive -- MODEL.gguf [ROUNDS]
//! Rates are bytes of the original a second; each row is a median over all tensors of its kind.

use std::hint::black_box;
use std::time::{Duration, Instant};

use unweight::archive::{self, planes};
use unweight::codec::Number;
use unweight::container::gguf::{Gguf, TensorInfo};
use unweight::kernel::Isa;

const LEVEL: i32 = 3;

/// A tensor, cut into chunks.
struct Tensor<'a> {
    kind: Kind,
    bytes: &'a [u8],
    /// Bytes of a row or a record, and of a chunk.
    unit: usize,
    chunk: usize,
}

#[derive(Clone)]
enum Kind {
    Weights(Number),
    /// Where the planes of a record end.
    Planes(&'static [usize]),
}

enum Encoder {
    Weights(archive::Encoder),
    Planes(planes::Encoder),
}

enum Model {
    Weights(archive::Model),
    Planes(planes::Model),
}

/// A tensor, coded both ways.
struct Coded {
    model: Vec<u8>,
    chunks: Vec<Vec<u8>>,
    zstd: Vec<u8>,
}

/// Records of a quantized type, by its name: scales apart from quants.
fn planes_of(name: &str) -> Option<&'static [usize]> {
    Some(match name {
        "Q8_0" => &[2, 34],
        "Q4_0" => &[2, 18],
        "Q4_1" => &[4, 20],
        "Q5_0" => &[2, 6, 22],
        "Q5_1" => &[4, 8, 24],
        "Q4_K" => &[4, 16, 144],
        "Q5_K" => &[4, 16, 48, 176],
        "Q6_K" => &[128, 192, 208, 210],
        "MXFP4" => &[1, 17],
        _ => return None,
    })
}

fn tensor<'a>(file: &Gguf<'a>, info: &TensorInfo<'a>) -> Option<Tensor<'a>> {
    let number = Number::ALL.into_iter().find(|number| number.name() == info.ty.name());
    let (kind, unit) = match number {
        Some(number) => (Kind::Weights(number), info.dims.row() * number.bytes()),
        None => (Kind::Planes(planes_of(info.ty.name())?), info.ty.block_bytes()),
    };
    let (unit, size) = (unit as usize, number.map_or(1, Number::bytes) as usize);
    let units = number.map_or(archive::chunk_records(unit), |_| archive::chunk_rows(unit / size));
    let chunk = units * unit;
    let is_matrix = info.dims.as_slice().len() > 1;
    is_matrix.then(|| Tensor { kind, bytes: file.bytes(info), unit, chunk })
}

impl Tensor<'_> {
    fn learn(&self) -> Encoder {
        match self.kind {
            Kind::Weights(number) => {
                let k = self.unit / number.bytes() as usize;
                Encoder::Weights(archive::Encoder::learn(number, k, self.bytes, false).expect("whole rows"))
            }
            Kind::Planes(ends) => Encoder::Planes(
                planes::Encoder::learn(self.unit, ends, self.bytes, false).expect("whole records"),
            ),
        }
    }

    fn encode(&self) -> (Vec<u8>, Vec<Vec<u8>>) {
        let encoder = self.learn();
        let chunk = |bytes: &[u8]| match &encoder {
            Encoder::Weights(encoder) => encoder.encode(bytes).expect("learnt"),
            Encoder::Planes(encoder) => encoder.encode(bytes).expect("learnt"),
        };
        let model = match &encoder {
            Encoder::Weights(encoder) => encoder.model().to_bytes(),
            Encoder::Planes(encoder) => encoder.model().to_bytes(),
        };
        (model, self.bytes.chunks(self.chunk).map(chunk).collect())
    }

    fn decode(&self, coded: &Coded, out: &mut [u8]) {
        let model = match self.kind {
            Kind::Weights(number) => {
                let k = self.unit / number.bytes() as usize;
                Model::Weights(archive::Model::from_bytes(number, k, &coded.model).expect("a model"))
            }
            Kind::Planes(ends) => {
                Model::Planes(planes::Model::from_bytes(self.unit, ends, &coded.model).expect("a model"))
            }
        };
        for (chunk, out) in coded.chunks.iter().zip(out.chunks_mut(self.chunk)) {
            match &model {
                Model::Weights(model) => model.decode(chunk, out).expect("a chunk"),
                Model::Planes(model) => model.decode(chunk, out).expect("a chunk"),
            }
        }
    }

    /// Bits of a weight if the exponent is coded as well as its frequency allows, and as that given row and column does.
    fn entropies(&self) -> Option<(f64, f64)> {
        const CLASSES: usize = 32;
        let Kind::Weights(number) = self.kind else { return None };
        let (low, bits) = match number {
            Number::Bf16 => (7, 16),
            Number::F16 => (10, 16),
            Number::F32 => (23, 32),
        };
        let exponent_bits = bits - low - 1;
        let exponent = |word: &[u8]| {
            let word = word.iter().rev().fold(0u32, |word, &byte| word << 8 | u32::from(byte));
            (word >> low) as usize & ((1 << exponent_bits) - 1)
        };
        let exponents: Vec<usize> = self.bytes.chunks(number.bytes() as usize).map(exponent).collect();
        let (k, n) = (self.unit / number.bytes() as usize, exponents.len() as f64);
        let mean = exponents.iter().sum::<usize>() as f64 / n;
        let rows: Vec<f64> =
            exponents.chunks(k).map(|row| row.iter().sum::<usize>() as f64 / k as f64 - mean).collect();
        let mut columns = vec![0.0; k];
        for row in exponents.chunks(k) {
            columns.iter_mut().zip(row).for_each(|(sum, &exponent)| *sum += exponent as f64);
        }
        let mut counts = vec![[0u32; 256]; CLASSES + 1];
        for (row, &of_row) in exponents.chunks(k).zip(&rows) {
            for (&exponent, &column) in row.iter().zip(&columns) {
                let sum = of_row + column / rows.len() as f64 - mean;
                counts[(sum * 8.0 + 16.0).clamp(0.0, CLASSES as f64 - 1.0) as usize][exponent] += 1;
                counts[CLASSES][exponent] += 1;
            }
        }
        let cost = |counts: &[u32; 256]| {
            let all = f64::from(counts.iter().sum::<u32>());
            let bits = |&count: &u32| {
                if count == 0 { 0.0 } else { f64::from(count) * (all / f64::from(count)).log2() }
            };
            counts.iter().map(bits).sum::<f64>()
        };
        let raw = n * f64::from(bits - exponent_bits);
        Some((cost(&counts[CLASSES]) + raw, counts[..CLASSES].iter().map(cost).sum::<f64>() + raw))
    }
}

fn timed(run: impl FnOnce()) -> Duration {
    let start = Instant::now();
    run();
    start.elapsed()
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}

fn main() {
    // cargo itself passes --bench.
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let Some(path) = arguments.next() else {
        println!("SKIPPED: the codes of archives: no model named");
        return;
    };
    let rounds: usize = arguments.next().map_or(9, |rounds| rounds.parse().expect("a number of rounds"));
    let file = std::fs::read(&path).expect("a model that can be read");
    let file = Gguf::parse(&file).expect("a GGUF file");
    let mut kinds: Vec<&str> = file.tensors.iter().map(|info| info.ty.name()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for kind in kinds {
        let infos = file.tensors.iter().filter(|info| info.ty.name() == kind);
        let tensors: Vec<Tensor> = infos.filter_map(|info| tensor(&file, info)).collect();
        if !tensors.is_empty() {
            measure(kind, &tensors, rounds);
        }
    }
}

fn measure(kind: &str, tensors: &[Tensor], rounds: usize) {
    let isas: Vec<Isa> =
        [Isa::Scalar, Isa::Avx2, Isa::Avx512].into_iter().filter(|isa| isa.available()).collect();
    let zstd = |tensor: &Tensor| zstd::bulk::compress(tensor.bytes, LEVEL).expect("zstd");
    let coded = |tensor: &Tensor| {
        let (model, chunks) = tensor.encode();
        Coded { model, chunks, zstd: zstd(tensor) }
    };
    let coded: Vec<Coded> = tensors.iter().map(coded).collect();
    let bytes: usize = tensors.iter().map(|tensor| tensor.bytes.len()).sum();
    let ours: usize =
        coded.iter().map(|coded| coded.model.len() + coded.chunks.iter().map(Vec::len).sum::<usize>()).sum();
    let models: usize = coded.iter().map(|coded| coded.model.len()).sum();
    let theirs: usize = coded.iter().map(|coded| coded.zstd.len()).sum();
    let per_weight = match tensors[0].kind {
        Kind::Weights(number) => 8.0 * number.bytes() as f64 / bytes as f64,
        Kind::Planes(_) => 8.0 / bytes as f64,
    };
    println!("{kind}: {} tensors, {bytes} bytes", tensors.len());
    let size = |size: usize| {
        format!("{:.4} bits each, {:.2} %", size as f64 * per_weight, size as f64 * 100.0 / bytes as f64)
    };
    println!("  coded                 {} (models {models} bytes)", size(ours));
    println!("  zstd -{LEVEL}               {}", size(theirs));
    let entropies: Option<Vec<_>> = tensors.iter().map(Tensor::entropies).collect();
    if let Some(entropies) = entropies {
        let plain: f64 = entropies.iter().map(|entropies| entropies.0).sum();
        let given: f64 = entropies.iter().map(|entropies| entropies.1).sum();
        println!("  entropy               {}", size((plain / 8.0) as usize));
        println!("  given row and column  {}", size((given / 8.0) as usize));
    }

    let mut out = vec![0; tensors.iter().map(|tensor| tensor.bytes.len()).max().unwrap_or(0)];
    let (mut coding, mut zstd_coding, mut zstd_decoding) = (Vec::new(), Vec::new(), Vec::new());
    let mut decoding = vec![Vec::new(); isas.len()];
    for _ in 0..rounds {
        coding.push(timed(|| tensors.iter().for_each(|tensor| drop(black_box(tensor.encode())))));
        zstd_coding.push(timed(|| tensors.iter().for_each(|tensor| drop(black_box(zstd(tensor))))));
        let mut decompressor = zstd::bulk::Decompressor::new().expect("zstd");
        zstd_decoding.push(timed(|| {
            for (tensor, coded) in tensors.iter().zip(&coded) {
                let out = &mut out[..tensor.bytes.len()];
                decompressor.decompress_to_buffer(&coded.zstd, out).expect("zstd");
            }
        }));
        for (isa, times) in isas.iter().zip(&mut decoding) {
            assert!(isa.select());
            times.push(timed(|| {
                for (tensor, coded) in tensors.iter().zip(&coded) {
                    tensor.decode(coded, &mut out[..tensor.bytes.len()]);
                }
            }));
            let last = tensors.len() - 1;
            assert!(out[..tensors[last].bytes.len()] == *tensors[last].bytes, "{}", isa.name());
        }
    }
    let rate = |times: &mut [Duration]| bytes as f64 / 1e9 / median(times);
    let (zstd_in, zstd_out) = (rate(&mut zstd_coding), rate(&mut zstd_decoding));
    println!("  zstd                  {zstd_in:.2} GB/s in, {zstd_out:.2} out");
    let coding = rate(&mut coding);
    println!("  coding                {coding:.2} GB/s, x{:.2}", coding / zstd_in);
    for (isa, times) in isas.iter().zip(&mut decoding) {
        let decoding = rate(times);
        println!("  decoding, {:<11} {decoding:.2} GB/s, x{:.2}", isa.name(), decoding / zstd_out);
    }
}
