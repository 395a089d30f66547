//! The fuzz target of `holds::marker`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holds::marker(bytes));
