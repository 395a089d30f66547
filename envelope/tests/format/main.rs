//! Tests of the format as a whole, through the public interface: the independent oracle, tampering, what the format
//! cannot notice, arbitrary bytes, the committed vectors, and the specification's worked examples.
#![allow(clippy::unwrap_used, clippy::panic)]

mod document;
mod generate;
mod oracle;
mod parsers;
mod sample;
mod tamper;
mod undetected;
mod vectors;
mod wycheproof;
