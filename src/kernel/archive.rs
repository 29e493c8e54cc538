//! archive.h: streams of symbols, and numbers of symbols and raw bits.

use std::ffi::c_int;

use crate::codec::{Number, constants};

/// Most lanes of a stream.
pub const LANES: usize = constants::LANES as usize;
/// Buckets, and symbols, of a [`Code`].
pub const SYMBOLS: usize = constants::SYMBOLS as usize;
/// Slots of a table.
pub const SLOTS: usize = 1 << constants::SLOT_BITS;
/// What states are before the first word is written, and after the last is read.
pub const STATE_LEAST: u32 = 1 << 16;
/// Weights whose raw bits stand together.
pub const RAW_GROUP: usize = constants::RAW_GROUP as usize;

// archive_internal.h says the same of its structures.
#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<Code>() == 768 && size_of::<Coding>() == 9224);
    assert!(size_of::<UwStream>() == 280 && size_of::<UwPen>() == 280);
    assert!(size_of::<UwBands>() == 64 && size_of::<UwParts>() == 56);
};

/// `uw_code`: a table as the kernels look it up.
#[repr(C, align(64))]
#[derive(Clone, Debug)]
pub struct Code {
    pair: [u16; SYMBOLS],
    offset: [u16; SYMBOLS],
    frequency: [u16; SYMBOLS],
    threshold: [u8; SYMBOLS],
    other: [u8; SYMBOLS],
    offset_low: [u8; SYMBOLS],
    offset_high: [u8; SYMBOLS],
    frequency_low: [u8; SYMBOLS],
    frequency_high: [u8; SYMBOLS],
}

impl Code {
    /// Of each bucket its threshold, its other symbol and what is added there; of each symbol its slots.
    pub fn new(threshold: &[u16], other: &[u8], offset: &[u16], frequency: &[u16]) -> Self {
        let byte = |values: &[u16], shift: u32| std::array::from_fn(|i| (values[i] >> shift) as u8);
        // The vector kernels find a symbol by its last six bits.
        let other: [u8; SYMBOLS] = std::array::from_fn(|i| other[i] & 63);
        Self {
            pair: std::array::from_fn(|i| threshold[i] | u16::from(other[i]) << 8),
            offset: std::array::from_fn(|i| offset[i]),
            frequency: std::array::from_fn(|i| frequency[i]),
            threshold: byte(threshold, 0),
            other,
            offset_low: byte(offset, 0),
            offset_high: byte(offset, 8),
            frequency_low: byte(frequency, 0),
            frequency_high: byte(frequency, 8),
        }
    }
}

/// `uw_coding`: a table as it is coded with.
#[repr(C)]
#[derive(Clone, Debug)]
pub struct Coding {
    frequency: [u16; SYMBOLS],
    first: [u16; SYMBOLS],
    inverse_low: [u16; SYMBOLS],
    inverse_high: [u16; SYMBOLS],
    reciprocal: [u64; SYMBOLS],
    slots: [u16; SLOTS + 2],
}

impl Coding {
    /// Of each symbol its slots, as many as there are of it, one after the other.
    pub fn new(frequency: &[u16], slots: &[u16; SLOTS]) -> Box<Self> {
        let mut coding = Box::new(Self {
            frequency: [0; SYMBOLS],
            first: [0; SYMBOLS],
            inverse_low: [0; SYMBOLS],
            inverse_high: [0; SYMBOLS],
            reciprocal: [0; SYMBOLS],
            slots: [0; SLOTS + 2],
        });
        coding.slots[..SLOTS].copy_from_slice(slots);
        let mut first = 0;
        for (symbol, &frequency) in frequency.iter().enumerate().filter(|(_, frequency)| **frequency > 0) {
            // So much less that an estimate is never too large: roundings are a quarter of it.
            let inverse = (1.0 / f32::from(frequency) * (1.0 - 1.0 / (1 << 21) as f32)).to_bits();
            coding.frequency[symbol] = frequency;
            coding.first[symbol] = first;
            coding.inverse_low[symbol] = inverse as u16;
            coding.inverse_high[symbol] = (inverse >> 16) as u16;
            coding.reciprocal[symbol] = (1u64 << 44).div_ceil(frequency.into());
            first += frequency;
        }
        coding
    }
}

