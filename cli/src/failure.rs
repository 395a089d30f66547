//! Why a command ended badly, and with which exit code.
//!
//! Invariant: the text is one for people, and holds no secret: the errors that it is made of hold none.

use contract::exit;
use kms::{ErrorKind, KmsError};

use crate::subject::{Gap, Known};

/// The end of a command.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// One of `contract::exit`.
    pub code: i32,
    /// What happened, and what to do.
    pub text: String,
}

impl Failure {
    /// With this code.
    pub fn new(code: i32, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// The command line is wrong.
    pub fn usage(text: impl Into<String>) -> Self {
        Self::new(exit::USAGE, text)
    }

    /// A file, the kubeconfig or the profile is wrong.
    pub fn config(text: impl Into<String>) -> Self {
        Self::new(exit::CONFIG, text)
    }
}

impl From<Gap> for Failure {
    fn from(gap: Gap) -> Self {
        let code = match gap.known {
            Known::Wrong => exit::CONFIG,
            Known::Refused => exit::REFUSED,
            Known::Outage => exit::UNAVAILABLE,
        };
        Self::new(code, gap.text)
    }
}

/// The exit code of a call that failed.
pub fn code_of(error: &KmsError) -> i32 {
    match &error.kind {
        _ if error.is_outage() => exit::UNAVAILABLE,
        ErrorKind::Denied { .. } | ErrorKind::CredentialRejected => exit::REFUSED,
        _ if error.is_refusal() => exit::REFUSED,
        ErrorKind::Config(_) | ErrorKind::CredentialUnreadable => exit::CONFIG,
        _ => exit::FAILURE,
    }
}
