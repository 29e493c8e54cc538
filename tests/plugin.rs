//! The parts of the plugin that need no ggml. (Its other tests run in llama.cpp: tests/llama.sh.)

#[path = "../plugin/src/ops/chunks.rs"]
mod chunks;
#[path = "../plugin/src/host/orders.rs"]
mod orders;

use chunks::{Chunks, TILE, Thread, chunk_rows};
use orders::Orders;
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

#[test]
fn orders_follow_the_host() {
    use Order::*;
    // By the kind of the weights: of single columns, and of several.
    type Kinds = [Order; 3];
    let cases: [(&[&str], Kinds, Kinds); 9] = [
        (&["LLAMAFILE"], [Plain; 3], [Plain; 3]),
        (&["SSE3", "LLAMAFILE"], [Plain, F16Sse3, F32Sse3], [Plain, F16Sse3, F32Sse3]),
        (&["NEON", "ARM_FMA", "LLAMAFILE"], [Plain, F16Neon, F32Neon], [Plain, TileNeon, TileNeon]),
        (&["SSE3", "AVX", "LLAMAFILE"], [Bf16Avx, F16Avx, F32Avx], [Bf16Avx, F16Avx, TileAvx]),
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
        let features: Vec<String> = features.iter().map(|&feature| feature.to_owned()).collect();
        let orders = Orders::from_features(&features);
        for (i, weights) in Number::ALL.into_iter().enumerate() {
            let product = Product { weights, k: 64, rows: 64, columns: 4, is_contiguous: true };
            let what = format!("{features:?} {weights:?}");
            assert_eq!(orders.experts(weights), single[i], "{what}");
            assert_eq!(orders.product(Product { columns: 1, ..product }), single[i], "{what}");
            assert_eq!(orders.product(product), several[i], "{what}");
            assert_eq!(
                orders.product(Product { rows: 66, ..product }),
                single[i],
                "tinyBLAS takes rows by four: {what}"
            );
        }
        // It is not tried again with a copy of activations where none is made.
        let gaps = Product { weights: Number::F32, k: 64, rows: 64, columns: 4, is_contiguous: false };
        assert_eq!(orders.product(gaps), single[2], "{features:?}");
    }
}
