use std::cell::RefCell;

use crate::codec::Number;
use crate::kernel::archive::{self as kernel, Coding, LANES, Parts, TURNED};

use super::classes::{self, CONTEXTS, Scale, context};
use super::code::Steps;
use super::cost::{self, PART_BITS, is_rare};
use super::error::{Error, Result};
use super::frequencies::{level, shares};
use super::model::{BYTES, Classed, Model, SYMBOLS};
use super::sections::{lanes, put_number};
use super::split::{ESCAPE, Split};
use super::stream::{flat, put};

/// Weights that decide how a tensor is split, and how it is classed.
const SAMPLE: usize = 1 << 14;
/// Weights that are counted for tables: one in so many, but as many as this.
const COUNTED_OF: usize = 16;
const COUNTED: usize = 1 << 16;
/// Weights of a chunk, about.
const CHUNK: usize = 1 << 19;
/// Rows shorter than this have no classes: a step through a band has to be worth it.
const LEAST_ROW: usize = 8;
/// Classes to the factor of two that are tried.
const STEPS: [u64; 2] = [4, 8];

/// Rows of `k` weights that had better be a chunk: a few hundred thousand weights, and bands that are full, two at a time.
pub const fn chunk_rows(k: usize) -> usize {
    let rows = CHUNK / if k == 0 { 1 } else { k };
    match rows {
        0 => 1,
        _ if rows < LANES / 2 => rows,
        _ if rows < LANES => LANES,
        _ => (rows + LANES) / (2 * LANES) * (2 * LANES),
    }
}

/// Records of so many bytes that had better be a chunk.
pub const fn chunk_records(width: usize) -> usize {
    (1 << 20) / if width == 0 { 1 } else { width }
}

/// Codes the rows of a tensor that it has learnt from.
pub struct Encoder {
    model: Model,
    scale: Option<Scale>,
    tables: Vec<Coding>,
    /// The first table, for few lanes.
    plain: Box<Steps<SYMBOLS>>,
    lowest: Option<Box<Steps<BYTES>>>,
}

/// Rows of a tensor, or every so many of them.
#[derive(Clone, Copy)]
struct Rows<'a> {
    bytes: &'a [u8],
    row_bytes: usize,
    stride: usize,
}

impl<'a> Rows<'a> {
    /// Rows of about `weights` weights, of `number` bytes each.
    fn sampled(self, weights: usize, number: usize) -> Self {
        Self { stride: (self.bytes.len() / number / weights).max(1), ..self }
    }

    fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        self.bytes.chunks_exact(self.row_bytes).step_by(self.stride)
    }
}

/// Symbols of some rows, counted by contexts.
type Counts = Vec<[u32; SYMBOLS]>;

