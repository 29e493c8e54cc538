//! Archives' codes of records: as [`super::chunk`], by planes.

use unweight::archive::{oracle, planes};

use super::each_isa;
use crate::guard::{End, Guarded};

const KINDS: [&[usize]; 5] = [&[1], &[2, 34], &[1, 17], &[128, 192, 208, 210], &[4, 16, 48, 176]];
/// Kind, end, records (two bytes), length of the model (two bytes).
const HEAD: usize = 6;

pub fn run(data: &[u8]) {
    let Some((head, rest)) = data.split_at_checked(HEAD) else { return };
    let ends = KINDS[usize::from(head[0]) % KINDS.len()];
    let width = *ends.last().expect("a plane");
    let end = if head[1] & 1 == 0 { End::Last } else { End::First };
    let records = usize::from(u16::from_le_bytes([head[2], head[3]]) % 1024);
    let model_len = usize::from(u16::from_le_bytes([head[4], head[5]])).min(rest.len());
    let (model, chunk) = rest.split_at(model_len);
    let Ok(model) = planes::Model::from_bytes(width, ends, &Guarded::of(model, end)) else { return };
    let chunk = Guarded::of(chunk, end);
    let expected = oracle::decode_planes(&model, &chunk, records);
    each_isa(|isa| {
        let mut out = Guarded::new(records * width, end);
        match (model.decode(&chunk, &mut out), &expected) {
            (Ok(()), Ok(expected)) => assert!(*out == **expected, "{} is not the oracle", isa.name()),
            (Err(_), Err(_)) => {}
            (decoded, _) => panic!("{} says {decoded:?}, the oracle otherwise", isa.name()),
        }
    });
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(3);
    let mut seeds = Vec::new();
    for (kind, ends) in KINDS.into_iter().enumerate() {
        let width = *ends.last().expect("a plane");
        for records in [1u16, 65, 700] {
            let byte = |i: usize| match i % width {
                0 => random.u8(..),
                1 => 0x20 + random.u8(..3),
                _ => random.u8(..32) + random.u8(..32),
            };
            let bytes: Vec<u8> = (0..width * usize::from(records)).map(byte).collect();
            let encoder = planes::Encoder::learn(width, ends, &bytes, false).expect("whole records");
            let (model, chunk) = (encoder.model().to_bytes(), encoder.encode(&bytes).expect("learnt"));
            let mut seed = vec![kind as u8, seeds.len() as u8];
            seed.extend(records.to_le_bytes().into_iter().chain((model.len() as u16).to_le_bytes()));
            seed.extend(model.into_iter().chain(chunk));
            seeds.push(seed);
        }
    }
    seeds
}
