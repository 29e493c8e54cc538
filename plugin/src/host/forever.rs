/// A structure with null words behind it: where a later ggml looks for more than we know of, it finds nothing.
#[repr(C)]
pub struct Wide<T> {
    known: T,
    later: [usize; 16],
}

impl<T> Wide<T> {
    pub fn new(known: T) -> Self {
        Self { known, later: [0; 16] }
    }
}

/// A structure that ggml keeps a pointer to for as long as the process lives.
pub struct Forever<T>(*mut Wide<T>);

// SAFETY: ggml and we only read these structures once they are made.
unsafe impl<T> Send for Forever<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Forever<T> {}

impl<T> Forever<T> {
    pub fn new(value: T) -> Self {
        Self(Box::into_raw(Box::new(Wide::new(value))))
    }

    pub fn get(&self) -> *mut T {
        self.0.cast()
    }
}
