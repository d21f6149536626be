#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| purlin_fuzz_common::tsi_state(data));
