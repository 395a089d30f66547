//! Waiting for what a cluster does in its own time.
//!
//! Invariant: every wait has a limit, and says what it last saw when it gives up.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// The usual limit: a pod's start on a busy machine with two cores.
pub const SOON: Duration = Duration::from_secs(60);

/// Tries until it succeeds, for at most [`SOON`].
pub fn soon<T>(what: &str, attempt: impl FnMut() -> Result<T>) -> T {
    until(what, SOON, attempt)
}

/// Tries until it succeeds, for at most `limit`; the test fails with the last error otherwise.
#[allow(clippy::panic, reason = "this is how a test fails")]
pub fn until<T>(what: &str, limit: Duration, mut attempt: impl FnMut() -> Result<T>) -> T {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(error) if start.elapsed() > limit => {
                panic!("{what}: not within {} s: {error:#}", limit.as_secs())
            }
            Err(_) => sleep(Duration::from_millis(250)),
        }
    }
}

/// An error unless `condition` holds; for use inside [`until`].
pub fn expect(condition: bool, seen: impl std::fmt::Display) -> Result<()> {
    if !condition {
        bail!("saw {seen}");
    }
    Ok(())
}
