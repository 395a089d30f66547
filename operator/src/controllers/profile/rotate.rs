//! Sees to the rotation of a managed root key: looks again, changes one thing at the KMS, and says what came of it.
//!
//! Invariant: it runs in the leader only, as every controller; the only calls that change a root key are made here, each right after
//! a look at the KMS that asks for it, and never repeated by themselves.

use std::time::Duration;

use api::condition::types;
use api::profile::RotationStatus;
use api::{KmsProfile, KmsProfileStatus};
use contract::names::FIELD_MANAGER;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kms::CallCtx;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde_json::json;

use super::Error;
use super::look::{self, Look};
use super::rotation::{self, Act, Change, Said, Step};
use crate::controllers::conditions::{Verdict, put};
use crate::controllers::{ProfileProblem, Shared};

/// How long a change may take, login included.
const DEADLINE: Duration = Duration::from_secs(15);

/// Does what is to be done; `reported` is the status as it was written a moment ago.
pub async fn manage(
    shared: &Shared,
    profile: &KmsProfile,
    found: &Result<Look, ProfileProblem>,
    reported: &KmsProfileStatus,
) -> Result<(), Error> {
    let now = Timestamp::now();
    let mut step = rotation::decide(profile, reported, found, now);
    if matches!(step, Step::Act(_)) {
        // The first look is some calls old by now, and somebody else may have rotated.
        let again = look::look(shared, profile).await;
        step = rotation::decide(profile, reported, &again, now);
    }
    match step {
        Step::Keep => Ok(()),
        Step::Observe => report(shared, profile, reported, None).await,
        Step::Say(said) => report(shared, profile, reported, Some(&said)).await,
        Step::Act(act) => {
            let outcome = carry_out(shared, profile, &act).await;
            if outcome.is_ok() {
                announce(shared, profile, &act).await;
            }
            report(shared, profile, reported, Some(&rotation::after(&act, outcome.as_ref().copied()))).await
        }
    }
}

async fn carry_out(shared: &Shared, profile: &KmsProfile, act: &Act) -> Result<(), ProfileProblem> {
    let admin = shared.connections.admin(&shared.client, profile).await?;
    let call = CallCtx::within(DEADLINE);
    let change = async {
        match act.change {
            Change::SetPolicy(interval) => admin.set_auto_rotation(&act.key, Some(interval), &call).await,
            Change::Rotate => admin.rotate(&act.key, &call).await,
        }
    };
    change.await.map_err(ProfileProblem::Kms)
}

async fn announce(shared: &Shared, profile: &KmsProfile, act: &Act) {
    let (reason, note) = match act.change {
        Change::SetPolicy(_) => {
            ("RotationPolicySet", "the operator set the root key's rotation policy at the KMS")
        }
        // `Rotated`, with the versions, comes with the next poll. Events of one reason are counted together and keep the first
        // one's note, so this one has a reason of its own.
        Change::Rotate => (
            "RotatedByOperator",
            "the operator rotated the root key: its current version was older than the interval",
        ),
    };
    shared.events.normal(&profile.object_ref(&()), reason, note).await;
}

/// Writes condition and times where they are others than those that were written; none: they are taken away.
async fn report(
    shared: &Shared,
    profile: &KmsProfile,
    reported: &KmsProfileStatus,
    said: Option<&Said>,
) -> Result<(), Error> {
    let mut conditions = reported.conditions.clone();
    let status = said.map(|said| &said.status);
    let changed = if let Some(Said { verdict, .. }) = said {
        let now = Time(Timestamp::now());
        put(&mut conditions, types::ROTATION_MANAGED, verdict, profile.metadata.generation, &now)
    } else {
        conditions.retain(|condition| condition.type_ != types::ROTATION_MANAGED);
        false
    };
    if conditions != reported.conditions || status != reported.rotation.as_ref() {
        write(shared, profile, &conditions, status).await?;
    }
    if changed && let Some(Said { verdict, .. }) = said {
        warn(shared, profile, verdict).await;
    }
    Ok(())
}

async fn write(
    shared: &Shared,
    profile: &KmsProfile,
    conditions: &[Condition],
    rotation: Option<&RotationStatus>,
) -> Result<(), Error> {
    let api = Api::<KmsProfile>::namespaced(shared.client.clone(), &profile.namespace().unwrap_or_default());
    // A merge keeps what it is not told of: each field is named, a field that is gone as null.
    let rotation = rotation.map(|rotation| {
        let RotationStatus { by, next_rotation, changed_at, retry_after } = rotation;
        json!({"by": by, "nextRotation": next_rotation, "changedAt": changed_at, "retryAfter": retry_after})
    });
    let patch = json!({"status": {"conditions": conditions, "rotation": rotation}});
    api.patch_status(&profile.name_any(), &PatchParams::apply(FIELD_MANAGER), &Patch::Merge(patch))
        .await
        .map_err(Error::PatchStatus)?;
    Ok(())
}

/// What keeps the key from being rotated, where people look. What is only unknown, `Ready` and `Unreachable` tell.
async fn warn(shared: &Shared, profile: &KmsProfile, verdict: &Verdict) {
    if verdict.status == "False" {
        let note = format!("{} is False: {}", types::ROTATION_MANAGED, verdict.message);
        shared.events.warning(&profile.object_ref(&()), &verdict.reason, &note).await;
    }
}

#[cfg(test)]
#[path = "rotate_tests.rs"]
mod tests;
