//! `inspect`: what was found in each tensor.

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use anyhow::Result;
use comfy_table::CellAlignment;
use serde::Serialize;
use unweight::codec::{Analysis, Encoding, Number};
use unweight::container::archive::{self, Coding};
use unweight::container::converted::Converted;
use unweight::container::gguf::TensorInfo;
use unweight::container::rooms::{HEADER_BYTES, Index, VERSION, room_bytes};
use unweight::convert::{
    Archive, Holder, Opening, Original, Progress, Replay, Source, Stage, analyse, shards,
};

use super::numbers::{self, Compressed};
use super::picture::{self, Picture};
use super::progress::{Bar, size};
use super::table::{self, percent};

#[derive(clap::Args)]
pub struct Arguments {
    /// A GGUF file, compressed or not; the first shard of a model stands for all
    file: PathBuf,
    /// Print JSON: sizes in bytes, entropy in bits per weight
    #[arg(long)]
    json: bool,
    /// Also draw where the bytes are, and the exponents of a few tensors
    #[arg(long, value_name = "PICTURE.svg", value_parser = picture::path)]
    svg: Option<PathBuf>,
}

/// Weights of a tensor whose exponents are kept to be drawn.
const LEAST_SHOWN: u64 = 1024;

#[derive(Serialize)]
struct Report {
    /// The first of several.
    file: String,
    /// Shards of a model, read as one.
    files: usize,
    file_bytes: u64,
    /// Absent for a file that is not compressed.
    unweight: Option<Unweight>,
    tensors: Vec<Row>,
    total: Total,
}

#[derive(Serialize)]
struct Unweight {
    /// "runs" or "archive".
    form: &'static str,
    version: u32,
    writer: Option<String>,
    /// Absent where a tool has changed a file.
    original_bytes: Option<u64>,
    /// Absent where a tool has changed the file, and of several.
    original_blake3: Option<String>,
    metadata_untouched: bool,
}

#[derive(Serialize)]
struct Row {
    name: String,
    /// In the original.
    r#type: String,
    /// Of tensors of full precision: the kind of numbers that they are stored as, or where they are plain, the narrowest that could be.
    numbers: Option<&'static str>,
    #[serde(skip)]
    compressed: Option<Compressed>,
    shape: Vec<u64>,
    #[serde(skip)]
    weights: u64,
    encoding: String,
    original_bytes: u64,
    stored_bytes: u64,
    bits_per_weight: f64,
    /// Of tensors of full precision.
    exponent_entropy: Option<f64>,
    /// Of compressed tensors.
    escapes: Option<u64>,
    /// Of tensors large enough to be shown.
    #[serde(skip)]
    exponents: Option<Box<[u64; 256]>>,
}

#[derive(Serialize, Default)]
struct Total {
    compressed_tensors: u64,
    compressed_weights: u64,
    original_bytes: u64,
    /// All bytes of the carriers, but for what holds bytes of the original that are in no tensor.
    stored_bytes: u64,
    /// Bytes of these that hold nothing: the sizes of rooms come in steps.
    unused_bytes: u64,
    /// Without these bytes, but with headers and the index.
    bits_per_weight: Option<f64>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let files = shards::all(&arguments.file)?;
    let progress = Bar::default();
    let reports = files.iter().enumerate().map(|(i, file)| {
        progress.file(i + 1, files.len());
        of(file, &progress)
    });
    let reports = reports.collect::<Result<Vec<_>>>()?;
    progress.finish();
    let report = reports.into_iter().reduce(Report::and).expect("a model has a file");
    if let Some(path) = &arguments.svg {
        picture::draw(&report.picture(), path, &files)?;
    }
    if arguments.json {
        serde_json::to_writer_pretty(stdout(), &report)?;
        writeln!(stdout())?;
        return Ok(());
    }
    print(&report)
}