#[repr(C)]
struct UwPen {
    next: *mut u16,
    demoted: *mut u16,
    n_demoted: u32,
    is_lost: u32,
    states: [u32; LANES],
}

/// A stream of [`LANES`] that is being written, the last word first.
pub struct Pen<'a> {
    pub states: [u32; LANES],
    /// Written so far.
    words: &'a mut Vec<u16>,
    demoted: [u16; TURNED * LANES],
}

impl<'a> Pen<'a> {
    pub fn new(words: &'a mut Vec<u16>) -> Self {
        words.clear();
        Self { states: [STATE_LEAST; LANES], words, demoted: [0; TURNED * LANES] }
    }

    /// Some steps of symbols, [`TURNED`] at most, the last first, with the table of each; lanes in falling order, those from `active` on left
    /// out. Says which symbols became escapes because their table has not got them; none if it has no escapes either.
    pub fn steps(
        &mut self,
        codes: &[Coding],
        tables: &[u8],
        active: usize,
        symbols: &mut [u8],
    ) -> Option<&[u16]> {
        assert!(symbols.len() == LANES * tables.len() && tables.len() <= TURNED && active <= LANES, "steps");
        assert!(tables.iter().all(|&table| usize::from(table) < codes.len()), "tables");
        // A symbol takes a word at most, and vectors are stored whole.
        self.words.reserve(symbols.len() + 16);
        let written = self.words.len();
        let start: *mut u16 = self.words.spare_capacity_mut().as_mut_ptr().cast();
        let demoted = self.demoted.as_mut_ptr();
        let mut pen = UwPen { next: start, demoted, n_demoted: 0, is_lost: 0, states: self.states };
        let (n, active) = (tables.len() as u64, active as u32);
        // SAFETY: tables are among the codes; there is space for all words and all symbols that may be demoted.
        unsafe {
            uw_encode_steps(&mut pen, codes.as_ptr(), tables.as_ptr(), n, active, symbols.as_mut_ptr())
        };
        // SAFETY: as many have been written, from `start` on.
        unsafe { self.words.set_len(written + pen.next.offset_from_unsigned(start)) };
        self.states = pen.states;
        (pen.is_lost == 0).then(|| &self.demoted[..pen.n_demoted as usize])
    }
}

/// Rows that are turned at a time.
pub const TURNED: usize = constants::TURNED as usize;

/// [`TURNED`] symbols of each row, to as many columns.
pub fn turn_back(rows: &[&[u8; TURNED]; LANES], columns: &mut [u8; TURNED * LANES]) {
    let rows = rows.map(|row| row.as_ptr());
    // SAFETY: each row and the columns are as long as is said.
    unsafe { uw_turn_back(rows.as_ptr(), 0, columns.as_mut_ptr()) }
}

/// Symbols added up, escapes as 0.
pub fn sum(symbols: &[u8]) -> u64 {
    // SAFETY: as many are read as there are.
    unsafe { uw_sum_symbols(symbols.as_ptr(), symbols.len() as u64) }
}

/// Numbers to symbols, of the window of values from `base` on, and raw bits.
pub fn split(
    number: Number,
    fine: u32,
    base: u16,
    is_lowest_coded: bool,
    numbers: &[u8],
    symbols: &mut [u8],
    raw: &mut [u8],
) {
    let n = symbols.len();
    assert_eq!(numbers.len(), n * number.bytes() as usize, "numbers");
    assert_eq!(raw.len(), Parts::raw_bytes(number, fine, is_lowest_coded, n), "raw bits");
    assert!(fine <= 2 && (!is_lowest_coded || number == Number::F32), "kind of split");
    // SAFETY: lengths were checked.
    unsafe {
        uw_split(
            numbers.as_ptr(),
            n as u64,
            number as u32,
            fine,
            base.into(),
            is_lowest_coded.into(),
            symbols.as_mut_ptr(),
            raw.as_mut_ptr(),
        );
    }
}

#[repr(C)]
struct UwStream {
    next: *const u8,
    end: *const u8,
    lanes: u32,
    is_short: u32,
    states: [u32; LANES],
}

