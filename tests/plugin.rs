//! The parts of the plugin that need no ggml. (Its other tests run in llama.cpp: tests/llama.sh.)

#[path = "../plugin/src/ops/chunks.rs"]
mod chunks;
#[path = "../plugin/src/host/orders.rs"]
mod orders;

use chunks::{Chunks, TILE, Thread, chunk_rows};
use orders::{Orders, Product};
use unweight::codec::Number;
use unweight::kernel::Order;

#[test]
fn every_chunk_is_dealt_out_once() {
    for threads in [1, 2, 3, 31, 32, 33, 64] {
        for chunks_in_all in [0, 1, 5, 31, 1000] {
            let chunks = Chunks::default();
            let deal = |index| {
                let thread = Thread { index, count: threads };
                std::iter::from_fn(|| chunks.next(thread, chunks_in_all)).collect::<Vec<u64>>()
            };
            let mut dealt: Vec<u64> = std::thread::scope(|scope| {
                let handles: Vec<_> = (0..threads).map(|index| scope.spawn(move || deal(index))).collect();
                handles.into_iter().flat_map(|handle| handle.join().unwrap()).collect()
            });
            dealt.sort_unstable();
            assert!(dealt.into_iter().eq(0..chunks_in_all), "{threads} threads, {chunks_in_all} chunks");
        }
    }
}

#[test]
fn a_thread_alone_gets_its_own_share_first_and_in_order() {
    let chunks = Chunks::default();
    let dealt: Vec<u64> = std::iter::from_fn(|| chunks.next(Thread { index: 1, count: 2 }, 8)).collect();
    assert_eq!(dealt, [4, 5, 6, 7, 0, 1, 2, 3]);
}

#[test]
fn chunks_are_whole_tiles_and_enough_for_all_threads() {
    for (rows, threads) in [(1, 1), (15, 4), (96, 2), (4096, 2), (151_936, 64)] {
        let chunk = chunk_rows(rows, threads);
        assert!(chunk > 0 && chunk.is_multiple_of(TILE), "{rows} rows, {threads} threads");
        assert!(rows.div_ceil(chunk) >= threads.min(rows.div_ceil(TILE)), "{rows} rows, {threads} threads");
    }
}

/// The orders of a CPU backend that reports these features.
fn orders(features: &[&str]) -> Orders {
    Orders::from_features(&features.iter().map(|&feature| feature.to_owned()).collect::<Vec<_>>())
}

/// One that tinyBLAS takes wherever it takes any.
fn product(weights: Number) -> Product {
    Product { weights, k: 64, rows: 64, columns: 4, is_contiguous: true }
}

#[test]
fn orders_follow_the_host() {
    use Order::*;
    // For BF16, F16 and F32 weights: of single columns, and of several.
    type Kinds = [Order; 3];
    let cases: [(&[&str], Kinds, Kinds); 11] = [
        (&["LLAMAFILE"], [Plain; 3], [Plain; 3]),
        (&["SSE3", "LLAMAFILE"], [Plain, F16Sse3, F32Sse3], [Plain, F16Sse3, F32Sse3]),
        (&["NEON", "ARM_FMA", "LLAMAFILE"], [Plain, F16Neon, F32Neon], [Plain, TileNeon, TileNeon]),
        (&["NEON", "ARM_FMA"], [Plain, F16Neon, F32Neon], [Plain, F16Neon, F32Neon]),
        (&["SSE3", "AVX", "LLAMAFILE"], [Bf16Avx, F16Avx, F32Avx], [Bf16Avx, F16Avx, TileAvx]),
        (&["SSE3", "AVX", "F16C", "LLAMAFILE"], [Bf16Avx, F16Avx, F32Avx], [Bf16Avx, TileAvx, TileAvx]),
        (&["AVX", "F16C", "FMA", "LLAMAFILE"], [Bf16Avx2, F16Fma, F32Fma], [Bf16Avx2, TileFma, TileFma]),
        (&["AVX", "AVX2", "F16C", "FMA", "LLAMAFILE"], [Bf16Avx2, F16Fma, F32Fma], [TileFma; 3]),
        (&["AVX", "AVX2", "F16C", "FMA"], [Bf16Avx2, F16Fma, F32Fma], [Bf16Avx2, F16Fma, F32Fma]),
        (&["AVX", "FMA", "AVX512", "LLAMAFILE"], [Bf16Avx512, F16Avx512, F32Avx512], [TileAvx512; 3]),
        (
            &["AVX", "FMA", "AVX512", "AVX512_BF16", "LLAMAFILE"],
            [Bf16Avx512Bf16, F16Avx512, F32Avx512],
            [TileAvx512Bf16, TileAvx512, TileAvx512],
        ),
    ];
    for (features, single, several) in cases {
        let orders = orders(features);
        for weights in Number::ALL {
            let (single, several) = (single[weights as usize], several[weights as usize]);
            let order = |change: fn(&mut Product)| {
                let mut product = product(weights);
                change(&mut product);
                orders.product(product)
            };
            let what = format!("{features:?}, {weights:?}");
            assert_eq!(orders.experts(weights), single, "{what}");
            assert_eq!(order(|_| ()), several, "{what}");
            assert_eq!(order(|product| product.columns = 1), single, "{what}");
            assert_eq!(order(|product| product.rows = 66), single, "tinyBLAS takes rows by four: {what}");
        }
    }
}

#[test]
fn activations_that_are_not_copied_stay_apart() {
    let gaps = |weights| Product { is_contiguous: false, ..product(weights) };
    let haswell = orders(&["AVX", "AVX2", "F16C", "FMA", "LLAMAFILE"]);
    assert_eq!(haswell.product(gaps(Number::Bf16)), Order::TileFma);
    assert_eq!(haswell.product(gaps(Number::F16)), Order::TileFma);
    assert_eq!(haswell.product(gaps(Number::F32)), Order::F32Fma);
    let arm = orders(&["NEON", "LLAMAFILE"]);
    assert_eq!(arm.product(gaps(Number::F16)), Order::F16Neon);
    assert_eq!(arm.product(gaps(Number::F32)), Order::F32Neon);
}

#[test]
fn tinyblas_on_arm_takes_less() {
    let arm = orders(&["NEON", "LLAMAFILE"]);
    let order = |weights, k, columns| arm.product(Product { k, columns, ..product(weights) });
    assert_eq!([2, 3, 4].map(|columns| order(Number::F16, 64, columns)), [Order::TileNeon; 3]);
    assert_eq!(
        [2, 3, 4].map(|columns| order(Number::F32, 64, columns)),
        [Order::F32Neon, Order::F32Neon, Order::TileNeon]
    );
    assert_eq!(order(Number::F16, 66, 4), Order::F16Neon);
    assert_eq!(order(Number::F32, 66, 4), Order::F32Neon);
}
