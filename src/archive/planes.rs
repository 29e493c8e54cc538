//! Bytes that are no numbers: records of one width, each cut into planes, which are coded by themselves or left as they are.

use std::ops::Range;

use crate::kernel::archive::SLOTS;

use super::binary::{Chance, Coder, Reader, Writer};
use super::code::Steps;
use super::cost::{self, PART_BITS};
use super::error::{Error, Result};
use super::frequencies::{LevelCoder, level, shares};
use super::model::{BYTES, byte_slots};
use super::sections::{Sections, lanes, put_number};
use super::stream::{flat, put};

/// Bytes that are counted for tables.
const COUNTED: usize = 1 << 22;
/// A plane is coded if that saves one in so many bytes.
const LEAST_SAVED: u64 = 100;

/// What all chunks of a tensor have in common.
#[derive(Debug, Clone)]
pub struct Model {
    pub(super) width: usize,
    pub(super) planes: Vec<Plane>,
}

#[derive(Debug, Clone)]
pub(super) struct Plane {
    /// Where it stands in each record.
    pub range: Range<usize>,
    /// Levels of bytes, if it is coded.
    pub levels: Option<Box<[u8; BYTES]>>,
    slots: Option<Box<[u32; SLOTS]>>,
}

/// Codes the records of a tensor that it has learnt from.
pub struct Encoder {
    model: Model,
    tables: Vec<Option<Steps<BYTES>>>,
}

impl Encoder {
    /// Learns from records of `width` bytes: all that will be coded, or a part of them. `planes` are where the planes of a record end, the last at `width`.
    pub fn learn(width: usize, planes: &[usize], bytes: &[u8], is_part: bool) -> Result<Self> {
        let mut model = Model::uncoded(width, planes)?;
        model.records_of(bytes.len())?;
        let stride = (bytes.len() / COUNTED).max(1);
        for plane in &mut model.planes {
            let mut counts = [0u32; BYTES];
            for record in bytes.chunks_exact(width).step_by(stride) {
                record[plane.range.clone()].iter().for_each(|&byte| counts[usize::from(byte)] += 1);
            }
            plane.levels = worthwhile_levels(&counts, is_part || stride > 1, LEAST_SAVED);
        }
        let model = model.with_slots()?;
        let table =
            |plane: &Plane| plane.levels.as_ref().and_then(|levels| Some(Steps::new(&shares(&levels[..])?)));
        Ok(Self { tables: model.planes.iter().map(table).collect(), model })
    }

    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Some records as a chunk.
    pub fn encode(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let records = self.model.records_of(bytes.len())?;
        let (mut lengths, mut coded, mut raw, mut words) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (plane, table) in self.model.planes.iter().zip(&self.tables) {
            let mut plane_bytes = Vec::with_capacity(records * plane.range.len());
            let records_of = bytes.chunks_exact(self.model.width);
            records_of.for_each(|record| plane_bytes.extend_from_slice(&record[plane.range.clone()]));
            let mut bytes = plane_bytes;
            let Some(steps) = table else {
                raw.extend(bytes);
                continue;
            };
            if bytes.iter().any(|&byte| !steps.can(byte)) {
                return Err(Error::NotLearnt);
            }
            let n = records * plane.range.len();
            let states = flat(steps, &mut bytes, 0, lanes(n), &mut words)?;
            put_number(words.len(), &mut lengths);
            put(&states, &words, &mut coded);
        }
        Ok([lengths, coded, raw].concat())
    }
}

impl Model {
    fn uncoded(width: usize, planes: &[usize]) -> Result<Self> {
        let starts = std::iter::once(0).chain(planes.iter().copied());
        let ranges: Vec<Range<usize>> = starts.zip(planes).map(|(start, &end)| start..end).collect();
        if ranges.iter().any(Range::is_empty) || planes.last() != Some(&width) {
            return Err(Error::Range("the planes of a record"));
        }
        let plane = |range| Plane { range, levels: None, slots: None };
        Ok(Self { width, planes: ranges.into_iter().map(plane).collect() })
    }

