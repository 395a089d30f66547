//! Progress of long work on a terminal: one line that is rewritten.
//!
//! Invariant: on standard error, and only if that is a terminal; results go to standard output alone.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Between two updates.
const PERIOD: Duration = Duration::from_millis(200);

/// The line.
pub struct Line {
    shown: bool,
    last: Option<Instant>,
}

impl Line {
    /// A line that shows nothing yet.
    pub fn new() -> Self {
        Self { shown: std::io::stderr().is_terminal(), last: None }
    }

    /// Shows `text`, if it is time to.
    pub fn show(&mut self, text: impl FnOnce() -> String) {
        if !self.shown || self.last.is_some_and(|last| last.elapsed() < PERIOD) {
            return;
        }
        self.last = Some(Instant::now());
        let _ = write!(std::io::stderr(), "\r\x1b[K{}", text());
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.shown && self.last.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
