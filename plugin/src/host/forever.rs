/// A structure that ggml keeps a pointer to for as long as the process lives.
pub struct Forever<T>(*mut T);

// SAFETY: ggml and we only read these structures once they are made.
unsafe impl<T> Send for Forever<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Forever<T> {}

impl<T> Forever<T> {
    pub fn new(value: T) -> Self {
        Self(Box::into_raw(Box::new(value)))
    }

    pub fn get(&self) -> *mut T {
        self.0
    }
}
