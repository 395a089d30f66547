//! The provider on the wire: what it sends, byte for byte, and what it makes of every answer.
#![allow(clippy::unwrap_used, clippy::panic)]

mod denial;
mod fake;
mod faults;
mod login;
mod permission;
mod proxy;
mod state;
mod tls;
mod wire;