impl Encoder {
    /// Learns from the rows of `k` weights of a tensor: all that will be coded, or a part of them.
    pub fn learn(number: Number, k: usize, bytes: &[u8], is_part: bool) -> Result<Self> {
        let (size, unit) = (number.bytes() as usize, number.bytes() as usize * k);
        if unit == 0 || !bytes.len().is_multiple_of(unit) {
            return Err(Error::Length { what: "rows", bytes: bytes.len(), unit });
        }
        let rows = Rows { bytes, row_bytes: unit, stride: 1 };
        let sample = rows.sampled(SAMPLE, size);
        let (mut split, base) = best_split(number, sample);
        // A part has been chosen to be counted.
        let counted =
            if is_part { rows } else { rows.sampled(COUNTED.max(bytes.len() / size / COUNTED_OF), size) };
        let is_sampled = is_part || counted.stride > 1;
        let lowest = (number == Number::F32).then(|| lowest_levels(counted, is_sampled)).flatten();
        split.is_lowest_coded = lowest.is_some();
        let is_classable = k >= LEAST_ROW && bytes.len() / unit >= LANES;
        let classing = is_classable.then(|| classing(split, base, k, sample, counted)).flatten();
        let plain = match &classing {
            Some(Classing { counts, .. }) => {
                std::array::from_fn(|symbol| counts.iter().map(|counts| counts[symbol]).sum())
            }
            None => plain_counts(split, base, counted),
        };
        let cost = cost::of_table(&plain);
        let (levels, classed, scale) = match classing.filter(|classing| classing.cost < cost) {
            None => (vec![levels(&plain, is_sampled)], None, None),
            Some(Classing { scale, classed, counts, .. }) => {
                (counts.iter().map(|counts| levels(counts, true)).collect(), Some(classed), Some(scale))
            }
        };
        let of_tables: Vec<Vec<u16>> = levels.iter().filter_map(|levels| shares(levels)).collect();
        let tables = of_tables.iter().map(|shares| Steps::<SYMBOLS>::coding(shares)).collect();
        let plain = Box::new(Steps::new(&of_tables[0]));
        let lowest_steps =
            lowest.as_ref().and_then(|levels| Some(Box::new(Steps::new(&shares(&levels[..])?))));
        let model = Model::new(k, split, base, levels, classed, lowest)?;
        Ok(Self { model, scale, tables, plain, lowest: lowest_steps })
    }

    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Some rows as a chunk.
    pub fn encode(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let Model { k, split, base, .. } = self.model;
        let rows = self.model.rows_of(bytes.len())?;
        let n = rows * k;
        let raw = Parts::raw_bytes(split.number, split.fine, split.is_lowest_coded, n);
        // Symbols take half a byte or so, and the rest is small.
        let mut out = Vec::with_capacity(raw + n / 2 + n / 8 + 1024);
        out.resize(raw, 0);
        SCRATCH.with_borrow_mut(|Scratch { symbols, words, others, lowest }| {
            symbols.clear();
            symbols.resize(n, 0);
            kernel::split(split.number, split.fine, base, split.is_lowest_coded, bytes, symbols, &mut out);
            let (states, classes) = match (&self.model.classed, self.scale) {
                (Some(classed), Some(scale)) => {
                    let class = |row| scale.class(kernel::sum(row), k as u64);
                    let classes: Vec<u8> = symbols.chunks_exact(k).map(class).collect();
                    (self.bands(classed, &classes, symbols, [words, others])?, classes::write(&classes))
                }
                _ if lanes(n) == LANES => (self.steps(symbols, words)?, Vec::new()),
                _ => (flat(&self.plain, symbols, ESCAPE, lanes(n), words)?, Vec::new()),
            };
            let escapes = escapes(split, bytes, symbols);
            if self.model.classed.is_some() {
                put_number(classes.len(), &mut out);
            }
            put_number(escapes.len(), &mut out);
            put_number(words.len(), &mut out);
            let mut stream = classes;
            put(&states[..states.len().min(LANES)], words, &mut stream);
            if self.model.classed.is_some() {
                put_number(others.len(), &mut out);
                put(&states[LANES..], others, &mut stream);
            }
            if let Some(steps) = &self.lowest {
                lowest.clear();
                lowest.extend(bytes.iter().step_by(4));
                let states = flat(steps, lowest, 0, lanes(n), words)?;
                put_number(words.len(), &mut out);
                put(&states, words, &mut stream);
            }
            out.extend(stream);
            out.extend(escapes.iter().flat_map(|value| value.to_le_bytes()));
            Ok(())
        })?;
        Ok(out)
    }

