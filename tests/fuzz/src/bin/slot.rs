//! The fuzz target of `holds::slot`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holds::slot(bytes));
