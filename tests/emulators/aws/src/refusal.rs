//! How AWS refuses: a name, a sentence, a status. Invariant: KMS refuses with 400 whatever the reason; STS has 403 for who may not.

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

/// What an action answers.
pub(crate) type Answer<T> = Result<T, Refusal>;

/// A refusal with 400.
pub(crate) fn refuse<T>(code: &'static str, message: impl Into<String>) -> Answer<T> {
    Err(refusal(code, message))
}

/// The same, not yet as an answer.
pub(crate) fn refusal(code: &'static str, message: impl Into<String>) -> Refusal {
    Refusal { status: 400, code, message: message.into() }
}
