/// Why bytes are none of this code's, or cannot be coded by a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the bytes end inside {0}")]
    Short(&'static str),
    #[error("{0} bytes too many")]
    Long(usize),
    #[error("{0} is out of its range")]
    Range(&'static str),
    #[error("{0} ends otherwise than its coder would")]
    End(&'static str),
    #[error("table {0} has no symbols")]
    EmptyTable(usize),
    #[error("{what} of {bytes} bytes: no whole number of {unit} bytes each")]
    Length { what: &'static str, bytes: usize, unit: usize },
    #[error("a value that the model has not learnt")]
    NotLearnt,
}

pub type Result<T> = std::result::Result<T, Error>;
