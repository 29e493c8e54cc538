//! `inspect`: what was found in each tensor.

use std::io::{Write, stdout};
use std::ops::Range;
use std::path::PathBuf;

use anyhow::{Context, Result};
use comfy_table::CellAlignment;
use serde::Serialize;
use unweight::codec::{Analysis, Encoding, Shape};
use unweight::container::converted::{Converted, is_converted};
use unweight::container::gguf::TensorType;
use unweight::container::pool::{Stored, VERSION};
use unweight::kernel::Tensor;

use super::blob::{Buffers, decode};
use super::input::Input;
use super::progress::{bar, size};
use super::survey::count;
use super::table::{self, percent};

#[derive(clap::Args)]
pub struct Arguments {
    /// A GGUF file, compressed or not
    file: PathBuf,
    /// Print JSON: sizes in bytes, entropy in bits per weight
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    file: String,
    file_bytes: u64,
    /// Absent for a file that is not compressed.
    unweight: Option<Unweight>,
    tensors: Vec<Row>,
    total: Total,
}

#[derive(Serialize)]
struct Unweight {
    version: u32,
    writer: Option<String>,
    original_bytes: u64,
    original_blake3: String,
    metadata_untouched: bool,
}

#[derive(Serialize)]
struct Row {
    name: String,
    r#type: String,
    shape: Vec<u64>,
    encoding: String,
    original_bytes: u64,
    stored_bytes: u64,
    bits_per_weight: f64,
    /// Of BF16 tensors.
    exponent_entropy: Option<f64>,
    /// Of compressed tensors.
    escapes: Option<u64>,
}

#[derive(Serialize)]
struct Total {
    compressed_tensors: u64,
    compressed_weights: u64,
    original_bytes: u64,
    /// Pool header, index, blobs and the padding between them.
    stored_bytes: u64,
    /// Bytes that the carriers reserve beyond that: their sizes come in steps.
    unused_bytes: u64,
    bits_per_weight: Option<f64>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let file = Input::open(&arguments.file)?;
    let name = || file.path.display().to_string();
    let gguf = file.parse()?;
    let report = if is_converted(&gguf) {
        let converted = Converted::open(gguf).with_context(name)?;
        of_converted(&file, &converted).with_context(name)?
    } else {
        let progress = bar("reading", file.len());
        let mut tensors = Vec::new();
        for tensor in &gguf.tensors {
            let position = gguf.position(tensor);
            let analysis = analyse_plain(&file, tensor.ty, position..position + tensor.len)?;
            progress.inc(tensor.len);
            let elements = tensor.dims.elements().unwrap_or(0);
            tensors.push(Row::plain(
                tensor.name,
                tensor.ty,
                tensor.dims.as_slice(),
                tensor.len,
                elements,
                analysis,
            ));
        }
        let total = Total {
            compressed_tensors: 0,
            compressed_weights: 0,
            original_bytes: 0,
            stored_bytes: 0,
            unused_bytes: 0,
            bits_per_weight: None,
        };
        Report { file: name(), file_bytes: file.len(), unweight: None, tensors, total }
    };
    if arguments.json {
        serde_json::to_writer_pretty(stdout(), &report)?;
        writeln!(stdout())?;
        return Ok(());
    }
    print(&report)
}