    fn with_slots(mut self) -> Result<Self> {
        for (number, plane) in self.planes.iter_mut().enumerate() {
            let slots = |levels: &[u8; BYTES]| byte_slots(levels).ok_or(Error::EmptyTable(number));
            plane.slots = plane.levels.as_deref().map(slots).transpose()?;
        }
        Ok(self)
    }

    /// True if no plane is coded: there is nothing to gain.
    pub fn is_raw(&self) -> bool {
        self.planes.iter().all(|plane| plane.levels.is_none())
    }

    /// The model as a file has it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        self.clone().code(&mut writer).expect("levels within their range");
        writer.finish()
    }

    /// The model of records of `width` bytes in these planes.
    pub fn from_bytes(width: usize, planes: &[usize], bytes: &[u8]) -> Result<Self> {
        let mut model = Self::uncoded(width, planes)?;
        let mut reader = Reader::new(bytes);
        model.code(&mut reader)?;
        reader.finish("the model")?;
        model.with_slots()
    }

    fn code(&mut self, coder: &mut impl Coder) -> Result<()> {
        let (mut chance, mut levels) = (Chance::EVEN, LevelCoder::new());
        for plane in &mut self.planes {
            if coder.bit(&mut chance, plane.levels.is_some()) {
                levels.code(
                    coder,
                    None,
                    &mut plane.levels.get_or_insert_with(|| Box::new([0; BYTES]))[..],
                )?;
            }
        }
        Ok(())
    }

    pub(super) fn records_of(&self, bytes: usize) -> Result<usize> {
        match bytes.checked_rem(self.width) {
            Some(0) => Ok(bytes / self.width),
            _ => Err(Error::Length { what: "records", bytes, unit: self.width }),
        }
    }

    /// The records of a chunk: as many as `out` has space for. What it holds after an error is not to be used.
    pub fn decode(&self, chunk: &[u8], out: &mut [u8]) -> Result<()> {
        let records = self.records_of(out.len())?;
        let mut sections = Sections(chunk);
        let coded = self.planes.iter().filter_map(|plane| Some((plane, plane.slots.as_ref()?)));
        let words =
            coded.clone().map(|_| sections.number("the number of words")).collect::<Result<Vec<_>>>()?;
        let mut bytes = Vec::new();
        for ((plane, slots), words) in coded.zip(words) {
            let n = records * plane.range.len();
            bytes.resize(n, 0);
            if !sections.stream(lanes(n), words, "a plane")?.bytes(slots, &mut bytes) {
                return Err(Error::End("a plane"));
            }
            plane.put(self.width, &bytes, out);
        }
        for plane in self.planes.iter().filter(|plane| plane.slots.is_none()) {
            plane.put(self.width, sections.take(records * plane.range.len(), "a raw plane")?, out);
        }
        sections.end()
    }
}

impl Plane {
    /// Puts the plane's bytes into the records.
    pub fn put(&self, width: usize, bytes: &[u8], out: &mut [u8]) {
        let parts = bytes.chunks_exact(self.range.len());
        for (record, part) in out.chunks_exact_mut(width).zip(parts) {
            record[self.range.clone()].copy_from_slice(part);
        }
    }
}

/// Levels of bytes that came so often, if coding them saves one in `least` of them.
pub(super) fn worthwhile_levels(
    counts: &[u32; BYTES],
    is_sampled: bool,
    least: u64,
) -> Option<Box<[u8; BYTES]>> {
    /// Bits that a table takes for each byte.
    const LEVEL: u64 = 3 << PART_BITS;
    let all: u64 = counts.iter().map(|&count| u64::from(count)).sum();
    let whole = cost::log2(all);
    let cost: u64 = counts
        .iter()
        .map(|&count| u64::from(count) * (whole - cost::log2(count.into()).min(whole)) + LEVEL)
        .sum();
    let plain = (all * 8) << PART_BITS;
    let levels = counts.map(|count| level(count.into(), all).max(usize::from(is_sampled || count > 0)) as u8);
    (cost + plain / least < plain).then(|| Box::new(levels))
}