#[repr(C)]
struct UwBands {
    codes: *const Code,
    tables: *const u8,
    columns: *const u8,
    row_classes: *const u8,
    order: *const u32,
    k: u64,
    rows: u64,
    contexts: u32,
}

#[repr(C)]
struct UwParts {
    symbols: *const u8,
    raw: *const u8,
    lowest: *const u8,
    escapes: *const u8,
    n_escapes: u64,
    number: u32,
    fine: u32,
    base: u32,
}

unsafe extern "C" {
    fn uw_decode_flat(stream: *mut UwStream, code: *const Code, n: u64, out: *mut u8) -> c_int;
    fn uw_decode_bytes(stream: *mut UwStream, slots: *const u32, n: u64, out: *mut u8) -> c_int;
    fn uw_decode_bands(streams: *mut UwStream, bands: *const UwBands, out: *mut u8) -> c_int;
    fn uw_encode_steps(
        pen: *mut UwPen,
        codes: *const Coding,
        tables: *const u8,
        n: u64,
        active: u32,
        symbols: *mut u8,
    );
    fn uw_turn_back(rows: *const *const u8, at: u64, columns: *mut u8);
    fn uw_split(
        numbers: *const u8,
        n: u64,
        number: u32,
        fine: u32,
        base: u32,
        is_lowest_coded: c_int,
        symbols: *mut u8,
        raw: *mut u8,
    );
    fn uw_sum_symbols(symbols: *const u8, n: u64) -> u64;
    fn uw_join(parts: *const UwParts, n: u64, out: *mut u8) -> c_int;
}

/// A stream as it stands in a chunk.
#[derive(Clone, Copy, Debug)]
pub struct Stream<'a> {
    /// Four bytes for each lane: a power of two of them, [`LANES`] at most.
    pub states: &'a [u8],
    pub words: &'a [u8],
}

impl Stream<'_> {
    fn start(self) -> UwStream {
        let (states, rest) = self.states.as_chunks::<4>();
        assert!(rest.is_empty() && states.len().is_power_of_two() && states.len() <= LANES, "states");
        let words = self.words.as_ptr_range();
        let mut stream = UwStream {
            next: words.start,
            end: words.end,
            lanes: states.len() as u32,
            is_short: 0,
            states: [STATE_LEAST; LANES],
        };
        for (state, &bytes) in stream.states.iter_mut().zip(states) {
            *state = u32::from_le_bytes(bytes);
        }
        stream
    }

    /// Symbols in natural order; true if the stream ends with the last of them.
    pub fn flat(self, code: &Code, out: &mut [u8]) -> bool {
        let mut stream = self.start();
        // SAFETY: `out` is as long as it says, and the stream ends where its words do.
        unsafe { uw_decode_flat(&mut stream, code, out.len() as u64, out.as_mut_ptr()) == 1 }
    }

    /// The same of bytes, whose slots are as archive.h has them.
    pub fn bytes(self, slots: &[u32; SLOTS], out: &mut [u8]) -> bool {
        let mut stream = self.start();
        // SAFETY: as above; the kernels look up no slot beyond the last.
        unsafe { uw_decode_bytes(&mut stream, slots.as_ptr(), out.len() as u64, out.as_mut_ptr()) == 1 }
    }

    /// Rows in bands, which take turns with this stream and another; true if both end with the last of them.
    pub fn bands(self, other: Self, bands: &Bands, out: &mut [u8]) -> bool {
        let mut streams = [self.start(), other.start()];
        assert!(streams.iter().all(|stream| stream.lanes as usize == LANES), "lanes of bands");
        let (k, rows) = (bands.columns.len(), bands.order.len());
        assert!(k.checked_mul(rows) == Some(out.len()) && bands.row_classes.len() == rows, "rows");
        assert!(bands.order.iter().all(|&row| (row as usize) < rows), "order");
        assert!(!bands.tables.is_empty(), "contexts");
        assert!(bands.tables.iter().all(|&table| usize::from(table) < bands.codes.len()), "tables");
        let bands = UwBands {
            codes: bands.codes.as_ptr(),
            tables: bands.tables.as_ptr(),
            columns: bands.columns.as_ptr(),
            row_classes: bands.row_classes.as_ptr(),
            order: bands.order.as_ptr(),
            k: k as u64,
            rows: rows as u64,
            contexts: bands.tables.len() as u32,
        };
        // SAFETY: all lengths and all indices were checked above.
        unsafe { uw_decode_bands(streams.as_mut_ptr(), &bands, out.as_mut_ptr()) == 1 }
    }
}

