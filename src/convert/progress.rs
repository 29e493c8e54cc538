/// What is being done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Reading,
    Coding,
    Writing,
    Restoring,
    Verifying,
}

/// Is told how far a file is. Called from the thread that started the work, or one of rayon's.
pub trait Progress: Sync {
    /// Work on one of so many files begins; of one alone it need not be said.
    fn file(&self, _number: usize, _of: usize) {}
    /// A stage begins, of so many bytes in all.
    fn begin(&self, stage: Stage, bytes: u64);
    /// So many bytes more are done.
    fn advance(&self, bytes: u64);
}

/// For those who do not want to know.
impl Progress for () {
    fn begin(&self, _: Stage, _: u64) {}
    fn advance(&self, _: u64) {}
}
