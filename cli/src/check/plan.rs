//! What is checked of each credential.
//!
//! Invariant: pure. Each credential must be able to do its work, and nothing beyond.

use api::profile::{KmsProfileSpec, RotatedBy};

use crate::subject::Role;

/// What is checked of a credential beside that it reaches the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// It wraps.
    Wrap,
    /// It unwraps what was wrapped.
    Unwrap,
    /// It rewraps.
    Rewrap,
    /// It does not unwrap.
    NoUnwrap,
    /// It may not rotate.
    NoRotate,
    /// It may not disable.
    NoDisable,
    /// It may rotate.
    Rotate,
    /// It may set the KMS's own rotation.
    RotationPolicy,
    /// Whether it may disable.
    Disable,
}

impl Check {
    /// As it stands in a line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wrap => "wrap",
            Self::Unwrap => "unwrap",
            Self::Rewrap => "rewrap",
            Self::NoUnwrap => "no unwrap",
            Self::NoRotate => "no rotate",
            Self::NoDisable => "no disable",
            Self::Rotate => "rotate",
            Self::RotationPolicy => "rotation policy",
            Self::Disable => "disable",
        }
    }
}

/// What is tried with a throw-away key.
pub fn tried(role: Role) -> &'static [Check] {
    match role {
        Role::Data => &[Check::Wrap, Check::Unwrap, Check::Rewrap],
        Role::Rewrap => &[Check::Rewrap, Check::NoUnwrap],
        Role::Admin => &[],
    }
}

/// What the KMS is asked about, because trying it would change the root key.
pub fn asked(role: Role) -> &'static [Check] {
    match role {
        Role::Data | Role::Rewrap => &[Check::NoRotate, Check::NoDisable],
        Role::Admin => &[Check::Rotate, Check::RotationPolicy, Check::Disable],
    }
}

/// What the admin credential must be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Set the KMS's own rotation: the profile says so.
    Policy,
    /// Rotate: the profile says so.
    Rotate,
    /// One of the two: the profile leaves to the operator which.
    Either,
    /// Nothing: nobody rotates by this profile. It is for a person's own use.
    Nothing,
}

/// By what the profile says of rotation.
pub fn need(spec: &KmsProfileSpec) -> Need {
    match spec.rotation.as_ref().filter(|rotation| rotation.managed).map(|rotation| rotation.by) {
        Some(Some(RotatedBy::Kms)) => Need::Policy,
        Some(Some(RotatedBy::Operator)) => Need::Rotate,
        Some(None) => Need::Either,
        None => Need::Nothing,
    }
}