/// `uw_bands`.
#[derive(Clone, Copy, Debug)]
pub struct Bands<'a> {
    pub codes: &'a [Code],
    /// Of each context, which of `codes`.
    pub tables: &'a [u8],
    /// The class of each column.
    pub columns: &'a [u8],
    /// Rows as bands have them, and the class of each.
    pub order: &'a [u32],
    pub row_classes: &'a [u8],
}

/// `uw_parts`, without the symbols.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    pub number: Number,
    /// Bits of the mantissa in a symbol, 0 to 2.
    pub fine: u32,
    /// The value of symbol 0.
    pub base: u16,
    pub raw: &'a [u8],
    /// Of F32: the lowest bytes, where they do not stand among the raw bits.
    pub lowest: Option<&'a [u8]>,
    /// Two bytes each.
    pub escapes: &'a [u8],
}

impl Parts<'_> {
    /// Bytes of the raw bits of `n` weights.
    pub fn raw_bytes(number: Number, fine: u32, is_lowest_coded: bool, n: usize) -> usize {
        let bits = raw_bits(number, fine);
        let (whole, planes) = (bits / 8 - usize::from(is_lowest_coded), bits % 8);
        n * whole + planes * (n / RAW_GROUP * (RAW_GROUP / 8) + (n % RAW_GROUP).div_ceil(8))
    }

    /// Puts numbers together; true if there are as many escapes as symbols ask for.
    pub fn join(&self, symbols: &[u8], out: &mut [u8]) -> bool {
        let n = symbols.len();
        assert_eq!(n * self.number.bytes() as usize, out.len(), "numbers");
        assert_eq!(
            self.raw.len(),
            Self::raw_bytes(self.number, self.fine, self.lowest.is_some(), n),
            "raw bits"
        );
        assert!(
            self.lowest.is_none_or(|lowest| lowest.len() == n && self.number == Number::F32),
            "lowest bytes"
        );
        assert!(self.fine <= 2, "bits of the mantissa");
        let parts = UwParts {
            symbols: symbols.as_ptr(),
            raw: self.raw.as_ptr(),
            lowest: self.lowest.map_or(std::ptr::null(), <[u8]>::as_ptr),
            escapes: self.escapes.as_ptr(),
            n_escapes: self.escapes.len() as u64 / 2,
            number: self.number as u32,
            fine: self.fine,
            base: self.base.into(),
        };
        // SAFETY: lengths were checked above.
        unsafe { uw_join(&parts, n as u64, out.as_mut_ptr()) == 1 }
    }
}

/// Bits of a weight that are in no symbol: its sign, and what is below the symbol.
pub fn raw_bits(number: Number, fine: u32) -> usize {
    let bits = match number {
        Number::Bf16 => 8,
        Number::F16 => 11,
        Number::F32 => 24,
    };
    bits - fine as usize
}

#[cfg(test)]
mod tests {
    use super::sum;
    use crate::kernel::Isa;

    #[test]
    fn symbols_add_up_on_every_instruction_set() {
        let of_kind = |kind: usize, i: usize| [62, 63, (i * i / 7 % 64) as u8][kind];
        for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
            assert!(isa.select());
            for n in [0, 1, 63, 64, 65, 1000, 512 * 64 - 1, 512 * 64, 513 * 64, 100_000] {
                for kind in 0..3 {
                    let symbols: Vec<u8> = (0..n).map(|i| of_kind(kind, i)).collect();
                    let expected: u64 = symbols.iter().map(|&symbol| u64::from(symbol % 63)).sum();
                    assert_eq!(sum(&symbols), expected, "{}, {n} symbols of kind {kind}", isa.name());
                }
            }
        }
    }
}
