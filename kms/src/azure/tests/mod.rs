//! The provider against a server that says exactly what a test tells it to say.
#![allow(clippy::unwrap_used, clippy::panic)]

mod fake;
mod login;
mod states;
mod versions;
mod wire;
