//! The fuzz target of `holds::header`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holds::header(bytes));
