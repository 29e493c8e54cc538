//! Compressed weights, and what a tensor shows of one.

use unweight::kernel::Tensor;

use crate::host::api::ggml_type_size;
use crate::host::ggml::ggml_tensor;

/// What the `extra` of a carrier points to.
pub enum Bound {
    Whole(Weight),
    /// A part of it was not loaded, as this says: it must not be used, but nobody may want to.
    Lacking(String),
}

/// A compressed weight.
pub struct Weight {
    pub tensor: Tensor<'static>,
}

/// A tensor as elements of a weight: all of them in the same or another shape, or, where it is a view, some.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    pub weight: &'a Weight,
    pub extents: [u64; 4],
    /// The weight's element that is the tensor's first.
    first: u64,
    /// Elements of the weight from one to the next in each dimension.
    steps: [u64; 4],
}

/// Rows of a weight, one after the other.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub weight: &'a Tensor<'static>,
    pub first: u64,
    /// Extents 1 to 3 of the tensor that shows them; their product is the number of rows, which the weight has.
    pub extents: [u64; 3],
}

impl<'a> Shown<'a> {
    /// `None` if the tensor, which is the weight's carrier or a view of it, shows anything else than whole elements of the weight.
    pub fn of(tensor: &ggml_tensor, weight: &'a Weight) -> Option<Self> {
        // SAFETY: a live tensor has a type of ggml's.
        let width = unsafe { ggml_type_size(tensor.type_) };
        let whole = |bytes: usize| (bytes.is_multiple_of(width)).then_some((bytes / width) as u64);
        let mut steps = [0; 4];
        for (step, bytes) in steps.iter_mut().zip(tensor.nb) {
            *step = whole(bytes)?;
        }
        // Extents of ggml are never negative.
        let extents = tensor.ne.map(|extent| extent as u64);
        let shown = Self { weight, extents, first: whole(tensor.view_offs)?, steps };
        let elements = weight.tensor.k().checked_mul(weight.tensor.rows())?;
        (shown.last()? < elements).then_some(shown)
    }

    /// The last element; `None` if there are none.
    fn last(&self) -> Option<u64> {
        let mut last = self.first;
        for (extent, step) in self.extents.iter().zip(self.steps) {
            last = last.checked_add(extent.checked_sub(1)?.checked_mul(step)?)?;
        }
        Some(last)
    }

    /// The tensor as rows, if it shows whole rows of the weight, one after the other.
    pub fn rows(&self) -> Option<Rows<'a>> {
        let k = self.weight.tensor.k();
        let mut next = 1;
        for (extent, step) in self.extents.into_iter().zip(self.steps) {
            if extent != 1 && step != next {
                return None;
            }
            next *= extent;
        }
        let [width, extents @ ..] = self.extents;
        (width == k && self.first.is_multiple_of(k)).then(|| Rows {
            weight: &self.weight.tensor,
            first: self.first / k,
            extents,
        })
    }

    /// The rows of the weight that hold all that is shown: the first, and how many.
    pub fn span(&self) -> (u64, u64) {
        let k = self.weight.tensor.k();
        let first = self.first / k;
        // There is a last element, as `of` has checked.
        let last = self.last().map_or(first, |last| last / k);
        (first, last - first + 1)
    }

    /// Where the first element stands in the first row of the span.
    pub fn offset(&self) -> u64 {
        self.first % self.weight.tensor.k()
    }

    pub fn steps(&self) -> [u64; 4] {
        self.steps
    }
}
