//! Tensors of one piece and the weights that must come back from them, as a file for checks of the kernels outside of Rust:
//! tests/neon.sh runs them on an emulated machine. It is written to `$UNWEIGHT_CASES`, or else to a temporary
//! file, and read back in either case.
//!
//! One case after the other, in little-endian order: k, rows, the kind of the original's numbers, the encoding's id and the piece's
//! length as u64, the piece, the home, zeros up to a multiple of 8, the original weights, zeros up to a multiple of 8.

mod samples;

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use samples::{Coded, ways};
use unweight::codec::{Encoding, Number, oracle};

const ROW_LENGTHS: [u64; 18] =
    [1, 8, 31, 63, 64, 65, 96, 128, 172, 200, 576, 960, 1088, 2048, 2080, 4096, 4160, 8300];
const MOST_WEIGHTS: u64 = 40_000;
/// In a case of each way to store an original.
const MOST_WEIGHTS_OF_A_WAY: u64 = 12_000;

/// BF16 weights by their exponents, most often `top` and each below it half as often. Of 1024, `zeros` are zero and
/// `wild` may be anything.
#[derive(Clone, Copy)]
struct Kind {
    encoding: Encoding,
    top: u16,
    zeros: u32,
    wild: u32,
    /// Exponents below the top that occur.
    spread: u32,
}

const KINDS: [Kind; 15] = {
    let [three, four] = [Encoding::Bf16Palette8, Encoding::Bf16Palette16];
    const fn kind(encoding: Encoding, top: u16, zeros: u32, wild: u32) -> Kind {
        Kind { encoding, top, zeros, wild, spread: 14 }
    }
    [
        kind(three, 121, 0, 0),
        kind(three, 120, 0, 0),
        kind(four, 121, 0, 0),
        kind(four, 120, 0, 0),
        kind(three, 121, 0, 3),
        kind(three, 120, 0, 40),
        kind(four, 120, 0, 150),
        kind(three, 121, 0, 1024),
        kind(three, 120, 600, 0),
        kind(four, 121, 20, 0),
        // Around the smallest and the largest for which a kernel may take a shorter way.
        kind(three, 80, 0, 0),
        kind(three, 60, 0, 0),
        kind(three, 189, 0, 0),
        kind(three, 193, 0, 0),
        // So small that products lose bits, in a full palette.
        Kind { spread: 7, ..kind(three, 61, 0, 0) },
    ]
};

fn weights(n: u64, kind: Kind, seed: u64) -> Vec<u8> {
    let mut next = samples::random(seed);
    let special = [0, 0x8000, 1, 0x807F, 0x7F80, 0xFF80, 0x7F81, 0xFFFF, 0x7F7F, 0x0080];
    let mut weight = || {
        let bits = next();
        let drawn = (bits >> 40) as u32 % 1024;
        if drawn >= 1024 - kind.zeros {
            return 0;
        }
        if drawn >= kind.wild {
            let exponent = kind.top - (bits >> 20 & 0xFFFF).trailing_ones().min(kind.spread) as u16;
            return bits as u16 & 0x807F | exponent << 7;
        }
        *special.get((bits >> 32) as usize % 32).unwrap_or(&(bits as u16))
    };
    (0..n).flat_map(|_| weight().to_le_bytes()).collect()
}

fn coded(original: Number, weights: &[u8], k: u64, encoding: Encoding) -> Coded {
    let coded = Coded::new(original, weights, k, encoding, &[]);
    assert_eq!(coded.decode().unwrap(), weights);
    coded
}

fn case(k: u64, rows: u64, kind: Kind) -> Coded {
    let weights = weights(k * rows, kind, k ^ u64::from(kind.wild) << 32 ^ u64::from(kind.top) << 48);
    coded(Number::Bf16, &weights, k, kind.encoding)
}

/// Of 256 weights, `wild` may be anything.
fn case_of_way(k: u64, rows: u64, (encoding, original): (Encoding, Number), wild: u32, seed: u64) -> Coded {
    let weights = samples::weights(original, encoding.stored(), (k * rows) as usize, wild, seed);
    coded(original, &weights, k, encoding)
}

