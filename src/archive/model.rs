use std::cell::RefCell;

use crate::codec::Number;
use crate::kernel::archive::{Bands, Code, Parts, SLOTS};

use super::binary::{Chance, Coder, Reader, Writer};
use super::classes::{self, CONTEXTS};
use super::code::Buckets;
use super::error::{Error, Result};
use super::frequencies::{LevelCoder, shares};
use super::sections::{Sectioned, Sections};
use super::split::{ESCAPE, Split};

/// Symbols of a table of weights.
pub(super) const SYMBOLS: usize = crate::kernel::archive::SYMBOLS;
/// Symbols of a table of bytes.
pub(super) const BYTES: usize = 256;

/// What all chunks of a tensor have in common: how its numbers are split, the tables, the classes of its columns.
#[derive(Debug, Clone)]
pub struct Model {
    pub(super) k: usize,
    pub(super) split: Split,
    /// The value of symbol 0.
    pub(super) base: u16,
    /// Levels of each table's symbols.
    pub(super) levels: Vec<[u8; SYMBOLS]>,
    pub(super) classed: Option<Classed>,
    /// Levels of the lowest bytes of F32.
    pub(super) lowest: Option<Box<[u8; BYTES]>>,
    codes: Vec<Code>,
    slots: Option<Box<[u32; SLOTS]>>,
}

thread_local! {
    /// Symbols, and lowest bytes, of the chunk that a thread is at: they stay near, whereas what numbers are written to is far.
    static SCRATCH: RefCell<[Vec<u8>; 2]> = RefCell::default();
}

/// What tables depend on, where there are several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Classed {
    /// Which table a context has: that of the one before, or the next.
    pub tables: [u8; CONTEXTS],
    pub columns: Vec<u8>,
}

const FINE: u8 = 3;
const CLASSED: u8 = 4;
const LOWEST: u8 = 8;

impl Model {
    pub(super) fn new(
        k: usize,
        split: Split,
        base: u16,
        levels: Vec<[u8; SYMBOLS]>,
        classed: Option<Classed>,
        lowest: Option<Box<[u8; BYTES]>>,
    ) -> Result<Self> {
        let values = split.values() - usize::from(base).min(split.values());
        let is_beyond = |levels: &[u8; SYMBOLS]| {
            levels[..ESCAPE.into()].iter().enumerate().any(|(symbol, &level)| level > 0 && symbol >= values)
        };
        if levels.iter().any(is_beyond) {
            return Err(Error::Range("the window of values"));
        }
        let codes =
            levels.iter().enumerate().map(|(table, levels)| code(levels).ok_or(Error::EmptyTable(table)));
        let codes = codes.collect::<Result<_>>()?;
        let slots =
            lowest.as_ref().map(|levels| byte_slots(&levels[..]).ok_or(Error::EmptyTable(0))).transpose()?;
        Ok(Self { k, split, base, levels, classed, lowest, codes, slots })
    }

