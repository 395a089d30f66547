//! A profile's next status, from what was declared, what the KMS said, and what is known of the volumes.
//!
//! Invariant: what the KMS did not say is kept or unknown, never made up. What may be retired is decided in `retirable`.

use api::condition::{reasons, types};
use api::profile::VersionStatus;
use api::{EncryptedVolume, KmsProfile, KmsProfileStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kms::KeyState;

use super::look::Look;
use super::retirable::{counts, known_sweep};
use crate::controllers::ProfileProblem;
use crate::controllers::conditions::{Verdict, put, status};

/// The next status.
pub fn next(
    profile: &KmsProfile,
    found: &Result<Look, ProfileProblem>,
    volumes: &[&EncryptedVolume],
    now: &Time,
) -> KmsProfileStatus {
    let mut next = profile.status.clone().unwrap_or_default();
    let generation = profile.metadata.generation;
    let was_ready = next.observed_generation == generation
        && status(&next.conditions, types::READY).is_some_and(|status| status != "False");
    if next.observed_generation != generation {
        // It may be the id of another key.
        next.key_id = None;
    }
    match found {
        Ok(look) => learn(&mut next, look, now),
        Err(problem) => next.key_state = Some(state_after(problem).into()),
    }
    count(&mut next, volumes);
    let (ready, unreachable) = verdicts(found, was_ready);
    put(&mut next.conditions, types::READY, &ready, generation, now);
    put(&mut next.conditions, types::UNREACHABLE, &unreachable, generation, now);
    next.observed_generation = generation;
    next
}

fn learn(next: &mut KmsProfileStatus, look: &Look, now: &Time) {
    let time = |at: Option<std::time::SystemTime>| at.and_then(|at| Timestamp::try_from(at).ok()).map(Time);
    next.key_state = Some(look.info.state.as_str().into());
    next.key_id = Some(look.info.id.0.clone());
    if let Some(current) = &look.info.current {
        next.current_version = Some(current.0.clone());
    }
    next.rotated_at = time(look.info.rotated_at);
    next.last_poll = Some(now.clone());
    if let Some(versions) = &look.versions {
        let version = |info: &kms::VersionInfo| VersionStatus {
            id: info.version.0.clone(),
            created_at: time(info.created_at),
            ..VersionStatus::default()
        };
        next.versions = versions.iter().map(version).collect();
    }
    // A KMS that lists no versions still tells the current one.
    if let Some(current) = &next.current_version
        && !next.versions.iter().any(|version| version.id == *current)
    {
        next.versions.insert(0, VersionStatus { id: current.clone(), ..VersionStatus::default() });
    }
}

fn state_after(problem: &ProfileProblem) -> &'static str {
    match problem {
        ProfileProblem::Kms(error) => match error.kind {
            kms::ErrorKind::KeyDisabled => KeyState::Disabled.as_str(),
            kms::ErrorKind::KeyExpired => KeyState::Expired.as_str(),
            kms::ErrorKind::KeyPendingDeletion { .. } => KeyState::PendingDeletion.as_str(),
            kms::ErrorKind::KeyDestroyed { .. } => KeyState::Destroyed.as_str(),
            _ => "Unknown",
        },
        _ => "Unknown",
    }
}

/// `Ready` and `Unreachable`.
fn verdicts(found: &Result<Look, ProfileProblem>, was_ready: bool) -> (Verdict, Verdict) {
    let reached = Verdict::no(reasons::READY, "the KMS answers");
    match found {
        Ok(look) if look.info.state == KeyState::Enabled => {
            let version = look.info.current.as_ref().map_or("unknown", |version| version.0.as_str());
            let message = format!("the root key is enabled; its current version is {version}");
            (Verdict::yes(reasons::READY, message), reached)
        }
        Ok(look) => {
            let state = look.info.state;
            let message = format!("the root key {} is {state} at the KMS", look.info.id.0);
            (Verdict::no(format!("Key{state}"), message), reached)
        }
        Err(ProfileProblem::Declared { reason, message }) => {
            let unknown = Verdict::unknown(*reason, "the KMS was not asked");
            (Verdict::no(*reason, message.clone()), unknown)
        }
        Err(ProfileProblem::Kms(error)) if error.is_outage() => {
            let message = format!("{error}; nothing is concluded from that");
            let away = Verdict::yes(error.reason(), message.clone());
            if was_ready {
                (Verdict::unknown(error.reason(), message), away)
            } else {
                (Verdict::no(error.reason(), format!("{error}; it never answered")), away)
            }
        }
        Err(ProfileProblem::Kms(error)) => (Verdict::no(error.reason(), error.to_string()), reached),
        Err(ProfileProblem::Api(error)) => {
            let verdict =
                Verdict::unknown(reasons::UNKNOWN, format!("the API server did not answer: {error}"));
            (verdict.clone(), verdict)
        }
    }
}