    /// Symbols in natural order, in all lanes. Those that the table has not become escapes.
    fn steps(&self, symbols: &mut [u8], words: &mut Vec<u16>) -> Result<Vec<u32>> {
        let mut pen = kernel::Pen::new(words);
        let mut reversed = [0; TURNED * LANES];
        for part in symbols.chunks_mut(reversed.len()).rev() {
            // The last step may have fewer symbols than lanes, and goes first.
            let whole = part.len() / LANES * LANES;
            let (whole, rest) = part.split_at_mut(whole);
            for steps in [rest, whole] {
                let (n, active) = (steps.len().div_ceil(LANES), steps.len().min(LANES));
                let reversed = &mut reversed[..LANES * n];
                for (reversed, step) in reversed.chunks_mut(LANES).zip(steps.chunks(LANES)) {
                    reversed.iter_mut().rev().zip(step).for_each(|(reversed, &symbol)| *reversed = symbol);
                }
                let demoted = pen.steps(&self.tables[..1], &[0; TURNED][..n], active, reversed);
                for &at in demoted.ok_or(Error::NotLearnt)? {
                    let (step, lane) = (usize::from(at) / LANES, LANES - 1 - usize::from(at) % LANES);
                    steps[LANES * step + lane] = ESCAPE;
                }
            }
        }
        Ok(pen.states.to_vec())
    }

    /// Symbols of rows in bands. Those that their table has not become escapes.
    fn bands(
        &self,
        classed: &Classed,
        classes: &[u8],
        symbols: &mut [u8],
        words: [&mut Vec<u16>; 2],
    ) -> Result<Vec<u32>> {
        let k = self.model.k;
        let mut pens = words.map(kernel::Pen::new);
        let mut columns = [0; TURNED * LANES];
        let nothing = [0; TURNED];
        for (number, band) in classes::order(classes).chunks(LANES).enumerate().rev() {
            let class = classes::of_band(band, classes);
            let pen = &mut pens[number % 2];
            for first in (0..k).step_by(TURNED).rev() {
                let here = (k - first).min(TURNED);
                let start = |row: u32| row as usize * k + first;
                // Rows from the last to the first: lanes in falling order.
                if here == TURNED {
                    let rows: [&[u8; TURNED]; LANES] = std::array::from_fn(|i| {
                        let row =
                            band.get(LANES - 1 - i).and_then(|&row| symbols[start(row)..].first_chunk());
                        row.unwrap_or(&nothing)
                    });
                    kernel::turn_back(&rows, &mut columns);
                } else {
                    for (lane, &row) in band.iter().enumerate() {
                        for (c, &symbol) in symbols[start(row)..][..here].iter().enumerate() {
                            columns[LANES * c + LANES - 1 - lane] = symbol;
                        }
                    }
                }
                let mut tables = [0; TURNED];
                for (table, &column) in tables.iter_mut().zip(&classed.columns[first..first + here]) {
                    *table = classed.tables[context(class, column)];
                }
                let demoted =
                    pen.steps(&self.tables, &tables[..here], band.len(), &mut columns[..LANES * here]);
                for &at in demoted.ok_or(Error::NotLearnt)? {
                    let (column, lane) = (usize::from(at) / LANES, LANES - 1 - usize::from(at) % LANES);
                    symbols[start(band[lane]) + column] = ESCAPE;
                }
            }
        }
        Ok(pens.iter().flat_map(|pen| pen.states).collect())
    }
}

