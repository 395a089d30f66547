//! What travels with a call: its context for the KMS's AAD, its deadline, its correlation id.
//!
//! Invariant: nothing here is secret; the context is a hash that the envelope made.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use contract::audit::Subject;
use tokio::time::Instant;
use uuid::Uuid;

/// The hash of the encryption context (volume, object, purpose), 32 bytes, made by the envelope. A key that was
/// wrapped with one context does not unwrap with another.
pub type EncCtx = [u8; 32];

/// Ties together our audit event, the vendor's audit event and the error that a person sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CorrelationId(Uuid);

impl CorrelationId {
    /// A new random one (UUID version 4).
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How one call is to be made.
#[derive(Clone, Debug)]
pub struct CallCtx {
    /// The call ends by then, retries and waiting included; `None`: after the connection's default.
    pub deadline: Option<Instant>,
    /// Sent to the KMS and written into the audit stream; all attempts of one call share it.
    pub correlation_id: CorrelationId,
    /// Only the KMS's own answer will do: no cached key. It is what extends the life of a cached key.
    pub fresh: bool,
    /// What it is about, for the audit trail.
    pub subject: Option<Arc<Subject>>,
}

impl CallCtx {
    /// A call with the connection's default deadline.
    pub fn new() -> Self {
        Self { deadline: None, correlation_id: CorrelationId::random(), fresh: false, subject: None }
    }

    /// A call that ends within `limit` from now.
    pub fn within(limit: Duration) -> Self {
        Self { deadline: Some(Instant::now() + limit), ..Self::new() }
    }

    /// The same call, but answered by the KMS itself.
    #[must_use]
    pub fn fresh(self) -> Self {
        Self { fresh: true, ..self }
    }

    /// The same call, which is about `subject`.
    #[must_use]
    pub fn about(self, subject: Subject) -> Self {
        Self { subject: Some(Arc::new(subject)), ..self }
    }

    /// Time left; `None` where there is no deadline.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

impl Default for CallCtx {
    fn default() -> Self {
        Self::new()
    }
}

/// The operations of a KMS, as they are named in audit events, errors and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Read the root key's state.
    Describe,
    /// Make and wrap a new data key.
    Generate,
    /// Wrap a given data key.
    Wrap,
    /// Unwrap a data key.
    Unwrap,
    /// Wrap a data key with the current version, without showing it.
    Rewrap,
    /// List the root key's versions.
    Versions,
    /// Get or renew the access token.
    Authenticate,
    /// Make a new root key version.
    Rotate,
    /// Make a root key.
    Create,
    /// Let a root key be used again.
    Enable,
    /// Stop all use of a root key.
    Disable,
    /// Delete a root key.
    Delete,
    /// Undo a deletion.
    Restore,
    /// Set the KMS's own rotation policy.
    SetRotationPolicy,
    /// Find out what a credential may do, without doing it.
    Permissions,
}

impl Op {
    /// The lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Describe => "describe",
            Self::Generate => "generate",
            Self::Wrap => "wrap",
            Self::Unwrap => "unwrap",
            Self::Rewrap => "rewrap",
            Self::Versions => "versions",
            Self::Authenticate => "authenticate",
            Self::Rotate => "rotate",
            Self::Create => "create",
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Delete => "delete",
            Self::Restore => "restore",
            Self::SetRotationPolicy => "set_rotation_policy",
            Self::Permissions => "permissions",
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