fn of(file: &Path, progress: &Bar) -> Result<Report> {
    let holder = Holder::open(file)?;
    progress.begin(Stage::Reading, holder.file().len());
    match &holder {
        Holder::Converted(opening) => of_converted(opening, &opening.converted()?, progress),
        Holder::Archive(archive) => of_archive(archive, progress),
        Holder::Original(source) => of_original(source, progress),
    }
}

fn of_original(source: &Source, progress: &Bar) -> Result<Report> {
    let gguf = source.gguf()?;
    let mut tensors = Vec::new();
    for (i, tensor) in gguf.tensors.iter().enumerate() {
        let analysis = analyse(source, &gguf, i)?;
        progress.advance(tensor.len);
        tensors.push(Row::plain(tensor, analysis));
    }
    Ok(Report::new(source, None, tensors, Total::default()))
}

fn of_converted(opening: &Opening, converted: &Converted, progress: &Bar) -> Result<Report> {
    let source = opening.file();
    let replay = Replay::new(opening.files(), converted)?;
    let gguf = replay.gguf()?;
    let mut tensors = Vec::new();
    let mut total = Total::default();
    for (i, tensor) in gguf.tensors.iter().enumerate() {
        let plain = Row::plain(tensor, analyse(&replay, &gguf, i)?);
        progress.advance(tensor.len);
        let Some(located) = converted.locate(tensor.name)? else {
            tensors.push(plain);
            continue;
        };
        let coded = &replay.coded(i).expect("what has parts was opened").tensor;
        let carrier = converted.gguf.tensor(tensor.name).expect("what has parts is there");
        let pieces: u64 = located.pieces.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        let stored_bytes = located.home.len() as u64 + pieces;
        total.compressed_tensors += 1;
        total.compressed_weights += coded.k() * coded.rows();
        total.original_bytes += tensor.len;
        total.stored_bytes += carrier.len;
        total.unused_bytes += room_bytes(carrier.ty, &carrier.dims).unwrap_or(0);
        let stored = coded.numbers().stored;
        tensors.push(Row {
            numbers: Some(stored.name()),
            compressed: Some(Compressed {
                ty: tensor.ty,
                number: stored,
                before: tensor.len,
                after: stored_bytes,
            }),
            encoding: Encoding::from_id(located.encoding).expect("it was opened as such").name().to_owned(),
            stored_bytes,
            bits_per_weight: bits(stored_bytes, coded.k() * coded.rows()),
            escapes: Some(coded.escapes()),
            ..plain
        });
    }
    let untouched = converted.untouched();
    if let Some(index) = untouched {
        let remainder = index.remainder.map_or(0, |remainder| remainder.len);
        total.stored_bytes -= remainder;
        total.unused_bytes -= used_of_rooms(index) + remainder;
    }
    total.bits_per_weight = Some(bits(total.stored_bytes - total.unused_bytes, total.compressed_weights));
    let unweight = Unweight {
        form: "runs",
        version: VERSION,
        writer: converted.gguf.text("unweight.writer").map(str::to_owned),
        original_bytes: untouched.map(|index| index.original_len),
        original_blake3: untouched
            .map(|index| blake3::Hash::from(index.original_blake3).to_hex().to_string()),
        metadata_untouched: untouched.is_some(),
    };
    Ok(Report::new(source, Some(unweight), tensors, total))
}

