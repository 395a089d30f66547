//! A storage in memory, mounted by FUSE, that records each operation which changes it.
//!
//! Invariant: the log and the image agree: the image is the base with all of the log applied.

mod answers;
mod data;
mod image;
mod request;
mod server;
mod store;

pub use data::{Data, Page, parts};
pub use image::{Attrs, Body, Change, Image, Ino, Node, ROOT};
pub use server::{Bench, Mount};
pub use store::{Fault, Injection, Recording, Store};