fn of_converted(file: &Input, converted: &Converted) -> Result<Report> {
    let index = &converted.index;
    let progress = bar("reading", index.entries.iter().map(|entry| entry.len).sum());
    let mut tensors = Vec::new();
    let mut total = Total {
        compressed_tensors: 0,
        compressed_weights: 0,
        original_bytes: 0,
        stored_bytes: converted.header.pool_len - index.remainder.map_or(0, |remainder| remainder.extent.len),
        unused_bytes: converted.pool.len() as u64 - converted.header.pool_len,
        bits_per_weight: None,
    };
    let mut buffers = Buffers::default();
    for entry in &index.entries {
        let elements = entry.dims.elements().unwrap_or(0);
        let Stored::Blob { encoding, extent, .. } = entry.stored else {
            let tensor = converted.gguf.tensor(&entry.name).context("a tensor of the index is missing")?;
            let position = converted.gguf.position(tensor);
            let analysis = analyse_plain(file, entry.ty, position..position + entry.len)?;
            progress.inc(entry.len);
            tensors.push(Row::plain(
                &entry.name,
                entry.ty,
                entry.dims.as_slice(),
                entry.len,
                elements,
                analysis,
            ));
            continue;
        };
        let start = converted.pool_position + extent.offset;
        let shape = Shape::of(&entry.dims).context("a shape overflows")?;
        let mut analysis = Analysis::default();
        let place = || format!("tensor {:?}", entry.name);
        decode(&mut buffers, file, start..start + extent.len, encoding, shape, |bytes| {
            analysis.add(&analyse(bytes));
            progress.inc(bytes.len() as u64);
            Ok(())
        })
        .with_context(place)?;
        let escapes = Tensor::open_as(encoding, converted.blob(entry), shape).with_context(place)?.escapes();
        total.compressed_tensors += 1;
        total.compressed_weights += elements;
        total.original_bytes += entry.len;
        tensors.push(Row {
            encoding: Encoding::from_id(encoding)
                .map_or_else(|| encoding.to_string(), |known| known.name().to_owned()),
            stored_bytes: extent.len,
            bits_per_weight: bits(extent.len, elements),
            escapes: Some(escapes),
            ..Row::plain(&entry.name, entry.ty, entry.dims.as_slice(), entry.len, elements, Some(analysis))
        });
    }
    progress.finish_and_clear();
    total.bits_per_weight = Some(bits(total.stored_bytes, total.compressed_weights));
    let unweight = Unweight {
        version: VERSION,
        writer: converted.gguf.kv("unweight.writer").and_then(|pair| pair.as_str()).map(str::to_owned),
        original_bytes: index.original_len,
        original_blake3: blake3::Hash::from(index.original_blake3).to_hex().to_string(),
        metadata_untouched: converted.metadata_untouched(),
    };
    let name = file.path.display().to_string();
    Ok(Report { file: name, file_bytes: file.len(), unweight: Some(unweight), tensors, total })
}

impl Row {
    fn plain(
        name: &str,
        ty: TensorType,
        shape: &[u64],
        bytes: u64,
        elements: u64,
        analysis: Option<Analysis>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            r#type: ty.name().to_owned(),
            shape: shape.to_vec(),
            encoding: "plain".to_owned(),
            original_bytes: bytes,
            stored_bytes: bytes,
            bits_per_weight: bits(bytes, elements),
            exponent_entropy: analysis.map(|analysis| analysis.entropy()),
            escapes: None,
        }
    }
}

fn analyse_plain(file: &Input, ty: TensorType, range: Range<u64>) -> Result<Option<Analysis>> {
    if ty != TensorType::BF16 {
        return Ok(None);
    }
    let mut analysis = Analysis::default();
    file.windows(range, |bytes| {
        analysis.add(&analyse(bytes));
        Ok(())
    })?;
    Ok(Some(analysis))
}

fn analyse(bytes: &[u8]) -> Analysis {
    let weights: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
    let mut analysis = Analysis::default();
    count(&mut analysis, &weights);
    analysis
}

fn bits(bytes: u64, weights: u64) -> f64 {
    8.0 * bytes as f64 / weights.max(1) as f64
}

fn print(report: &Report) -> Result<()> {
    let mut table =
        table::new(["tensor", "type", "shape", "encoding", "bits/weight", "exponent entropy", "escapes"]);
    for row in &report.tensors {
        let shape: Vec<_> = row.shape.iter().map(u64::to_string).collect();
        let weights: u64 = row.shape.iter().product();
        table.add_row([
            row.name.clone(),
            row.r#type.clone(),
            shape.join(" x "),
            row.encoding.clone(),
            format!("{:.2}", row.bits_per_weight),
            row.exponent_entropy.map_or_else(String::new, |entropy| format!("{entropy:.2}")),
            row.escapes.map_or_else(String::new, |escapes| percent(escapes, weights)),
        ]);
    }
    table::align(&mut table, 4, CellAlignment::Right);
    let mut out = stdout().lock();
    writeln!(out, "{table}\n")?;
    let (total, file) = (&report.total, size(report.file_bytes));
    let Some(unweight) = &report.unweight else {
        writeln!(out, "{} tensors, {file}, not compressed", report.tensors.len())?;
        return Ok(());
    };
    writeln!(
        out,
        "{} of {} tensors compressed: {} -> {}, {:.3} bits/weight with index and padding; {} more reserved, unused",
        total.compressed_tensors,
        report.tensors.len(),
        size(total.original_bytes),
        size(total.stored_bytes),
        total.bits_per_weight.unwrap_or(0.0),
        size(total.unused_bytes)
    )?;
    let saved = percent(unweight.original_bytes.saturating_sub(report.file_bytes), unweight.original_bytes);
    writeln!(out, "file: {} -> {file}, {saved} smaller", size(unweight.original_bytes))?;
    writeln!(out, "original BLAKE3: {}", unweight.original_blake3)?;
    if !unweight.metadata_untouched {
        writeln!(out, "a tool has changed the metadata since the file was made")?;
    }
    Ok(())
}