fn of_archive(archive: &Archive, progress: &Bar) -> Result<Report> {
    let source = archive.file();
    let (shell, gguf) = (source.gguf()?, archive.gguf()?);
    let mut tensors = Vec::new();
    let mut total = Total::default();
    for (i, tensor) in gguf.tensors.iter().enumerate() {
        let plain = Row::plain(tensor, analyse(archive, &gguf, i)?);
        progress.advance(tensor.len);
        let Some(entry) = archive.entry(i).filter(|entry| entry.coding != Coding::Stored) else {
            tensors.push(plain);
            continue;
        };
        let (stored_bytes, weights) = (entry.len(), tensor.dims.elements().unwrap_or(0));
        total.compressed_tensors += 1;
        total.compressed_weights += weights;
        total.original_bytes += tensor.len;
        total.stored_bytes += stored_bytes;
        let number = match entry.coding {
            Coding::Weights { number, .. } => Some(number),
            Coding::Records { .. } | Coding::Stored => None,
        };
        let compressed =
            |number| Compressed { ty: tensor.ty, number, before: tensor.len, after: stored_bytes };
        tensors.push(Row {
            numbers: number.map(Number::name).or(plain.numbers),
            compressed: number.map(compressed),
            encoding: if number.is_some() { "archived weights" } else { "archived records" }.to_owned(),
            stored_bytes,
            bits_per_weight: bits(stored_bytes, weights),
            ..plain
        });
    }
    total.bits_per_weight = Some(bits(total.stored_bytes, total.compressed_weights));
    let unweight = Unweight {
        form: "archive",
        version: archive::VERSION,
        writer: shell.text("unweight.writer").map(str::to_owned),
        original_bytes: Some(archive.index().original_len),
        original_blake3: Some(blake3::Hash::from(archive.index().original_blake3).to_hex().to_string()),
        metadata_untouched: true,
    };
    Ok(Report::new(source, Some(unweight), tensors, total))
}

/// Bytes of rooms that hold something of the tensors: headers, the index, pieces.
fn used_of_rooms(index: &Index) -> u64 {
    let pieces: u64 = index.entries.iter().flat_map(|entry| entry.pieces()).map(|piece| piece.len).sum();
    index.rooms.len() as u64 * HEADER_BYTES + index.to_bytes().len() as u64 + pieces
}

impl Unweight {
    /// With so many bytes of shards that are plain.
    fn beside(self, plain: u64) -> Self {
        Self { original_bytes: self.original_bytes.map(|bytes| bytes + plain), original_blake3: None, ..self }
    }
}

impl Report {
    fn new(source: &Source, unweight: Option<Unweight>, tensors: Vec<Row>, total: Total) -> Self {
        let (file, file_bytes) = (source.path.display().to_string(), source.len());
        Self { file, files: 1, file_bytes, unweight, tensors, total }
    }

    /// Two shards of a model as one file.
    fn and(mut self, other: Self) -> Self {
        self.files += other.files;
        self.unweight = match (self.unweight, other.unweight) {
            (Some(this), Some(other)) => Some(Unweight {
                original_bytes: this.original_bytes.zip(other.original_bytes).map(|(a, b)| a + b),
                original_blake3: None,
                metadata_untouched: this.metadata_untouched && other.metadata_untouched,
                ..this
            }),
            // A shard that had nothing to compress is its own original.
            (Some(this), None) => Some(this.beside(other.file_bytes)),
            (None, Some(other)) => Some(other.beside(self.file_bytes)),
            (None, None) => None,
        };
        self.file_bytes += other.file_bytes;
        self.tensors.extend(other.tensors);
        let (a, b) = (&self.total, &other.total);
        let sum = |of: fn(&Total) -> u64| of(a) + of(b);
        // Bits of all weights together.
        let bits_of = |total: &Total| total.bits_per_weight.unwrap_or(0.0) * total.compressed_weights as f64;
        let weights = sum(|total| total.compressed_weights);
        self.total = Total {
            compressed_tensors: sum(|total| total.compressed_tensors),
            compressed_weights: weights,
            original_bytes: sum(|total| total.original_bytes),
            stored_bytes: sum(|total| total.stored_bytes),
            unused_bytes: sum(|total| total.unused_bytes),
            bits_per_weight: a
                .bits_per_weight
                .or(b.bits_per_weight)
                .map(|_| (bits_of(a) + bits_of(b)) / weights.max(1) as f64),
        };
        self
    }

