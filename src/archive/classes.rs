//! Classes of rows and columns, by how large their weights are, and rows in bands of one class.

use crate::kernel::archive::LANES;

use super::binary::{Chance, Coder, Reader, Writer};
use super::error::Result;

/// Classes of rows, of columns, and contexts: the context of a weight is the sum of its row's and its column's class, or the last.
pub(super) const CLASSES: usize = 32;
pub(super) const CONTEXTS: usize = CLASSES;

/// Of row and column, and of a sum of classes.
pub(super) fn context(row: u8, column: u8) -> usize {
    (usize::from(row) + usize::from(column)).min(CONTEXTS - 1)
}

/// Classes, in place, as they are written or read.
pub(super) fn code(coder: &mut impl Coder, classes: &mut [u8]) {
    let mut chances = [Chance::EVEN; CLASSES];
    for class in classes {
        *class = coder.symbol(&mut chances, (*class).into()) as u8;
    }
}

pub(super) fn write(classes: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new();
    code(&mut writer, &mut classes.to_vec());
    writer.finish()
}

pub(super) fn read(bytes: &[u8], rows: usize) -> Result<Vec<u8>> {
    let mut classes = vec![0; rows];
    let mut reader = Reader::new(bytes);
    code(&mut reader, &mut classes);
    reader.finish("row classes").map(|()| classes)
}

/// Rows by their classes; rows of one class as they come. What bands are cut from.
pub(super) fn order(classes: &[u8]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..classes.len() as u32).collect();
    order.sort_by_key(|&row| classes[row as usize]);
    order
}

/// The class of a band: that of the row in its middle.
pub(super) fn of_band(band: &[u32], classes: &[u8]) -> u8 {
    classes[band[band.len() / 2] as usize]
}

/// What makes classes of sums.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    /// Classes that a factor of two makes, and bits of a sum's fraction.
    pub steps: u64,
    pub fine: u32,
    /// The first class.
    least: i64,
}

impl Scale {
    /// Classes around the mean of all: weights of mean rows and columns have the middle one of all contexts.
    pub fn new(steps: u64, fine: u32, sum: u64, n: u64) -> Self {
        let mut scale = Self { steps, fine, least: 0 };
        scale.least = scale.raw(sum, n) - CLASSES as i64 / 4;
        scale
    }

    fn raw(self, sum: u64, n: u64) -> i64 {
        (sum * self.steps / (n.max(1) << self.fine)) as i64
    }

    /// The class of `n` symbols that add up to `sum`.
    pub fn class(self, sum: u64, n: u64) -> u8 {
        (self.raw(sum, n) - self.least).clamp(0, CLASSES as i64 - 1) as u8
    }
}

/// The class that each row has in its band, where chunks have `chunk` rows.
pub(super) fn banded(classes: &[u8], chunk: usize) -> Vec<u8> {
    let mut banded = Vec::with_capacity(classes.len());
    for classes in classes.chunks(chunk.max(LANES)) {
        let mut of_rows = vec![0; classes.len()];
        for band in order(classes).chunks(LANES) {
            let class = of_band(band, classes);
            band.iter().for_each(|&row| of_rows[row as usize] = class);
        }
        banded.extend(of_rows);
    }
    banded
}
