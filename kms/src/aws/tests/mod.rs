//! What AWS's wire must look like, and what no emulator says.
#![allow(clippy::unwrap_used)]

mod fixture;
mod login;
mod time;
mod wire;
