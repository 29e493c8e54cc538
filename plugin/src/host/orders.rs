//! In which order sums have to be formed.

use unweight::kernel::Order;

/// The orders of sums of the CPU backend's own BF16 products, which ours must repeat to give the same bits.
#[derive(Debug, Clone, Copy)]
pub struct Orders {
    /// `ggml_vec_dot_bf16`: single columns, and all products of experts.
    dot: Order,
    /// tinyBLAS: two columns or more, where it is built in.
    tile: Option<Order>,
}

impl Orders {
    /// `features`: as the CPU backend reports them.
    pub fn from_features(features: &[String]) -> Self {
        let has = |name: &str| features.iter().any(|feature| feature == name);
        let (dot, tile) = if has("AVX512_BF16") {
            (Order::DotAvx512Bf16, Some(Order::TileAvx512Bf16))
        } else if has("AVX512") {
            (Order::DotAvx512, Some(Order::TileAvx512))
        } else if has("AVX2") {
            (Order::DotAvx2, Some(Order::TileAvx2))
        } else if has("AVX") {
            // tinyBLAS has no BF16 without AVX2.
            (if has("FMA") { Order::DotAvx2 } else { Order::DotAvx }, None)
        } else {
            (Order::DotPlain, None)
        };
        Self { dot, tile: tile.filter(|_| has("LLAMAFILE")) }
    }

    /// For the product of a matrix of `rows` rows with `columns` vectors.
    pub fn product(self, rows: u64, columns: u64) -> Order {
        match self.tile {
            Some(tile) if columns >= 2 && rows.is_multiple_of(4) => tile,
            _ => self.dot,
        }
    }

    pub fn experts(self) -> Order {
        self.dot
    }
}
