//! The driver against the real kernel: FUSE mounts, descriptors, cgroups, gRPC over unix sockets. Only the API server is a stand-in.
//!
//! Invariant: each test runs in mount and pid namespaces of its own, as root, and leaves nothing behind; where that cannot be had,
//! it says so and fails if `CI=true`.
#![allow(clippy::unwrap_used, clippy::panic)]

mod beats;
mod csi;
mod deadlines;
mod kernel;
mod leases;
mod restarts;
mod support;
