//! The worked examples of docs/FORMAT.md are what this crate writes, and are read as the document says.

use unweight::codec::{Analysis, Encoder, Encoding, Number, Shape, oracle};
use unweight::kernel::Tensor;

/// One of the document's examples: a section with the weights, the home and the piece in fenced blocks.
struct Example {
    heading: &'static str,
    encoding: Encoding,
    number: Number,
    shape: Shape,
}

const BF16: Example = Example {
    heading: "Example",
    encoding: Encoding::Bf16Palette8,
    number: Number::Bf16,
    shape: Shape { k: 8, rows: 2 },
};
const F16: Example = Example {
    heading: "Example of F16",
    encoding: Encoding::F16Palette8,
    number: Number::F16,
    shape: Shape { k: 8, rows: 2 },
};
const F32: Example = Example {
    heading: "Example of F32",
    encoding: Encoding::F32Palette8,
    number: Number::F32,
    shape: Shape { k: 4, rows: 2 },
};

impl Example {
    fn section(&self) -> &'static str {
        let document = include_str!("../docs/FORMAT.md");
        let (_, rest) = document.split_once(&format!("\n### {}\n", self.heading)).expect("a section");
        let end = [rest.find("\n## "), rest.find("\n### ")].into_iter().flatten().min();
        &rest[..end.expect("a section after it")]
    }

    /// The lines of fenced block number `n`.
    fn fenced(&self, n: usize) -> impl Iterator<Item = &'static str> {
        self.section().split("```").nth(2 * n + 1).expect("a fenced block").trim().lines()
    }

    /// The weights, as they stand in the original.
    fn weights(&self) -> Vec<u8> {
        let digits = self.fenced(0).flat_map(str::split_whitespace);
        let bits = digits.map(|digits| u32::from_str_radix(digits, 16).expect("hex digits"));
        bits.flat_map(|bits| bits.to_le_bytes()[..self.number.bytes() as usize].to_vec()).collect()
    }

    /// Home and piece.
    fn coded(&self) -> (Vec<u8>, Vec<u8>) {
        let weights = self.weights();
        let analysis = Analysis::of(self.number, &weights);
        Encoder::forced(&analysis, self.shape, self.encoding).unwrap().whole(&weights)
    }

    /// What the document shows as bytes: what follows three spaces explains them.
    fn shown(&self, n: usize) -> Vec<&'static str> {
        self.fenced(n).map(|line| line.split("   ").next().unwrap_or(line).trim_end()).collect()
    }
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

#[test]
fn the_document_shows_the_bytes_that_are_written() {
    for example in [BF16, F16, F32] {
        let Example { encoding, number, shape, .. } = example;
        let (home, piece) = example.coded();
        for (n, what, bytes) in [(1, "home", &home), (2, "piece", &piece)] {
            assert_eq!(example.shown(n), dump(bytes), "the {what} should be:\n{}\n", dump(bytes).join("\n"));
            let length = format!("{what} has {} bytes", bytes.len());
            assert!(example.section().contains(&length), "the example should say that the {length}");
        }

        let (weights, pieces) = (example.weights(), [(shape.rows, &piece[..])]);
        assert_eq!(oracle::decode(&home, &pieces, encoding, number, shape.k).unwrap(), weights);
        let mut decoded = vec![0; weights.len()];
        let tensor = Tensor::open(encoding.id(), number, &home, shape.k, &pieces).unwrap();
        tensor.decode(0, shape.rows, &mut decoded);
        assert_eq!(decoded, weights);
    }
}

/// The document says what is so.
fn states(example: &Example, statements: &[String]) {
    for statement in statements {
        assert!(example.section().contains(statement), "the example should say {statement}");
    }
}

/// The seventh weight of the second row, the only escape.
#[test]
fn the_document_reads_a_weight_as_it_is() {
    const WALKED: usize = 14;
    let [low, high] = BF16.weights().as_chunks().0[WALKED];
    let weight = u16::from_le_bytes([low, high]);
    states(
        &BF16,
        &[
            format!("at {WALKED:04X} of the home: {low:02X}"),
            format!("the high byte is {high:02X}"),
            format!("`{weight:04X}`, or {}", half::bf16::from_bits(weight)),
        ],
    );
}

/// The seventh weight of the first row of F16: code and raw bits.
#[test]
fn the_document_reads_an_f16_as_it_is() {
    const WALKED: usize = 6;
    let (home, piece) = F16.coded();
    let weight = u16::from_le_bytes(F16.weights().as_chunks().0[WALKED]);
    let stored = weight + 1024 * u16::from(piece[25]);
    let (byte, palette) = (piece[64 + WALKED], (stored >> 8) as u8 & 0xF8);
    let code = byte & 7;
    assert_eq!((home[WALKED], piece[32 + usize::from(code)]), (stored as u8, palette));
    states(
        &F16,
        &[
            format!("byte {WALKED} of A is {byte:02X}: code {code}, raw bits {}", byte >> 4 & 7),
            format!("{palette:02X} + {} = {:02X}", byte >> 4 & 7, stored >> 8),
            format!("`{weight:04X}`, or {}", half::f16::from_bits(weight)),
        ],
    );
}

/// The last weight of F32.
#[test]
fn the_document_reads_an_f32_as_it_is() {
    let (home, piece) = F32.coded();
    let weight = u32::from_le_bytes(F32.weights().as_chunks().0[7]);
    let at = 64 + 24 + 2 * 7;
    assert_eq!(piece[at..at + 2], weight.to_le_bytes()[..2]);
    let stored = (weight >> 16) as u16 + 128 * u16::from(piece[25]);
    assert_eq!(home[7], stored as u8);
    states(
        &F32,
        &[
            format!("{:04X} at {at:04X} of the piece", weight & 0xFFFF),
            format!("`{weight:08X}`, or {}", f32::from_bits(weight)),
        ],
    );
}
