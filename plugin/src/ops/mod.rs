//! What is computed on compressed weights, and by which threads.

pub mod chunks;
pub mod experts;
pub mod job;
pub mod matmul;
pub mod prepared;
pub mod rows;
pub mod scratch;
pub mod spell;
pub mod view;
pub mod way;
