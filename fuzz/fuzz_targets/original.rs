#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| unweight_fuzz::targets::original::run(data));
