//! The worked example of docs/FORMAT.md is what this crate writes, and is read as the document says.

use unweight::codec::{Analysis, Encoder, Encoding, Shape, oracle};
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

/// The blob in lines of 16 bytes, each with its offset; lines of zeros are left out.
fn dump(blob: &[u8]) -> Vec<String> {
    let lines = blob.chunks(16).enumerate().filter(|(_, bytes)| bytes.iter().any(|&byte| byte != 0));
    lines
        .map(|(i, bytes)| {
            let hex: Vec<_> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
            format!("{:04X}  {}  {}", 16 * i, hex[..8].join(" "), hex[8..].join(" "))
        })
        .collect()
}

#[test]
fn the_document_shows_the_bytes_that_are_written() {
    let weights = weights();
    let blob = Encoder::forced(&Analysis::of(&weights), SHAPE, ENCODING).unwrap().blob(&weights);
    let shown: Vec<_> = fenced(1).map(|line| line.split("   ").next().unwrap_or(line).trim_end()).collect();
    assert_eq!(shown, dump(&blob), "the example should be:\n{}\n", dump(&blob).join("\n"));
    assert!(section().contains(&format!("{} bytes", blob.len())), "the blob has {} bytes", blob.len());

    assert_eq!(oracle::decode(&blob, ENCODING, SHAPE).unwrap(), weights);
    let mut decoded = vec![0; weights.len()];
    Tensor::open_as(ENCODING.id(), &blob, SHAPE).unwrap().decode_bf16(0, SHAPE.rows, &mut decoded);
    assert_eq!(decoded, weights);
}

#[test]
fn the_document_reads_a_weight_as_it_is() {
    let weight = weights()[WALKED];
    let [low, high] = weight.to_le_bytes();
    let value = f32::from_bits(u32::from(weight) << 16);
    for stated in [
        format!("0080 + 6: {low:02X}"),
        format!("the high byte is {high:02X}"),
        format!("`{weight:04X}`, or {value}"),
    ] {
        assert!(section().contains(&stated), "the example should say {stated}");
    }
}
