//! The parts of the plugin that need no ggml. (Its other tests run in llama.cpp: tests/llama.sh.)

#[path = "../plugin/src/ops/chunks.rs"]
mod chunks;
#[path = "../plugin/src/host/orders.rs"]
mod orders;

use chunks::{Chunks, TILE, Thread, chunk_rows};
use orders::Orders;
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
    let cases: [(&[&str], Order, Order); 7] = [
        (&["SSE3", "LLAMAFILE"], Order::DotPlain, Order::DotPlain),
        (&["NEON", "ARM_FMA", "LLAMAFILE"], Order::DotPlain, Order::DotPlain),
        (&["AVX", "LLAMAFILE"], Order::DotAvx, Order::DotAvx),
        (&["AVX", "FMA", "LLAMAFILE"], Order::DotAvx2, Order::DotAvx2),
        (&["AVX", "AVX2", "FMA", "LLAMAFILE"], Order::DotAvx2, Order::TileAvx2),
        (&["AVX", "AVX2", "FMA", "AVX512", "LLAMAFILE"], Order::DotAvx512, Order::TileAvx512),
        (&["AVX2", "AVX512", "AVX512_BF16"], Order::DotAvx512Bf16, Order::DotAvx512Bf16),
    ];
    for (features, single, several) in cases {
        let features: Vec<String> = features.iter().map(|&feature| feature.to_owned()).collect();
        let orders = Orders::from_features(&features);
        assert_eq!(orders.experts(), single, "{features:?}");
        assert_eq!(orders.product(64, 1), single, "{features:?}");
        assert_eq!(orders.product(64, 2), several, "{features:?}");
        assert_eq!(orders.product(66, 2), single, "tinyBLAS takes rows by four: {features:?}");
    }
}
