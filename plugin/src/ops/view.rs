//! The data of a ggml tensor, with every access checked against its extents.

use crate::host::ggml::ggml_tensor;

/// What a job cannot go on with: numbers in the graph that lead outside a tensor.
pub struct OutOfRange;

/// Extents, strides and data as they were when the graph was planned. Valid while the graph is computed.
#[derive(Clone, Copy)]
pub struct View {
    data: *mut u8,
    pub ne: [u64; 4],
    nb: [usize; 4],
}

// SAFETY: a pointer and numbers; who reads and who writes is settled at each access.
unsafe impl Send for View {}
// SAFETY: as above.
unsafe impl Sync for View {}

impl View {
    pub fn of(tensor: &ggml_tensor) -> Self {
        // Extents of ggml are never negative.
        Self { data: tensor.data.cast(), ne: tensor.ne.map(|extent| extent as u64), nb: tensor.nb }
    }

    /// Vectors (dimensions 1 to 3 taken together).
    pub fn columns(&self) -> u64 {
        self.ne[1] * self.ne[2] * self.ne[3]
    }

    /// Where each vector begins, counted in floats from the one before it in the same slice.
    pub fn stride(&self) -> usize {
        self.nb[1] / size_of::<f32>()
    }

    /// True if there are no gaps between the vectors, as `ggml_is_contiguous` has it.
    pub fn is_contiguous(&self) -> bool {
        let mut next = size_of::<f32>();
        for (&extent, &step) in self.ne.iter().zip(&self.nb) {
            if extent != 1 && step != next {
                return false;
            }
            next *= extent as usize;
        }
        true
    }

    fn at(&self, place: [u64; 4]) -> *mut u8 {
        assert!((0..4).all(|d| place[d] < self.ne[d]), "outside a tensor");
        let offset: usize = (0..4).map(|d| place[d] as usize * self.nb[d]).sum();
        // SAFETY: inside the tensor, as checked.
        unsafe { self.data.add(offset) }
    }

    /// The vector at a place in dimensions 1 to 3.
    ///
    /// # Safety
    /// The tensor holds F32 with dense vectors (supports_op lets no other pass), and nobody writes this one meanwhile.
    pub unsafe fn vector(&self, [i1, i2, i3]: [u64; 3]) -> &[f32] {
        if self.ne[0] == 0 {
            return &[];
        }
        // SAFETY: inside the tensor, as checked; the rest is the caller's promise.
        unsafe { std::slice::from_raw_parts(self.at([0, i1, i2, i3]).cast(), self.ne[0] as usize) }
    }

    /// `len` floats of a vector, to write.
    ///
    /// # Safety
    /// As for [`View::vector`], and nobody else uses these floats meanwhile.
    #[allow(clippy::mut_from_ref)] // the memory is ggml's; the caller answers for the exclusion
    pub unsafe fn part_mut(&self, [i1, i2, i3]: [u64; 3], from: u64, len: u64) -> &mut [f32] {
        if len == 0 {
            return &mut [];
        }
        assert!(from + len <= self.ne[0], "beyond the end of a vector");
        // SAFETY: inside the tensor, as checked; the rest is the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.at([from, i1, i2, i3]).cast(), len as usize) }
    }

    /// One number of a tensor of I32.
    ///
    /// # Safety
    /// The tensor holds I32, and nobody writes it meanwhile.
    pub unsafe fn id(&self, [i0, i1, i2]: [u64; 3]) -> i32 {
        // SAFETY: inside the tensor, as checked; the rest is the caller's promise.
        unsafe { self.at([i0, i1, i2, 0]).cast::<i32>().read_unaligned() }
    }
}
