//! Archives' codes of weights: models and chunks of any bytes. What the oracle takes, every instruction set decodes to the same; what one
//! accepts, all do.

use unweight::archive::{Encoder, Model, oracle};
use unweight::codec::Number;

use super::each_isa;
use crate::guard::{End, Guarded};
use crate::samples;

/// Kind of number, end, k (two bytes), rows, length of the model (two bytes).
const HEAD: usize = 7;
/// More than that takes long and finds no more.
const MOST_WEIGHTS: usize = 1 << 15;

pub fn run(data: &[u8]) {
    let Some((head, rest)) = data.split_at_checked(HEAD) else { return };
    let number = Number::ALL[usize::from(head[0]) % Number::ALL.len()];
    let end = if head[1] & 1 == 0 { End::Last } else { End::First };
    let k = usize::from(u16::from_le_bytes([head[2], head[3]]));
    let rows = usize::from(head[4]);
    let model_len = usize::from(u16::from_le_bytes([head[5], head[6]])).min(rest.len());
    let (model, chunk) = rest.split_at(model_len);
    if k * rows > MOST_WEIGHTS {
        return;
    }
    let Ok(model) = Model::from_bytes(number, k, &Guarded::of(model, end)) else { return };
    let chunk = Guarded::of(chunk, end);
    let expected = oracle::decode(&model, &chunk, rows);
    let mut first: Option<Option<Vec<u8>>> = None;
    each_isa(|isa| {
        let mut out = Guarded::new(rows * k * number.bytes() as usize, end);
        let decoded = model.decode(&chunk, &mut out).ok().map(|()| out.to_vec());
        if let Ok(expected) = &expected {
            assert!(decoded.as_ref() == Some(expected), "{} is not the oracle", isa.name());
        }
        match &first {
            None => first = Some(decoded),
            Some(first) => assert!(*first == decoded, "{} decodes otherwise", isa.name()),
        }
    });
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for number in Number::ALL {
        for (k, rows) in [(1u16, 5u8), (16, 70), (24, 200), (300, 3), (64, 64), (100, 130)] {
            let n = usize::from(k) * usize::from(rows);
            let mut weights = samples::weights(number, n, n as u64);
            // Rows of two scales, for classes: every other has lower exponents.
            let row = usize::from(k) * number.bytes() as usize;
            for row in weights.chunks_mut(row).step_by(2) {
                row.chunks_mut(number.bytes() as usize)
                    .for_each(|weight| *weight.last_mut().expect("bytes") &= 0xFE);
            }
            let encoder = Encoder::learn(number, k.into(), &weights, false).expect("whole rows");
            let (model, chunk) = (encoder.model().to_bytes(), encoder.encode(&weights).expect("learnt"));
            let mut seed = vec![number as u8, seeds.len() as u8];
            seed.extend(k.to_le_bytes());
            seed.push(rows);
            seed.extend((model.len() as u16).to_le_bytes());
            seed.extend(model.into_iter().chain(chunk));
            seeds.push(seed);
        }
    }
    seeds
}
