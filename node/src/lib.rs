//! The CSI node driver `node.cofferdam.io`: it mounts FUSE at a pod's volume, hands the descriptor to that pod's sidecar
//! and to nobody else, and ends a connection that nobody serves.
//!
//! Invariant: it never looks at a mounted target (a `stat` would wait for the server), and never sees a key or a byte of data.

pub mod announce;
pub mod caller;
pub mod cgroup;
pub mod control;
pub mod csi;
pub mod deadline;
pub mod decision;
pub mod grpc;
pub mod health;
pub mod injected;
pub mod kernel;
pub mod metrics;
pub mod mountinfo;
pub mod options;
pub mod pods;
pub mod record;
pub mod registration;
pub mod session;
pub mod silence;
pub mod socket;
pub mod target;
pub mod watch;