/// Adds up what each version still wraps; whether one may be retired is not decided by that.
pub(super) fn count(next: &mut KmsProfileStatus, volumes: &[&EncryptedVolume]) {
    let counted: Vec<_> = volumes.iter().filter(|volume| counts(volume)).collect();
    for version in &mut next.versions {
        version.files = 0;
        version.unknown_volumes = 0;
        version.retirable = false;
        for volume in &counted {
            match known_sweep(volume) {
                Some(sweep) => {
                    version.files += sweep.files_per_version.get(&version.id).copied().unwrap_or(0);
                }
                None => version.unknown_volumes += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::unnecessary_wraps)]
    use kms::{ErrorKind, KeyInfo, KeyRef, KeyVersion, KmsError, Op, Origin, Outage, VersionInfo};

    use super::*;
    use crate::controllers::conditions::{find, now};

    fn profile() -> KmsProfile {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "cofferdam.io/v1alpha1", "kind": "KmsProfile",
            "metadata": {"name": "main", "namespace": "shop", "generation": 1},
            "spec": {
                "keyProtect": {"endpoint": "https://kms", "instance": "i", "rootKey": "k"},
                "credentials": {"data": {"apiKeySecret": {"name": "s"}}},
            },
        }))
        .unwrap()
    }

    fn look(state: KeyState, versions: &[&str]) -> Result<Look, ProfileProblem> {
        let version = |id: &&str| VersionInfo { version: KeyVersion((*id).into()), created_at: None };
        let info = KeyInfo {
            id: KeyRef("k".into()),
            state,
            current: versions.first().map(|id| KeyVersion((*id).into())),
            rotated_at: None,
            expires_at: None,
            origin: Origin::Generated,
            auto_rotation: None,
        };
        Ok(Look { info, versions: Some(versions.iter().map(version).collect()) })
    }

    fn failed(kind: ErrorKind) -> Result<Look, ProfileProblem> {
        Err(ProfileProblem::Kms(KmsError::new(kind, "keyProtect", Op::Describe)))
    }

    fn outage() -> Result<Look, ProfileProblem> {
        failed(ErrorKind::Unavailable { why: Outage::Timeout, retry_after: None })
    }

    fn ready(status: &KmsProfileStatus) -> (&str, &str) {
        let ready = find(&status.conditions, types::READY).unwrap();
        (&ready.status, &ready.reason)
    }

    #[test]
    fn an_outage_of_a_ready_profile_is_unknown_and_never_a_refusal() {
        let mut profile = profile();
        profile.status = Some(next(&profile, &look(KeyState::Enabled, &["v1"]), &[], &now()));
        assert_eq!(ready(profile.status.as_ref().unwrap()), ("True", "Ready"));
        let after = next(&profile, &outage(), &[], &now());
        assert_eq!(ready(&after), ("Unknown", "KmsTimeout"));
        assert_eq!(after.key_state.as_deref(), Some("Unknown"));
        assert_eq!(after.current_version.as_deref(), Some("v1"));
    }

    #[test]
    fn a_profile_that_never_worked_is_not_ready_in_an_outage() {
        assert_eq!(ready(&next(&profile(), &outage(), &[], &now())), ("False", "KmsTimeout"));
    }

    #[test]
    fn a_disabled_key_is_said_with_its_state() {
        let status = next(&profile(), &look(KeyState::Disabled, &["v1"]), &[], &now());
        assert_eq!(ready(&status), ("False", "KeyDisabled"));
        assert_eq!(status.key_state.as_deref(), Some("Disabled"));
        let status = next(&profile(), &failed(ErrorKind::KeyNotFound), &[], &now());
        assert_eq!(ready(&status), ("False", "KeyNotFound"));
    }
}