fn corrupt(case: &Coded, seed: u64) -> Coded {
    let mut corrupt = case.clone();
    corrupt.corrupt(seed);
    corrupt
}

fn cases() -> Vec<Coded> {
    let mut cases = Vec::new();
    let mut rows = [1, 40, 7, 2, 16, 5, 33, 3, 8, 19, 4].into_iter().cycle();
    for k in ROW_LENGTHS {
        let mut rows = |most: u64| rows.next().unwrap().min((most / k).max(1));
        for kind in KINDS {
            let case = case(k, rows(MOST_WEIGHTS), kind);
            if kind.wild > 0 {
                cases.push(corrupt(&case, k + case.pieces[0].0));
            }
            cases.push(case);
        }
        let drawn = [(0, 0), (1, 3), (0, 40), (1, 0), (1, 40)].into_iter().cycle().skip(k as usize % 5);
        for (way, (seed, wild)) in ways().zip(drawn) {
            let case = case_of_way(k, rows(MOST_WEIGHTS_OF_A_WAY), way, wild, k * 2 + seed);
            cases.extend([corrupt(&case, k), case]);
        }
    }
    // Of each way, rows to count instructions with.
    cases.extend(ways().map(|way| case_of_way(2048, 40, way, 0, 0)));
    cases
}

fn write(case: &Coded, out: &mut Vec<u8>) {
    let [(rows, piece)] = &case.pieces[..] else { panic!("one piece") };
    let (original, encoding) = (case.original as u64, u64::from(case.encoding.id()));
    let numbers = [case.k, *rows, original, encoding, piece.len() as u64];
    out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    out.extend_from_slice(piece);
    out.extend_from_slice(&case.home);
    out.resize(out.len().next_multiple_of(8), 0);
    out.extend(case.decode_anything());
    out.resize(out.len().next_multiple_of(8), 0);
}

fn take<'a>(bytes: &mut &'a [u8], n: u64) -> &'a [u8] {
    let (taken, left) = bytes.split_at(n as usize);
    *bytes = left;
    taken
}

#[test]
fn case_file() {
    let cases = cases();
    // With 16 high bytes in a palette, both ways cover all exponents.
    for (encoding, original) in ways().filter(|(encoding, _)| !encoding.name().ends_with("16")) {
        let here = cases.iter().filter(|case| (case.encoding, case.original) == (encoding, original));
        let shifts: Vec<u8> = here.map(|case| case.pieces[0].1[25]).collect();
        assert!(shifts.contains(&0) && shifts.contains(&1), "exponents are stored in both ways");
    }

    let temporary = tempfile::tempdir().unwrap();
    let path =
        std::env::var_os("UNWEIGHT_CASES").map_or_else(|| temporary.path().join("cases"), PathBuf::from);
    let mut bytes = Vec::new();
    cases.iter().for_each(|case| write(case, &mut bytes));
    assert!(bytes.len() < 24 << 20);
    fs::File::create(&path).unwrap().write_all(&bytes).unwrap();

    let bytes = fs::read(&path).unwrap();
    let mut left = &bytes[..];
    for case in &cases {
        let mut number = || u64::from_le_bytes(take(&mut left, 8).try_into().unwrap());
        let (k, rows, original, id, len) = (number(), number(), number(), number(), number());
        assert_eq!((k, rows, original), (case.k, case.pieces[0].0, case.original as u64));
        assert_eq!(id, u64::from(case.encoding.id()));
        let mut aligned = |n: u64| &take(&mut left, n.next_multiple_of(8))[..n as usize];
        let piece = aligned(len);
        let (home, weights) = (aligned(k * rows), aligned(case.original.bytes() * k * rows));
        let decoded = oracle::decode_anything(home, &[(rows, piece)], case.encoding, case.original, k);
        assert_eq!(decoded.unwrap(), weights);
    }
    assert!(left.is_empty());
}
