//! Weights as numbers of a narrower kind that they all are, and back.

use super::Number;
use super::number::{bf16_of_f16, f16_of_bf16, f16_of_f32, f32_of_f16};

/// The words of weights of `original` as numbers of `stored`.
///
/// # Panics
/// If `original` has no such numbers, or `words` is not as many of them as `weights` are.
pub fn narrow(original: Number, stored: Number, weights: &[u8], words: &mut [u8]) {
    match (original, stored) {
        (Number::F32, Number::Bf16) => each(weights, words, |[_, _, low, high]: [u8; 4]| [low, high]),
        (Number::F32, Number::F16) => {
            each(weights, words, |weight: [u8; 4]| f16_of_f32(u32::from_le_bytes(weight)).to_le_bytes())
        }
        (Number::F16, Number::Bf16) => {
            each(weights, words, |weight: [u8; 2]| bf16_of_f16(u16::from_le_bytes(weight)).to_le_bytes())
        }
        _ => copy(original, stored, weights, words),
    }
}

/// The weights of `original` that words of `stored` are.
///
/// # Panics
/// As [`narrow`].
pub fn widen(original: Number, stored: Number, words: &[u8], weights: &mut [u8]) {
    match (original, stored) {
        (Number::F32, Number::Bf16) => each(words, weights, |[low, high]: [u8; 2]| [0, 0, low, high]),
        (Number::F32, Number::F16) => {
            each(words, weights, |word: [u8; 2]| f32_of_f16(u16::from_le_bytes(word)).to_le_bytes())
        }
        (Number::F16, Number::Bf16) => {
            each(words, weights, |word: [u8; 2]| f16_of_bf16(u16::from_le_bytes(word)).to_le_bytes())
        }
        _ => copy(original, stored, words, weights),
    }
}

fn copy(original: Number, stored: Number, from: &[u8], to: &mut [u8]) {
    assert_eq!(original, stored, "kinds of numbers");
    to.copy_from_slice(from);
}

fn each<const FROM: usize, const TO: usize>(
    from: &[u8],
    to: &mut [u8],
    cast: impl Fn([u8; FROM]) -> [u8; TO],
) {
    let (from, rest) = from.as_chunks::<FROM>();
    let (to, other_rest) = to.as_chunks_mut::<TO>();
    assert!(rest.is_empty() && other_rest.is_empty() && from.len() == to.len(), "as many numbers");
    from.iter().zip(to).for_each(|(&from, to)| *to = cast(from));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_narrow_comes_back() {
        for original in Number::ALL {
            for stored in Number::ALL.into_iter().filter(|stored| stored.may_be(original)) {
                let words: Vec<u8> = [0u16, 0x8000, 0x3F80, 0x3C00, 0x4049, 0xC000, 0x3A00]
                    .into_iter()
                    .flat_map(|word| {
                        word.to_le_bytes().into_iter().chain([0; 2]).take(stored.bytes() as usize)
                    })
                    .collect();
                let count = words.len() as u64 / stored.bytes();
                let mut weights = vec![0xAA; (count * original.bytes()) as usize];
                widen(original, stored, &words, &mut weights);
                let mut again = vec![0xAA; words.len()];
                narrow(original, stored, &weights, &mut again);
                assert_eq!(again, words, "{original:?} as {stored:?}");
            }
        }
    }
}
