//! Round trips: any bits are weights, and come back from both codes, the same from every instruction set.

use unweight::archive;
use unweight::codec::{Analysis, Encoder, Encoding, Number, Shape, oracle};
use unweight::kernel::Tensor;

use super::each_isa;
use crate::samples;

/// Kind of number, k (two bytes).
const HEAD: usize = 3;
const MOST_BYTES: usize = 1 << 17;

pub fn run(data: &[u8]) {
    let Some((head, rest)) = data.split_at_checked(HEAD) else { return };
    let number = Number::ALL[usize::from(head[0]) % Number::ALL.len()];
    let k = usize::from(u16::from_le_bytes([head[1], head[2]])).max(1);
    let row = k * number.bytes() as usize;
    let weights = &rest[..rest.len().min(MOST_BYTES) / row * row];
    let rows = weights.len() / row;
    let shape = Shape { k: k as u64, rows: rows as u64 };
    let analysis = Analysis::of(number, weights);
    for encoding in Encoding::ALL.into_iter().filter(|encoding| encoding.takes(number)) {
        let Some(encoder) = Encoder::forced(&analysis, shape, encoding) else { continue };
        let mut first: Option<(Vec<u8>, Vec<u8>)> = None;
        each_isa(|isa| {
            let coded = encoder.whole(weights);
            let (home, piece) = first.get_or_insert_with(|| coded.clone());
            assert!(*home == coded.0 && *piece == coded.1, "{} codes otherwise", isa.name());
            let pieces = [(rows as u64, &piece[..])];
            let tensor = Tensor::open(encoding.id(), number, home, k as u64, &pieces).expect("just coded");
            let mut out = vec![0; weights.len()];
            tensor.decode(0, rows as u64, &mut out);
            assert!(out == weights, "{} {encoding:?}", isa.name());
        });
        let (home, piece) = first.expect("at least one instruction set");
        let pieces = [(rows as u64, &piece[..])];
        assert!(oracle::decode(&home, &pieces, encoding, number, k as u64).expect("just coded") == weights);
    }
    let mut first: Option<(Vec<u8>, Vec<u8>)> = None;
    each_isa(|isa| {
        let encoder = archive::Encoder::learn(number, k, weights, false).expect("whole rows");
        let coded = (encoder.model().to_bytes(), encoder.encode(weights).expect("learnt"));
        let (model, chunk) = first.get_or_insert_with(|| coded.clone());
        assert!(*model == coded.0 && *chunk == coded.1, "{} archives otherwise", isa.name());
        let model = archive::Model::from_bytes(number, k, model).expect("just learnt");
        let mut out = vec![0; weights.len()];
        model.decode(chunk, &mut out).expect("just coded");
        assert!(out == weights, "{} from an archive", isa.name());
    });
}

pub fn seeds() -> Vec<Vec<u8>> {
    let shapes = [(1u16, 70usize), (9, 100), (64, 66), (300, 5), (1000, 2)];
    let seed = |number: Number, (k, rows): (u16, usize)| {
        let weights = samples::weights(number, usize::from(k) * rows, rows as u64);
        [&[number as u8], &k.to_le_bytes()[..], &weights].concat()
    };
    Number::ALL.into_iter().flat_map(|number| shapes.map(|shape| seed(number, shape))).collect()
}
