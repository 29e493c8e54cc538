use super::PLACES;
use super::constants::{GROUP_BLOCKS, GROUP6_BLOCKS};

/// The farthest that an escape can be from the one before it.
pub(super) const FARTHEST: usize = 255;
/// Among codes: there is none.
pub(super) const UNCODED: u8 = 0xFF;

/// A segment being coded: the high byte and the code of each place. Where part of the high byte stands beside the code, that is in bits 4
/// to 6.
#[derive(Debug, Default)]
pub(super) struct Segment {
    pub high: Vec<u8>,
    pub codes: Vec<u8>,
}

impl Segment {
    pub fn clear(&mut self) {
        self.high.clear();
        self.codes.clear();
    }

    /// Adds places with code 0 up to whole blocks.
    #[inline(always)]
    pub fn fill_up(&mut self) {
        self.codes.resize(self.codes.len().next_multiple_of(PLACES), 0);
    }

    /// Lists the weights without a code as escapes, and gives them code 0.
    #[inline(always)]
    pub fn take_escapes(&mut self, escapes: &mut Vec<u8>) {
        const TOPS: u64 = 0x8080_8080_8080_8080;
        let Self { high, codes } = self;
        let mut last = 0;
        let mut escape = |place: usize, code: &mut u8, last: usize| {
            escapes.extend_from_slice(&[(place - last) as u8, high[place]]);
            *code = 0;
        };
        for eighth in 0..codes.len() / 8 {
            let eight: &[u8; 8] = codes[8 * eighth..].first_chunk().expect("whole blocks");
            // Codes are below 128.
            let mut uncoded = u64::from_le_bytes(*eight) & TOPS;
            while uncoded != 0 {
                let place = 8 * eighth + uncoded.trailing_zeros() as usize / 8;
                // Too far for one distance: weights on the way are escapes too, though they have a code.
                while place - last > FARTHEST {
                    let between = last + FARTHEST;
                    escape(between, &mut codes[between], last);
                    last = between;
                }
                escape(place, &mut codes[place], last);
                last = place;
                uncoded &= uncoded - 1;
            }
        }
    }
}

/// Codes of whole blocks: groups of 8 blocks, then of 4, 2 and 1 as the number is made up of them.
#[inline(always)]
pub(super) fn pack3(codes: &[u8], out: &mut Vec<u8>) {
    let (groups, mut rest) = codes.as_chunks::<{ GROUP_BLOCKS as usize * PLACES }>();
    for group in groups {
        pack3_group::<{ GROUP_BLOCKS as usize * 8 }>(group, out);
    }
    for blocks in [4, 2, 1] {
        if (rest.len() / PLACES) & blocks != 0 {
            let (group, after) = rest.split_at(blocks * PLACES);
            match blocks {
                4 => pack3_group::<32>(group, out),
                2 => pack3_group::<16>(group, out),
                _ => pack3_group::<8>(group, out),
            }
            rest = after;
        }
    }
}

/// 8 W codes in 3 W bytes.
#[inline(always)]
fn pack3_group<const W: usize>(codes: &[u8], out: &mut Vec<u8>) {
    let vectors = codes.as_chunks::<W>().0;
    for third in 0..3 {
        let byte = |i: usize| {
            let spread = (vectors[6][i] >> third & 1) << 3 | (vectors[7][i] >> third & 1) << 7;
            vectors[2 * third][i] | vectors[2 * third + 1][i] << 4 | spread
        };
        out.extend_from_slice(&std::array::from_fn::<u8, W, _>(byte));
    }
}

/// Codes of whole blocks with what stands beside them: groups of 4 blocks, then of 2 and 1.
#[inline(always)]
pub(super) fn pack6(codes: &[u8], out: &mut Vec<u8>) {
    let (groups, mut rest) = codes.as_chunks::<{ GROUP6_BLOCKS as usize * PLACES }>();
    for group in groups {
        pack6_group::<{ GROUP6_BLOCKS as usize * 16 }>(group, out);
    }
    for blocks in [2, 1] {
        if (rest.len() / PLACES) & blocks != 0 {
            let (group, after) = rest.split_at(blocks * PLACES);
            match blocks {
                2 => pack6_group::<32>(group, out),
                _ => pack6_group::<16>(group, out),
            }
            rest = after;
        }
    }
}

/// 4 W codes, and as many times 3 bits beside them, in 3 W bytes.
#[inline(always)]
fn pack6_group<const W: usize>(codes: &[u8], out: &mut Vec<u8>) {
    let vectors = codes.as_chunks::<W>().0;
    for third in 0..3 {
        let byte = |i: usize| vectors[third][i] | (vectors[3][i] >> third & 0x11) << 3;
        out.extend_from_slice(&std::array::from_fn::<u8, W, _>(byte));
    }
}

#[inline(always)]
pub(super) fn pack4(codes: &[u8], out: &mut Vec<u8>) {
    for block in codes.as_chunks::<PLACES>().0 {
        out.extend_from_slice(&std::array::from_fn::<u8, 32, _>(|l| block[l] | block[32 + l] << 4));
    }
}
