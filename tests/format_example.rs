//! The worked example of docs/FORMAT.md is what this crate writes, and is read as the document says.

use unweight::codec::{Analysis, Encoder, Encoding, Number, Shape, oracle};
use unweight::kernel::Tensor;

const SHAPE: Shape = Shape { k: 8, rows: 2 };
const ENCODING: Encoding = Encoding::Bf16Palette8;
/// Where the document's last paragraph looks: the seventh weight of the second row, the only escape.
const WALKED: usize = 14;

/// The document's section on the example.
fn section() -> &'static str {
    let document = include_str!("../docs/FORMAT.md");
    let (_, rest) = document.split_once("\n### Example\n").expect("a section with an example");
    rest.split_once("\n## ").expect("a section after it").0
}

/// The lines of the example's fenced block number `n`.
fn fenced(n: usize) -> impl Iterator<Item = &'static str> {
    section().split("```").nth(2 * n + 1).expect("a fenced block").trim().lines()
}

fn weights() -> Vec<u16> {
    fenced(0)
        .flat_map(str::split_whitespace)
        .map(|digits| u16::from_str_radix(digits, 16).expect("four hex digits"))
        .collect()
}

/// Bytes in lines of 16, each with its offset; lines of zeros are left out.
fn dump(bytes: &[u8]) -> Vec<String> {
    let lines = bytes.chunks(16).enumerate().filter(|(_, bytes)| bytes.iter().any(|&byte| byte != 0));
    lines
        .map(|(i, bytes)| {
            let hex: Vec<_> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
            let halves: Vec<_> = hex.chunks(8).map(|half| half.join(" ")).collect();
            format!("{:04X}  {}", 16 * i, halves.join("  "))
        })
        .collect()
}

/// What the document shows in such lines: what follows three spaces explains them.
fn shown(n: usize) -> Vec<&'static str> {
    fenced(n).map(|line| line.split("   ").next().unwrap_or(line).trim_end()).collect()
}

#[test]
fn the_document_shows_the_bytes_that_are_written() {
    let weights = weights();
    let bytes: Vec<u8> = weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
    let analysis = Analysis::of(Number::Bf16, &bytes);
    let (home, piece) = Encoder::forced(&analysis, SHAPE, ENCODING).unwrap().whole(&bytes);
    for (n, what, bytes) in [(1, "home", &home), (2, "piece", &piece)] {
        assert_eq!(shown(n), dump(bytes), "the {what} should be:\n{}\n", dump(bytes).join("\n"));
        let length = format!("{what} has {} bytes", bytes.len());
        assert!(section().contains(&length), "the example should say that the {length}");
    }

    let pieces = [(SHAPE.rows, &piece[..])];
    assert_eq!(oracle::decode(&home, &pieces, ENCODING, Number::Bf16, SHAPE.k).unwrap(), bytes);
    let mut decoded = vec![0; bytes.len()];
    let tensor = Tensor::open(ENCODING.id(), Number::Bf16, &home, SHAPE.k, &pieces).unwrap();
    tensor.decode(0, SHAPE.rows, &mut decoded);
    assert_eq!(decoded, bytes);
}

#[test]
fn the_document_reads_a_weight_as_it_is() {
    let weight = weights()[WALKED];
    let [low, high] = weight.to_le_bytes();
    let value = f32::from_bits(u32::from(weight) << 16);
    for stated in [
        format!("at {WALKED:04X} of the home: {low:02X}"),
        format!("the high byte is {high:02X}"),
        format!("`{weight:04X}`, or {value}"),
    ] {
        assert!(section().contains(&stated), "the example should say {stated}");
    }
}
