use thiserror::Error;

use super::piece::Piece;
use super::{Numbers, Order, check_alignment, prepared_bytes, scratch_bytes};
use crate::codec::constants::LONGEST_ROW;
use crate::codec::{Encoding, Number, Shape};

/// Why bytes are not the tensor that they should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct OpenError(String);

fn refuse<T>(why: impl Into<String>) -> Result<T, OpenError> {
    Err(OpenError(why.into()))
}

/// A checked view of one tensor: its home and its pieces.
#[derive(Clone)]
pub struct Tensor<'a> {
    numbers: Numbers,
    k: u64,
    rows: u64,
    /// In the order of their rows.
    pieces: Vec<Part<'a>>,
}

/// A piece, and the tensor's row that is its first.
#[derive(Clone)]
struct Part<'a> {
    first: u64,
    piece: Piece<'a>,
}

impl<'a> Tensor<'a> {
    /// Opens a tensor of rows of `k` weights as an index describes it: `encoding` is an id of docs/FORMAT.md, known here or not;
    /// each piece comes with the number of its rows, in their order; `original` is what the weights were.
    ///
    /// # Errors
    /// If the encoding is unknown, or such an original is not stored so; if rows are longer than the format allows; if the home has not
    /// a byte for each weight of the pieces' rows, or a piece but the last ends inside a segment; if the header or the length of a
    /// piece contradicts the shape, the encoding, or another piece. Escapes and codes are not looked at.
    pub fn open(
        encoding: u32,
        original: Number,
        home: &'a [u8],
        k: u64,
        pieces: &[(u64, &'a [u8])],
    ) -> Result<Self, OpenError> {
        let Some(known) = Encoding::from_id(encoding) else {
            return refuse(format!("encoding {encoding} is unknown to this version of the program"));
        };
        let numbers = Numbers { original, stored: known.stored() };
        if !known.takes(original) {
            return refuse(format!("{} weights are not stored as {}", original.name(), known.name()));
        }
        if k > LONGEST_ROW {
            return refuse(format!("its rows of {k} weights are longer than the format allows"));
        }
        let mut tensor = Self { numbers, k, rows: 0, pieces: Vec::with_capacity(pieces.len()) };
        let mut left = home;
        for (i, &(rows, bytes)) in pieces.iter().enumerate() {
            let shape = Shape { k, rows };
            if i + 1 < pieces.len() && !rows.is_multiple_of(shape.segment_rows()) {
                return refuse("a piece ends inside a segment");
            }
            let length = shape.weights().and_then(|weights| usize::try_from(weights).ok());
            let Some((low, behind)) = length.and_then(|length| left.split_at_checked(length)) else {
                return refuse("the home is shorter than its pieces say");
            };
            let piece = Piece::open(original, low, bytes, k, rows).or_else(refuse)?;
            if piece.code_bits() != u32::from(known.code_bits()) || piece.stored() != numbers.stored {
                return refuse(format!("a piece's header contradicts encoding {}", known.name()));
            }
            if tensor.pieces.first().is_some_and(|first| first.piece.shift() != piece.shift()) {
                return refuse("the headers of two pieces contradict each other");
            }
            let Some(end) = tensor.rows.checked_add(rows) else {
                return refuse("its pieces have more rows than can be counted");
            };
            tensor.pieces.push(Part { first: tensor.rows, piece });
            (tensor.rows, left) = (end, behind);
        }
        if !left.is_empty() {
            return refuse("the home is longer than its pieces say");
        }
        Ok(tensor)
    }

    pub fn numbers(&self) -> Numbers {
        self.numbers
    }

    /// Weights in a row.
    pub fn k(&self) -> u64 {
        self.k
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    pub fn escapes(&self) -> u64 {
        self.pieces.iter().map(|part| part.piece.escapes()).sum()
    }

    /// Rows `row` to `row + n`, as their bytes are in the original.
    ///
    /// # Panics
    /// If the rows are not in the tensor, or `out` does not hold exactly `n * k` weights.
    pub fn decode(&self, row: u64, n: u64, out: &mut [u8]) {
        self.check_rows(row, n);
        let row_bytes = self.k * self.numbers.original.bytes();
        assert_eq!(out.len() as u64, n * row_bytes, "output length");
        let mut left = out;
        for (piece, row, n) in self.spans(row, n) {
            let (here, behind) = left.split_at_mut((n * row_bytes) as usize);
            // SAFETY: spans are in the piece, `here` holds n rows.
            unsafe { piece.decode(row, n, here) };
            left = behind;
        }
    }

    /// One row as floats.
    ///
    /// # Panics
    /// If the row is not in the tensor, or `out` does not hold exactly `k` floats.
    pub fn decode_f32(&self, row: u64, out: &mut [f32]) {
        self.check_rows(row, 1);
        assert_eq!(out.len() as u64, self.k, "output length");
        for (piece, row, _) in self.spans(row, 1) {
            // SAFETY: spans are in the piece, `out` holds k floats.
            unsafe { piece.decode_f32(row, out) };
        }
    }

    /// Products of rows `row` to `row + y.len()` with one vector, prepared for this order and these numbers.
    ///
    /// # Panics
    /// If the rows are not in the tensor, or a buffer is too small or not aligned for floats; if the order multiplies pairs, which
    /// only BF16 has, and the original was something else.
    pub fn matvec(&self, order: Order, row: u64, prepared: &[u8], y: &mut [f32], scratch: &mut [u8]) {
        self.check_order(order);
        self.check_rows(row, y.len() as u64);
        self.check_buffers(prepared, 1, scratch);
        let mut left = y;
        for (piece, row, n) in self.spans(row, left.len() as u64) {
            let (here, behind) = left.split_at_mut(n as usize);
            // SAFETY: spans are in the piece, `here` holds n floats, the other buffers have been checked.
            unsafe { piece.matvec(order, row, prepared, here, scratch) };
            left = behind;
        }
    }

    /// Products of rows `row` to `row + n` with `columns` prepared vectors that lie `prepared_bytes(k)` bytes apart; column c of
    /// the result begins at `y + c * y_stride`.
    ///
    /// # Safety
    /// `y` must be valid for writes of `n` floats at each multiple of `y_stride` below `columns`, and nobody else may use them
    /// meanwhile. (A raw pointer: threads write interleaved parts of one matrix.)
    ///
    /// # Panics
    /// As for [`Tensor::matvec`].
    #[allow(clippy::too_many_arguments)] // a matrix product has them
    pub unsafe fn matmul(
        &self,
        order: Order,
        row: u64,
        n: u64,
        prepared: &[u8],
        columns: u64,
        y: *mut f32,
        y_stride: usize,
        scratch: &mut [u8],
    ) {
        self.check_order(order);
        self.check_rows(row, n);
        self.check_buffers(prepared, columns, scratch);
        let mut y = y;
        for (piece, row, n) in self.spans(row, n) {
            // SAFETY: spans are in the piece, buffers have been checked, and the caller answers for `y`, of whose columns each
            // piece writes the next n floats.
            unsafe {
                piece.matmul(order, row, n, prepared, columns, y, y_stride, scratch);
                y = y.add(n as usize);
            }
        }
    }

    /// Rows `row` to `row + n`, which must be in the tensor, piece by piece: with each the first of them, counted from the piece's,
    /// and their number, at least one.
    fn spans(&self, row: u64, n: u64) -> impl Iterator<Item = (&Piece<'a>, u64, u64)> {
        let end = row + n;
        let at = self.pieces.partition_point(|part| part.first + part.piece.rows() <= row);
        self.pieces[at..].iter().take_while(move |part| part.first < end).filter_map(move |part| {
            let from = row.max(part.first) - part.first;
            let to = (end - part.first).min(part.piece.rows());
            (from < to).then_some((&part.piece, from, to - from))
        })
    }

    fn check_order(&self, order: Order) {
        let pairs = matches!(order, Order::Bf16Avx512Bf16 | Order::TileAvx512Bf16);
        assert!(!pairs || self.numbers.original == Number::Bf16, "{order:?} of {:?}", self.numbers.original);
    }

    fn check_rows(&self, row: u64, n: u64) {
        assert!(row <= self.rows && n <= self.rows - row, "rows {row} + {n} of {}", self.rows);
    }

    fn check_buffers(&self, prepared: &[u8], columns: u64, scratch: &[u8]) {
        let needed = (prepared_bytes(self.k) as u64).saturating_mul(columns);
        assert!(prepared.len() as u64 >= needed, "prepared length");
        assert!(scratch.len() >= scratch_bytes(self.k), "scratch length");
        check_alignment(prepared);
        check_alignment(scratch);
    }
}