    /// The model as a file has it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![
            self.split.fine as u8
                | if self.classed.is_some() { CLASSED } else { 0 }
                | if self.lowest.is_some() { LOWEST } else { 0 },
        ];
        bytes.extend(self.base.to_le_bytes());
        let mut writer = Writer::new();
        let mut parts = Coded { levels: self.levels.clone(), ..Coded::default() };
        parts.classed.clone_from(&self.classed);
        parts.lowest.clone_from(&self.lowest);
        parts.code(&mut writer).expect("levels within their range");
        bytes.extend(writer.finish());
        bytes
    }

    /// The model of a tensor whose rows have `k` weights.
    pub fn from_bytes(number: Number, k: usize, bytes: &[u8]) -> Result<Self> {
        let mut sections = Sections(bytes);
        let flags = sections.take(1, "the model")?[0];
        let base = sections.take(2, "the model")?;
        let base = u16::from_le_bytes([base[0], base[1]]);
        let fine = u32::from(flags & FINE);
        let split = Split { number, fine, is_lowest_coded: flags & LOWEST != 0 };
        if flags > FINE | CLASSED | LOWEST
            || fine > Split::FINEST
            || split.is_lowest_coded && number != Number::F32
        {
            return Err(Error::Range("the kind of model"));
        }
        if usize::from(base) >= split.values() {
            return Err(Error::Range("the window of values"));
        }
        let mut parts = Coded { levels: vec![[0; SYMBOLS]], ..Coded::default() };
        if flags & CLASSED != 0 {
            parts.classed = Some(Classed { tables: [0; CONTEXTS], columns: vec![0; k] });
        }
        if split.is_lowest_coded {
            parts.lowest = Some(Box::new([0; BYTES]));
        }
        let mut reader = Reader::new(sections.0);
        parts.code(&mut reader)?;
        reader.finish("the model")?;
        Self::new(k, split, base, parts.levels, parts.classed, parts.lowest)
    }

    /// Bytes of a row.
    pub(super) fn row_bytes(&self) -> usize {
        self.k * self.split.number.bytes() as usize
    }

    /// Rows that `bytes` are.
    pub(super) fn rows_of(&self, bytes: usize) -> Result<usize> {
        let unit = self.row_bytes();
        match bytes.checked_rem(unit) {
            Some(0) => Ok(bytes / unit),
            _ => Err(Error::Length { what: "rows", bytes, unit }),
        }
    }

    /// The rows of a chunk: as many as `out` has space for. What it holds after an error is not to be used.
    pub fn decode(&self, chunk: &[u8], out: &mut [u8]) -> Result<()> {
        let rows = self.rows_of(out.len())?;
        let n = rows * self.k;
        let parts = Sectioned::of(self.split, self.classed.is_some(), n, chunk)?;
        let values = self.split.values();
        if parts.escapes.as_chunks().0.iter().any(|&value| usize::from(u16::from_le_bytes(value)) >= values) {
            return Err(Error::Range("an escape"));
        }
        SCRATCH.with_borrow_mut(|[symbols, lowest]| {
            symbols.resize(n, 0);
            lowest.resize(if self.lowest.is_some() { n } else { 0 }, 0);
            self.decode_parts(&parts, rows, symbols, lowest, out)
        })
    }

    fn decode_parts(
        &self,
        parts: &Sectioned,
        rows: usize,
        symbols: &mut [u8],
        lowest: &mut [u8],
        out: &mut [u8],
    ) -> Result<()> {
        let is_whole = match (&self.classed, parts.others) {
            (Some(classed), Some(others)) => {
                let classes = classes::read(parts.classes, rows)?;
                let order = classes::order(&classes);
                let row_classes: Vec<u8> = order.iter().map(|&row| classes[row as usize]).collect();
                let bands = Bands {
                    codes: &self.codes,
                    tables: &classed.tables,
                    columns: &classed.columns,
                    order: &order,
                    row_classes: &row_classes,
                };
                parts.symbols.bands(others, &bands, symbols)
            }
            _ => parts.symbols.flat(&self.codes[0], symbols),
        };
        if !is_whole {
            return Err(Error::End("the symbols"));
        }
        let lowest = match (&self.slots, parts.lowest) {
            (Some(slots), Some(stream)) => {
                if !stream.bytes(slots, lowest) {
                    return Err(Error::End("the lowest bytes"));
                }
                Some(&*lowest)
            }
            _ => None,
        };
        let join = Parts {
            number: self.split.number,
            fine: self.split.fine,
            base: self.base,
            raw: parts.raw,
            lowest,
            escapes: parts.escapes,
        };
        if join.join(symbols, out) { Ok(()) } else { Err(Error::End("the escapes")) }
    }
}

/// A table of weights as it is decoded.
fn code(levels: &[u8]) -> Option<Code> {
    let shares = shares(levels)?;
    let buckets = Buckets::new(&shares);
    Some(Code::new(&buckets.threshold, &buckets.other, &buckets.offset, &shares))
}

/// A table of bytes as it is decoded.
pub(super) fn byte_slots(levels: &[u8]) -> Option<Box<[u32; SLOTS]>> {
    let shares = shares(levels)?;
    let mut slots = Box::new([0; SLOTS]);
    for (slot, (symbol, place)) in slots.iter_mut().zip(Buckets::new(&shares).slots()) {
        let frequency = u32::from(shares[usize::from(symbol)]);
        *slot = u32::from(symbol) | u32::from(place) << 8 | (frequency - 1) << 20;
    }
    Some(slots)
}

/// What a model has in its coded part.
#[derive(Default)]
struct Coded {
    levels: Vec<[u8; SYMBOLS]>,
    classed: Option<Classed>,
    lowest: Option<Box<[u8; BYTES]>>,
}

impl Coded {
    /// Writes it or, over as much space, reads it.
    fn code(&mut self, coder: &mut impl Coder) -> Result<()> {
        let mut level_coder = LevelCoder::new();
        level_coder.code(coder, None, &mut self.levels[0])?;
        if let Some(Classed { tables, columns }) = &mut self.classed {
            let (mut chance, mut table) = (Chance::EVEN, 0u8);
            for of_context in &mut tables[1..] {
                if coder.bit(&mut chance, *of_context > table) {
                    table += 1;
                    let mut levels = *self.levels.get(usize::from(table)).unwrap_or(&[0; SYMBOLS]);
                    let before = self.levels[usize::from(table) - 1];
                    level_coder.code(coder, Some(&before), &mut levels)?;
                    if self.levels.len() == usize::from(table) {
                        self.levels.push(levels);
                    }
                }
                *of_context = table;
            }
            classes::code(coder, columns);
        }
        if let Some(levels) = &mut self.lowest {
            LevelCoder::new().code(coder, None, &mut levels[..])?;
        }
        Ok(())
    }
}
