//! The audit lines of this program: the events of the crate `kms`, in the form in which a sidecar writes them.
//!
//! Invariant: nothing but audit events, one JSON object in a line; nothing at all unless it is asked for.

use std::fs::OpenOptions;
use std::path::Path;

use kms::observe::AUDIT_TARGET;
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::failure::Failure;

/// Where `--audit` without a file leads.
const STANDARD_ERROR: &str = "-";

/// Writes audit events from now on.
pub fn begin(to: Option<&Path>) -> Result<(), Failure> {
    let Some(path) = to else { return Ok(()) };
    let writer = if path == Path::new(STANDARD_ERROR) {
        BoxMakeWriter::new(std::io::stderr)
    } else {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.map_err(|error| Failure::config(format!("open {}: {error}", path.display())))?;
        BoxMakeWriter::new(std::sync::Mutex::new(file))
    };
    let only = Targets::new().with_target(AUDIT_TARGET, Level::INFO);
    let lines = fmt::layer().json().flatten_event(true).log_internal_errors(false).with_writer(writer);
    // A second subscriber is refused, which only tests in one process would make.
    let _ = tracing_subscriber::registry().with(lines.with_filter(only)).try_init();
    Ok(())
}
