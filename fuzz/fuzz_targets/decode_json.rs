#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| assay_fuzz::decode_json::check(data));
