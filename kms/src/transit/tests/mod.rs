//! The provider on the wire: what it sends, byte for byte, and what it makes of answers that no real server gives.
#![allow(clippy::unwrap_used, clippy::panic)]

mod permission;
mod wire;
