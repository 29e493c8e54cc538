//! Compiles the C kernels: one file per instruction set, each with its own flags; the choice is made at run time.

#[allow(dead_code)]
mod constants {
    include!("src/codec/constants.rs");
}

type Words = &'static [&'static str];

const PORTABLE: Words = &["piece.c", "scalar.c", "archive.c", "archive_scalar.c", "dispatch.c"];
/// Tuning is not the compiler's own: that is for machines without these instructions, and costs 15 %.
const AVX2: Words = &["-mtune=icelake-server", "-mavx2", "-mfma", "-mbmi", "-mbmi2", "-mf16c"];
const AVX512: Words = &["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq"];
/// Instruction sets, their files, their flags.
const X86_64: &[(&str, Words, &[Words])] = &[
    ("ssse3", &["ssse3.c"], &[&["-mssse3"]]),
    ("avx2", &["avx2.c", "archive_avx2.c"], &[AVX2]),
    ("avx512", &["avx512.c", "archive_avx512.c"], &[AVX2, AVX512]),
    ("avx512bf16", &["avx512bf16.c"], &[AVX2, AVX512, &["-mavx512bf16"]]),
];

fn main() {
    println!("cargo::rerun-if-changed=src/kernel");
    println!("cargo::rerun-if-changed=src/codec/constants.rs");
    // Each takes long enough to have a thread.
    std::thread::scope(|scope| {
        scope.spawn(|| compile("unweight_portable", PORTABLE, &[]));
        match std::env::var("CARGO_CFG_TARGET_ARCH").as_deref() {
            Ok("x86_64") => {
                for (name, files, flags) in X86_64 {
                    scope.spawn(move || compile(&format!("unweight_{name}"), files, &flags.concat()));
                }
            }
            Ok("aarch64") => {
                scope.spawn(|| compile("unweight_neon", &["neon.c", "neon_plain.c"], &[]));
            }
            _ => {}
        }
    });
}

fn compile(library: &str, files: &[&str], flags: &[&str]) {
    let mut build = cc::Build::new();
    // Sums must round where the source says: no fusing behind its back.
    build
        .std("gnu11")
        .opt_level(3)
        .flag("-ffp-contract=off")
        .flag_if_supported("-fno-semantic-interposition");
    build.warnings(true).extra_warnings(true);
    for (name, value) in [
        ("UW_RUST_BLOCK", constants::BLOCK),
        ("UW_RUST_GROUP_BLOCKS", constants::GROUP_BLOCKS),
        ("UW_RUST_GROUP6_BLOCKS", constants::GROUP6_BLOCKS),
        ("UW_RUST_SEGMENT_BLOCKS", constants::SEGMENT_BLOCKS),
        ("UW_RUST_SEGMENT_ROWS", constants::SEGMENT_ROWS),
        ("UW_RUST_HEADER_BYTES", constants::HEADER_BYTES),
        ("UW_RUST_CODE3_BYTES", constants::CODE3_BYTES),
        ("UW_RUST_CODE4_BYTES", constants::CODE4_BYTES),
        ("UW_RUST_CODE6_BYTES", constants::CODE6_BYTES),
        ("UW_RUST_LANES", constants::LANES),
        ("UW_RUST_SYMBOLS", constants::SYMBOLS),
        ("UW_RUST_SLOT_BITS", constants::SLOT_BITS),
        ("UW_RUST_RAW_GROUP", constants::RAW_GROUP),
        ("UW_RUST_TURNED", constants::TURNED),
    ] {
        build.define(name, value.to_string().as_str());
    }
    for flag in flags {
        build.flag(flag);
    }
    for file in files {
        build.file(format!("src/kernel/{file}"));
    }
    build.compile(library);
}
