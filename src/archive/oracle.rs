//! The slow reader: what docs/ARCHIVE-CODES.md says, one symbol at a time, and strict.

use super::classes;
use super::code::Buckets;
use super::error::{Error, Result};
use super::frequencies::{SLOT_BITS, SLOTS, shares};
use super::model::Model;
use super::planes;
use super::sections::{Sectioned, Sections, lanes};
use super::split::ESCAPE;
use super::stream::reading;
use crate::kernel::archive::{LANES, STATE_LEAST, Stream};

/// Whose each slot is, the slot's place among those of its symbol, and how many these are.
struct Table(Vec<(u8, u16, u16)>);

impl Table {
    fn new(levels: &[u8], number: usize) -> Result<Self> {
        let shares = shares(levels).ok_or(Error::EmptyTable(number))?;
        let buckets = Buckets::new(&shares);
        let slots = buckets.slots();
        Ok(Self(slots.map(|(symbol, place)| (symbol, place, shares[usize::from(symbol)])).collect()))
    }
}

struct Lanes<'a> {
    /// Of each lane, by its number.
    states: Vec<u32>,
    order: Vec<usize>,
    words: &'a [[u8; 2]],
    what: &'static str,
}

impl<'a> Lanes<'a> {
    fn new(stream: Stream<'a>, what: &'static str) -> Self {
        let states = stream.states.as_chunks().0;
        let order: Vec<usize> = reading(states.len()).collect();
        let mut by_lane = vec![0; states.len()];
        for (&lane, &state) in order.iter().zip(states) {
            by_lane[lane] = u32::from_le_bytes(state);
        }
        Self { states: by_lane, order, words: stream.words.as_chunks().0, what }
    }

    /// One symbol of each of the first `active` lanes, in the order of lanes.
    fn step(&mut self, table: &Table, active: usize) -> Result<Vec<u8>> {
        let mut symbols = vec![0; active];
        for &lane in self.order.iter().filter(|lane| **lane < active) {
            let state = &mut self.states[lane];
            let (symbol, place, frequency) = table.0[(*state % SLOTS) as usize];
            symbols[lane] = symbol;
            *state = (*state >> SLOT_BITS).wrapping_mul(frequency.into()).wrapping_add(place.into());
            if *state < STATE_LEAST {
                let (&word, rest) = self.words.split_first().ok_or(Error::Short(self.what))?;
                self.words = rest;
                *state = *state << 16 | u32::from(u16::from_le_bytes(word));
            }
        }
        Ok(symbols)
    }

    fn flat(mut self, table: &Table, n: usize) -> Result<Vec<u8>> {
        let lanes = self.states.len();
        let mut symbols = Vec::new();
        while symbols.len() < n {
            symbols.extend(self.step(table, (n - symbols.len()).min(lanes))?);
        }
        self.end().map(|()| symbols)
    }

    fn end(self) -> Result<()> {
        let is_end = self.words.is_empty() && self.states.iter().all(|&state| state == STATE_LEAST);
        if is_end { Ok(()) } else { Err(Error::End(self.what)) }
    }
}

/// What [`Model::decode`] gives.
pub fn decode(model: &Model, chunk: &[u8], rows: usize) -> Result<Vec<u8>> {
    let n = rows * model.k;
    let split = model.split;
    let parts = Sectioned::of(split, model.classed.is_some(), n, chunk)?;
    let tables = model.levels.iter().enumerate().map(|(number, levels)| Table::new(levels, number));
    let tables = tables.collect::<Result<Vec<_>>>()?;
    let lanes = Lanes::new(parts.symbols, "the symbols");
    let symbols = if let (Some(classed), Some(others)) = (&model.classed, parts.others) {
        let mut lanes = [lanes, Lanes::new(others, "the symbols")];
        let of_rows = classes::read(parts.classes, rows)?;
        let mut symbols = vec![0; n];
        for (number, band) in classes::order(&of_rows).chunks(LANES).enumerate() {
            let class = classes::of_band(band, &of_rows);
            for (column, &of_column) in classed.columns.iter().enumerate() {
                let table = classed.tables[classes::context(class, of_column)];
                let step = lanes[number % 2].step(&tables[usize::from(table)], band.len())?;
                for (&row, symbol) in band.iter().zip(step) {
                    symbols[row as usize * model.k + column] = symbol;
                }
            }
        }
        lanes.into_iter().try_for_each(Lanes::end)?;
        symbols
    } else {
        lanes.flat(&tables[0], n)?
    };
    let mut raw = split.read_raw(n, parts.raw)?;
    if let (Some(levels), Some(stream)) = (&model.lowest, parts.lowest) {
        let lowest = Lanes::new(stream, "the lowest bytes").flat(&Table::new(&levels[..], 0)?, n)?;
        raw.iter_mut().zip(lowest).for_each(|(raw, lowest)| *raw |= u32::from(lowest));
    }
    let mut escapes = parts.escapes.as_chunks().0.iter();
    let mut out = Vec::new();
    for (symbol, raw) in symbols.into_iter().zip(raw) {
        let value = match symbol {
            ESCAPE => u16::from_le_bytes(*escapes.next().ok_or(Error::End("the escapes"))?),
            symbol => model.base + u16::from(symbol),
        };
        if usize::from(value) >= split.values() {
            return Err(Error::Range("an escape"));
        }
        out.extend(split.word(value, raw).to_le_bytes().into_iter().take(split.number.bytes() as usize));
    }
    if escapes.next().is_some() { Err(Error::End("the escapes")) } else { Ok(out) }
}

/// What [`planes::Model::decode`] gives.
pub fn decode_planes(model: &planes::Model, chunk: &[u8], records: usize) -> Result<Vec<u8>> {
    let mut sections = Sections(chunk);
    let mut out = vec![0; records * model.width];
    let coded = model.planes.iter().filter_map(|plane| Some((plane, plane.levels.as_ref()?)));
    let words = coded.clone().map(|_| sections.number("the number of words")).collect::<Result<Vec<_>>>()?;
    for (number, ((plane, levels), words)) in coded.zip(words).enumerate() {
        let n = records * plane.range.len();
        let stream = sections.stream(lanes(n), words, "a plane")?;
        let bytes = Lanes::new(stream, "a plane").flat(&Table::new(&levels[..], number)?, n)?;
        plane.put(model.width, &bytes, &mut out);
    }
    for plane in model.planes.iter().filter(|plane| plane.levels.is_none()) {
        plane.put(model.width, sections.take(records * plane.range.len(), "a raw plane")?, &mut out);
    }
    sections.end().map(|()| out)
}
