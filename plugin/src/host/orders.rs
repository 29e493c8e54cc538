//! In which order sums have to be formed.

use unweight::codec::Number;
use unweight::kernel::Order;

/// The orders of sums of the CPU backend's own products, which ours must repeat to give the same bits.
#[derive(Debug, Clone, Copy)]
pub struct Orders {
    /// `ggml_vec_dot_…`: single columns, and all products of experts. By the kind of the weights, as [`Number`] counts them.
    dots: [Order; 3],
    /// tinyBLAS: two columns or more, where it is built in and has such a product.
    tiles: [Option<Tile>; 3],
}

/// A product of tinyBLAS: matrices of a multiple of 4 rows only.
#[derive(Debug, Clone, Copy)]
struct Tile {
    order: Order,
    least_columns: u64,
    /// Rows of a multiple of this only.
    width: u64,
    /// It takes activations as they are, so they must have no gaps between them.
    takes_floats: bool,
}

/// A product, as far as its order depends on it.
#[derive(Debug, Clone, Copy)]
pub struct Product {
    pub weights: Number,
    /// Weights in a row.
    pub k: u64,
    pub rows: u64,
    pub columns: u64,
    /// The activations have no gaps between them.
    pub is_contiguous: bool,
}

impl Orders {
    /// `features`: as the CPU backend reports them.
    pub fn from_features(features: &[String]) -> Self {
        let has = |name: &str| features.iter().any(|feature| feature == name);
        let dots = if has("AVX512_BF16") {
            [Order::Bf16Avx512Bf16, Order::F16Avx512, Order::F32Avx512]
        } else if has("AVX512") {
            [Order::Bf16Avx512, Order::F16Avx512, Order::F32Avx512]
        } else if has("AVX") && has("FMA") {
            [Order::Bf16Avx2, Order::F16Fma, Order::F32Fma]
        } else if has("AVX") {
            [Order::Bf16Avx, Order::F16Avx, Order::F32Avx]
        } else if has("SSE3") {
            [Order::Plain, Order::F16Sse3, Order::F32Sse3]
        } else if has("NEON") {
            // With half-precision arithmetic F16 is added up in that, which none of our orders is.
            [Order::Plain, Order::F16Neon, Order::F32Neon]
        } else {
            [Order::Plain; 3]
        };
        let tile = |order| Tile { order, least_columns: 2, width: 1, takes_floats: false };
        let tiles = if !has("LLAMAFILE") {
            [None; 3]
        } else if has("AVX512") {
            let bf16 = if has("AVX512_BF16") { Order::TileAvx512Bf16 } else { Order::TileAvx512 };
            [bf16, Order::TileAvx512, Order::TileAvx512].map(tile).map(Some)
        } else if has("AVX") {
            let order = if has("FMA") { Order::TileFma } else { Order::TileAvx };
            let if_has = |name: &str| has(name).then(|| tile(order));
            [if_has("AVX2"), if_has("F16C"), Some(tile(order))]
        } else if has("NEON") {
            let neon =
                |least_columns| Tile { least_columns, width: 4, takes_floats: true, ..tile(Order::TileNeon) };
            [None, Some(neon(2)), Some(neon(4))]
        } else {
            [None; 3]
        };
        // Activations of F32 weights are not copied, and so never made contiguous.
        let [bf16, f16, f32] = tiles;
        Self { dots, tiles: [bf16, f16, f32.map(|tile| Tile { takes_floats: true, ..tile })] }
    }

    pub fn product(&self, product: Product) -> Order {
        let Product { weights, k, rows, columns, is_contiguous } = product;
        let fits = |tile: &Tile| {
            rows.is_multiple_of(4)
                && k.is_multiple_of(tile.width)
                && columns >= tile.least_columns
                && (is_contiguous || !tile.takes_floats)
        };
        self.tiles[weights as usize].filter(fits).map_or_else(|| self.experts(weights), |tile| tile.order)
    }

    pub fn experts(&self, weights: Number) -> Order {
        self.dots[weights as usize]
    }
}
