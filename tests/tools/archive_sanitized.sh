#!/usr/bin/env bash
# By hand: the tests of the codes of archives with the C kernels and the Rust side under AddressSanitizer: damaged chunks must not make
# anything read or write beyond its bounds. Needs a nightly Rust. About 10 minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
export RUSTFLAGS=-Zsanitizer=address CFLAGS=-fsanitize=address ASAN_OPTIONS=detect_leaks=0
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/sanitized
cargo +nightly test --release --no-default-features --features convert --target "$(uname -m)-unknown-linux-gnu" --test archive
