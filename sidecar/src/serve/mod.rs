//! The sidecar: serves the pod's volumes until the pod ends.
//!
//! Invariant: requests are answered without any KMS; data is served only while the root key may be used.

pub mod board;
pub mod check_in_task;
mod context;
pub mod driver;
mod http;
pub mod link;
pub mod metrics;
pub mod orders;
mod run;
mod session;
pub mod status_file;
pub mod volume_task;
mod waiting_room;

pub use context::{Context, Places, auditor, holder, trail};
pub use run::{ServeError, run};

/// An error and its causes, for a person.
pub fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
