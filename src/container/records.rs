//! The blocks that tensors of other types than full precision consist of, as records: fields by themselves have other statistics than
//! all bytes together. From ggml's structures (`ggml-common.h`).

use super::gguf::TensorType;

/// Where the planes of a record of this type end, the last at its end: each byte of a scale is one, all quants of a kind are one.
pub fn planes(ty: TensorType) -> Vec<usize> {
    let width = ty.block_bytes() as usize;
    let fixed: &[usize] = match ty.name() {
        "Q4_0" | "Q8_0" | "IQ4_NL" | "Q1_0" | "Q2_0" => &[1, 2],
        "Q4_1" | "Q8_1" => &[1, 2, 3, 4],
        "Q5_0" => &[1, 2, 6],
        "Q5_1" => &[1, 2, 3, 4, 8],
        "Q2_K" => &[16, 80, 81, 82, 83],
        "Q3_K" => &[32, 96, 108, 109],
        "Q4_K" => &[1, 2, 3, 4, 16],
        "Q5_K" => &[1, 2, 3, 4, 16, 48],
        "Q6_K" => &[128, 192, 208, 209],
        "Q8_K" => &[1, 2, 3, 4, 260],
        "IQ4_XS" => &[1, 2, 4, 8],
        "MXFP4" => &[1],
        "NVFP4" => &[4],
        "TQ1_0" => &[48, 52, 53],
        "TQ2_0" => &[64, 65],
        "IQ2_XXS" | "IQ2_XS" | "IQ2_S" | "IQ3_XXS" | "IQ3_S" | "IQ1_S" => &[1, 2],
        _ if width <= 8 => &[1, 2, 3, 4, 5, 6, 7],
        _ => &[],
    };
    fixed.iter().copied().filter(|&end| end < width).chain([width]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_fill_their_records() {
        for ty in (0..64).filter_map(TensorType::from_id) {
            let planes = planes(ty);
            assert!(planes.is_sorted_by(|a, b| a < b) && planes[0] > 0, "{ty}");
            assert_eq!(planes.last(), Some(&(ty.block_bytes() as usize)), "{ty}");
        }
        assert_eq!(planes(TensorType::F32), [1, 2, 3, 4]);
        assert_eq!(planes(TensorType::Q8_0), [1, 2, 34]);
    }
}
