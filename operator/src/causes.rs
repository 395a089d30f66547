//! An error with all its causes, for a log line: JSON logs write an error's own words only.
//!
//! Invariant: words alone, outermost first; no error of this program has a secret in its words.

use std::error::Error;
use std::fmt::{Display, Formatter, Result};

/// Shows `outer: cause: cause of that`.
pub struct Causes<'a>(pub &'a dyn Error);

impl Display for Causes<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> Result {
        write!(formatter, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            write!(formatter, ": {cause}")?;
            next = cause.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("open the door")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn every_cause_is_said_once() {
        let error = Outer(std::io::Error::other("no key"));
        assert_eq!(Causes(&error).to_string(), "open the door: no key");
    }
}