/// What chunks need while they are coded, kept by each thread: to have it from the system and give it back takes a third of the time.
#[derive(Default)]
struct Scratch {
    symbols: Vec<u8>,
    words: Vec<u16>,
    others: Vec<u16>,
    lowest: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Values of the weights that became escapes.
fn escapes(split: Split, bytes: &[u8], symbols: &[u8]) -> Vec<u16> {
    let size = split.number.bytes() as usize;
    let mut escapes = Vec::new();
    for (symbols, bytes) in symbols.chunks(64).zip(bytes.chunks(64 * size)) {
        if symbols.iter().fold(0, |most, &symbol| symbol.max(most)) == ESCAPE {
            split.words(bytes, |i, word| {
                if symbols[i] == ESCAPE {
                    escapes.push(split.value(word));
                }
            });
        }
    }
    escapes
}

/// Bits of the mantissa in a symbol, and the window of values, that cost least without classes.
fn best_split(number: Number, rows: Rows) -> (Split, u16) {
    let mut split = Split { number, fine: Split::FINEST, is_lowest_coded: false };
    let mut counts = vec![0u32; split.values()];
    for row in rows.iter() {
        split.words(row, |_, word| counts[usize::from(split.value(word))] += 1);
    }
    let n: u64 = counts.iter().map(|&count| u64::from(count)).sum();
    let mut best = None;
    for fine in (0..=Split::FINEST).rev() {
        let (base, cost) = best_window(&counts);
        let cost = cost - ((n * u64::from(fine)) << PART_BITS) as i64;
        if best.is_none_or(|(_, _, least)| cost < least) {
            best = Some((fine, base, cost));
        }
        counts = counts.chunks(2).map(|pair| pair.iter().sum()).collect();
    }
    let (fine, base, _) = best.expect("one at least");
    split.fine = fine;
    (split, base)
}

/// The window that most values are in, and what symbols cost then.
fn best_window(counts: &[u32]) -> (u16, i64) {
    let width = usize::from(ESCAPE).min(counts.len());
    let mut inside: u64 = counts[..width].iter().map(|&count| u64::from(count)).sum();
    let (mut base, mut most) = (0, inside);
    for from in 1..=counts.len() - width {
        inside = inside + u64::from(counts[from + width - 1]) - u64::from(counts[from - 1]);
        if inside > most {
            (base, most) = (from, inside);
        }
    }
    let mut window = [0; SYMBOLS];
    window[..width].copy_from_slice(&counts[base..base + width]);
    let all: u64 = counts.iter().map(|&count| u64::from(count)).sum();
    window[usize::from(ESCAPE)] = (all - most) as u32;
    (base as u16, cost::of_table(&window) as i64)
}

fn plain_counts(split: Split, base: u16, rows: Rows) -> [u32; SYMBOLS] {
    let mut counts = [[0u32; SYMBOLS]; 4];
    let mut symbols = vec![0; 1 << 12];
    for row in rows.iter() {
        for part in row.chunks(symbols.len() * split.number.bytes() as usize) {
            let symbols = &mut symbols[..part.len() / split.number.bytes() as usize];
            split.symbols(base, part, symbols);
            for (i, &symbol) in symbols.iter().enumerate() {
                counts[i % 4][usize::from(symbol) % SYMBOLS] += 1;
            }
        }
    }
    std::array::from_fn(|symbol| counts.iter().map(|counts| counts[symbol]).sum())
}

/// A way to class rows and columns.
struct Classing {
    cost: u64,
    scale: Scale,
    classed: Classed,
    /// Of each table.
    counts: Counts,
}

/// The way that costs least.
fn classing(split: Split, base: u16, k: usize, sample: Rows, counted: Rows) -> Option<Classing> {
    let rows: Vec<&[u8]> = counted.iter().collect();
    let mut symbols = vec![0; k];
    let mut column_sums = vec![0u32; k];
    let mut row_sums = Vec::with_capacity(rows.len());
    for row in &rows {
        split.symbols(base, row, &mut symbols);
        row_sums.push(kernel::sum(&symbols));
        for (sum, &symbol) in column_sums.iter_mut().zip(&symbols) {
            *sum += u32::from(if symbol == ESCAPE { 0 } else { symbol });
        }
    }
    let sum: u64 = row_sums.iter().sum();
    // The sample takes rows out of those that are counted.
    let stride = (sample.stride / counted.stride).max(1);
    let try_steps = |steps: u64, stride: usize| {
        let scale = Scale::new(steps, split.fine, sum, (rows.len() * k) as u64);
        let columns: Vec<u8> =
            column_sums.iter().map(|&sum| scale.class(sum.into(), rows.len() as u64)).collect();
        let of_rows: Vec<u8> = row_sums.iter().map(|&sum| scale.class(sum, k as u64)).collect();
        let counts =
            context_counts(split, base, &rows, &columns, &classes::banded(&of_rows, chunk_rows(k)), stride);
        (scale, columns, of_rows, counts)
    };
    let best = STEPS
        .into_iter()
        .map(|steps| {
            let (_, columns, of_rows, counts) = try_steps(steps, stride);
            (merged(&counts).1 * stride as u64 + class_cost(&columns) + class_cost(&of_rows), steps)
        })
        .min()?;
    let (scale, columns, of_rows, counts) = try_steps(best.1, 1);
    let (tables, cost, counts) = merged(&counts);
    let cost = cost + class_cost(&columns) + class_cost(&of_rows);
    Some(Classing { cost, scale, classed: Classed { tables, columns }, counts })
}

/// What classes cost, and some to learn how often each comes.
fn class_cost(classes: &[u8]) -> u64 {
    let mut counts = [0u64; classes::CLASSES];
    classes.iter().for_each(|&class| counts[usize::from(class)] += 1);
    let whole = cost::log2(classes.len() as u64);
    counts.iter().map(|&count| count * (whole - cost::log2(count).min(whole))).sum::<u64>()
        + (64 << PART_BITS)
}

fn context_counts(
    split: Split,
    base: u16,
    rows: &[&[u8]],
    columns: &[u8],
    of_rows: &[u8],
    stride: usize,
) -> Counts {
    let mut counts = vec![[0u32; SYMBOLS]; 2 * CONTEXTS];
    let mut symbols = vec![0; columns.len()];
    for (row, &class) in rows.iter().zip(of_rows).step_by(stride) {
        split.symbols(base, row, &mut symbols);
        for (i, (&symbol, &column)) in symbols.iter().zip(columns).enumerate() {
            counts[context(class, column) * 2 + i % 2][usize::from(symbol) % SYMBOLS] += 1;
        }
    }
    counts.chunks(2).map(|pair| std::array::from_fn(|symbol| pair[0][symbol] + pair[1][symbol])).collect()
}

/// Neighbouring contexts that had better share a table: which each has, what symbols and tables then cost, and what is in each table.
fn merged(counts: &[[u32; SYMBOLS]]) -> ([u8; CONTEXTS], u64, Counts) {
    let mut tables = [0; CONTEXTS];
    let mut merged: Counts = vec![counts[0]];
    let (mut cost, mut last) = (0, cost::of_table(&counts[0]));
    for (context, counts) in counts.iter().enumerate().skip(1) {
        let table = merged.len() - 1;
        let together: [u32; SYMBOLS] = std::array::from_fn(|symbol| merged[table][symbol] + counts[symbol]);
        let (joint, alone) = (cost::of_table(&together), cost::of_table(counts));
        if joint <= last + alone {
            merged[table] = together;
            last = joint;
        } else {
            merged.push(*counts);
            cost += last;
            last = alone;
        }
        tables[context] = merged.len() as u8 - 1;
    }
    (tables, cost + last, merged)
}

/// Levels of symbols that came so often; with an escape if one came, or if one might because not all were counted.
fn levels(counts: &[u32; SYMBOLS], may_escape: bool) -> [u8; SYMBOLS] {
    let all: u64 = counts.iter().map(|&count| u64::from(count)).sum();
    let mut levels = [0; SYMBOLS];
    let mut escaped = counts[usize::from(ESCAPE)].into();
    for symbol in 0..usize::from(ESCAPE) {
        let count = counts[symbol].into();
        if is_rare(count, all) { escaped += count } else { levels[symbol] = level(count, all) as u8 }
    }
    // A table has one symbol at least.
    let least = usize::from(may_escape || escaped > 0 || all == 0);
    levels[usize::from(ESCAPE)] = level(escaped, all).max(least) as u8;
    levels
}

/// Levels of the lowest bytes, if coding them saves one in two hundred.
fn lowest_levels(rows: Rows, is_sampled: bool) -> Option<Box<[u8; BYTES]>> {
    let mut counts = [0u32; BYTES];
    rows.iter().for_each(|row| row.iter().step_by(4).for_each(|&byte| counts[usize::from(byte)] += 1));
    super::planes::worthwhile_levels(&counts, is_sampled, 200)
}
