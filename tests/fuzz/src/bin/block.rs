//! The fuzz target of `holds::block`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holds::block(bytes));
