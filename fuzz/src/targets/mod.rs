//! What is fuzzed: a file each.

pub mod chunk;
pub mod file;
pub mod forged;
pub mod header;
pub mod original;
pub mod piece;
pub mod planes;
pub mod weights;

use unweight::kernel::Isa;

/// A function of bytes that must not panic, and inputs that get far.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub seeds: fn() -> Vec<Vec<u8>>,
}

pub const ALL: [Target; 8] = [
    Target { name: "header", run: header::run, seeds: header::seeds },
    Target { name: "file", run: file::run, seeds: file::seeds },
    Target { name: "forged", run: forged::run, seeds: forged::seeds },
    Target { name: "piece", run: piece::run, seeds: piece::seeds },
    Target { name: "chunk", run: chunk::run, seeds: chunk::seeds },
    Target { name: "planes", run: planes::run, seeds: planes::seeds },
    Target { name: "weights", run: weights::run, seeds: weights::seeds },
    Target { name: "original", run: original::run, seeds: original::seeds },
];

/// Does something on every instruction set that this machine has.
fn each_isa(mut work: impl FnMut(Isa)) {
    for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
        assert!(isa.select());
        work(isa);
    }
}