    fn picture(&self) -> Picture<'_> {
        let name = Path::new(&self.file).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let before = self.unweight.as_ref().and_then(|unweight| unweight.original_bytes);
        let tensors = self.tensors.iter().map(|row| picture::Tensor {
            name: &row.name,
            weights: row.weights,
            before: row.original_bytes,
            after: row.stored_bytes,
            is_compressed: row.encoding != "plain",
            exponents: row.exponents.as_deref(),
            entropy: row.exponent_entropy.unwrap_or(0.0),
        });
        Picture { name, before, after: self.file_bytes, tensors: tensors.collect() }
    }
}

impl Row {
    /// A tensor of the original.
    fn plain(tensor: &TensorInfo, analysis: Option<Analysis>) -> Self {
        Self {
            name: tensor.name.to_owned(),
            r#type: tensor.ty.name().to_owned(),
            shape: tensor.dims.as_slice().to_vec(),
            weights: tensor.dims.elements().unwrap_or(0),
            encoding: "plain".to_owned(),
            original_bytes: tensor.len,
            stored_bytes: tensor.len,
            bits_per_weight: bits(tensor.len, tensor.dims.elements().unwrap_or(0)),
            numbers: analysis.as_ref().map(|analysis| analysis.narrowest().name()),
            compressed: None,
            exponent_entropy: analysis.as_ref().map(Analysis::entropy),
            escapes: None,
            exponents: analysis
                .as_ref()
                .filter(|analysis| analysis.weights() >= LEAST_SHOWN)
                .map(|analysis| Box::new(analysis.exponents())),
        }
    }
}

fn bits(bytes: u64, weights: u64) -> f64 {
    8.0 * bytes as f64 / weights.max(1) as f64
}

fn print(report: &Report) -> Result<()> {
    let mut table =
        table::new(["tensor", "type", "shape", "encoding", "bits/weight", "exponent entropy", "escapes"]);
    for row in &report.tensors {
        let shape: Vec<_> = row.shape.iter().map(u64::to_string).collect();
        table.add_row([
            table::plain(&row.name),
            row.numbers.map_or_else(|| row.r#type.clone(), |numbers| numbers::name(numbers, &row.r#type)),
            shape.join(" x "),
            row.encoding.clone(),
            format!("{:.2}", row.bits_per_weight),
            row.exponent_entropy.map_or_else(String::new, |entropy| format!("{entropy:.2}")),
            row.escapes.map_or_else(String::new, |escapes| percent(escapes, row.weights)),
        ]);
    }
    table::align(&mut table, 4, CellAlignment::Right);
    let mut out = stdout();
    writeln!(out, "{table}\n")?;
    let (total, file) = (&report.total, size(report.file_bytes));
    let Some(unweight) = &report.unweight else {
        writeln!(out, "{} tensors, {file}, not compressed", report.tensors.len())?;
        return Ok(());
    };
    writeln!(
        out,
        "{} of {} tensors compressed: {} -> {}, {:.3} bits/weight{}",
        total.compressed_tensors,
        report.tensors.len(),
        size(total.original_bytes),
        size(total.stored_bytes),
        total.bits_per_weight.unwrap_or(0.0),
        match unweight.form {
            "archive" => String::new(),
            _ => format!(" with headers and index, and {} that hold nothing", size(total.unused_bytes)),
        }
    )?;
    numbers::print(report.tensors.iter().filter_map(|row| row.compressed))?;
    let name = if report.files == 1 { "file".to_owned() } else { format!("{} files", report.files) };
    match unweight.original_bytes {
        Some(before) => {
            let saved = percent(before.saturating_sub(report.file_bytes), before);
            writeln!(out, "{name}: {} -> {file}, {saved} smaller", size(before))?;
        }
        None => writeln!(out, "{name}: {file}; a tool has changed it since it was made")?,
    }
    if let Some(blake3) = &unweight.original_blake3 {
        writeln!(out, "original BLAKE3: {blake3}")?;
    }
    Ok(())
}
