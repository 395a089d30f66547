//! What it means for the root key that a version refuses: the service has states of versions, and none of a key.
//!
//! The state of a key is that of its primary version. Where that one serves, a refusal is about another version alone. Invariant: an
//! answer that the key's state contradicts is no refusal: it was true a moment ago, and is asked for again.

use super::exchange::{Failure, Site};
use super::name;
use super::verdict::Violation;
use super::wire::KeyBody;
use crate::error::{ErrorKind, KmsError, Outage};
use crate::key::{KeyRef, KeyState, KeyVersion};

/// Why nothing was wrapped; it is always the primary version that wraps.
pub(super) async fn of_wrap(site: &Site<'_>, key: &KeyRef, failure: Failure) -> KmsError {
    let (violation, error) = match failure {
        Failure::Plain(error) => return missing_or(site, key, error).await,
        Failure::Precondition(violation, error) => (violation, error),
    };
    let kind = match site.look_at_key(key).await {
        Ok(body) => whole_key(&body).unwrap_or_else(changed_meanwhile),
        Err(look) => violation.state.and_then(|state| refused(state, None)).unwrap_or(look.kind),
    };
    KmsError { kind, ..error }
}

/// Why a key was not unwrapped that `recorded` wrapped.
pub(super) async fn of_unwrap(
    site: &Site<'_>,
    key: &KeyRef,
    recorded: Option<&KeyVersion>,
    failure: Failure,
) -> KmsError {
    let (violation, error) = match failure {
        Failure::Plain(error) => return missing_or(site, key, error).await,
        Failure::Precondition(violation, error) => (violation, error),
    };
    let named = violation.version.as_deref().and_then(|said| name::version(said, key));
    let version = named.or_else(|| recorded.cloned());
    let kind = match site.look_at_key(key).await {
        Ok(body) => match whole_key(&body) {
            Some(kind) => kind,
            None => one_version(site, key, &body, version, &violation).await,
        },
        // The version refuses, whatever the key does.
        Err(_) if violation.state.is_some() => ErrorKind::VersionUnavailable { version },
        Err(look) => look.kind,
    };
    KmsError { kind, ..error }
}

/// The key serves; this version does not.
async fn one_version(
    site: &Site<'_>,
    key: &KeyRef,
    body: &KeyBody,
    version: Option<KeyVersion>,
    violation: &Violation,
) -> ErrorKind {
    let Some(version) = version else { return ErrorKind::Invalid };
    if body.current().as_ref() == Some(&version) {
        return changed_meanwhile();
    }
    if violation.state.is_some() {
        return ErrorKind::VersionUnavailable { version: Some(version) };
    }
    match site.look_at_version(key, &version).await.map(|body| body.state()) {
        Ok(Ok(KeyState::Enabled)) => changed_meanwhile(),
        Ok(Ok(_)) => ErrorKind::VersionUnavailable { version: Some(version) },
        Ok(Err(kind)) => kind,
        Err(error) => error.kind,
    }
}

/// What the state of a key says of all its versions; `None`: it serves.
fn whole_key(body: &KeyBody) -> Option<ErrorKind> {
    let until = body.primary.as_ref().and_then(super::wire::VersionBody::destroyed_at);
    match body.state() {
        Ok(state) => refused(state, until),
        Err(kind) => Some(kind),
    }
}

fn refused(state: KeyState, until: Option<std::time::SystemTime>) -> Option<ErrorKind> {
    match state {
        KeyState::Enabled | KeyState::Expired => None,
        KeyState::Disabled => Some(ErrorKind::KeyDisabled),
        KeyState::PendingDeletion => Some(ErrorKind::KeyPendingDeletion { until }),
        KeyState::Destroyed => Some(ErrorKind::KeyDestroyed { recoverable_until: None }),
        // There is no primary version at all.
        KeyState::PendingImport => Some(ErrorKind::VersionUnavailable { version: None }),
    }
}

fn changed_meanwhile() -> ErrorKind {
    ErrorKind::Unavailable { why: Outage::ServerError, retry_after: None }
}

/// Whoever may not use a key is told that it may not exist, and often it does not: who may read its metadata knows.
async fn missing_or(site: &Site<'_>, key: &KeyRef, error: KmsError) -> KmsError {
    if matches!(error.kind, ErrorKind::Denied { .. })
        && let Err(look) = site.look_at_key(key).await
        && look.kind == ErrorKind::KeyNotFound
    {
        return look;
    }
    error
}
