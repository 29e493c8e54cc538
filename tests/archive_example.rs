//! The example of docs/ARCHIVE-CODES.md is what the coder writes.

use unweight::archive::{Encoder, Model, oracle};
use unweight::codec::Number;

const DOCUMENT: &str = include_str!("../docs/ARCHIVE-CODES.md");

/// Bytes of the code block behind a line that begins with `title`.
fn block(title: &str) -> Vec<u8> {
    let lines = DOCUMENT.lines().skip_while(|line| !line.starts_with(title));
    let lines =
        lines.skip_while(|line| !line.starts_with("```")).skip(1).take_while(|line| !line.starts_with("```"));
    // What is no byte explains those before it.
    let words =
        lines.flat_map(|line| line.split_whitespace().map_while(|word| u8::from_str_radix(word, 16).ok()));
    words.collect()
}

#[test]
fn the_document_has_what_the_coder_writes() {
    let weights = block("Twelve weights");
    let encoder = Encoder::learn(Number::Bf16, 4, &weights, false).unwrap();
    let (model, chunk) = (encoder.model().to_bytes(), encoder.encode(&weights).unwrap());
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(" ");
    assert_eq!(hex(&block("The model")), hex(&model));
    assert_eq!(hex(&block("The chunk")), hex(&chunk));
    let model = Model::from_bytes(Number::Bf16, 4, &block("The model")).unwrap();
    assert_eq!(oracle::decode(&model, &block("The chunk"), 3).unwrap(), weights);
}
