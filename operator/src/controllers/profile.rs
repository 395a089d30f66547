//! `KmsProfile`: polls the root key and says what it found.
//!
//! Invariant: an outage changes nothing that was known about the key except that nobody knows it now.

mod look;
mod retirable;
mod root_key;
mod rotate;
mod rotation;
mod status;

use std::sync::Arc;
use std::time::Duration;

use api::{EncryptedVolume, KmsProfile, KmsProfileStatus};
use futures::{FutureExt, StreamExt, TryStreamExt};
use kube::api::ListParams;
use kube::runtime::controller::{Action, Config, applier, trigger_self};
use kube::runtime::{PredicateConfig, WatchStreamExt, predicates, reflector, watcher};
use kube::{Api, Resource, ResourceExt};

use super::report::report;
use super::{ProfileProblem, Shared, conditions, snapshots, spread};
use crate::causes::Causes;

/// How soon a profile that cannot be used is looked at again: a Secret may have been mended.
const RETRY: Duration = Duration::from_secs(5);

/// A profile could not be reported.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("list the volumes of the cluster")]
    ListVolumes(#[source] kube::Error),
    #[error("list the profiles of the cluster")]
    ListProfiles(#[source] kube::Error),
    #[error("write the profile's status")]
    PatchStatus(#[source] kube::Error),
}

/// Runs the controller.
pub async fn run(shared: Arc<Shared>) {
    let api = Api::<KmsProfile>::all(shared.client.clone());
    let (store, writer) = reflector::store();
    let gone = shared.clone();
    // Only the spec matters: the status is ours.
    let changes = reflector(writer, watcher(api, watcher::Config::default()))
        .inspect_ok(move |event| {
            if let watcher::Event::Delete(profile) = event {
                forget(&gone, profile);
            }
        })
        .default_backoff()
        .applied_objects()
        .predicate_filter(predicates::generation, PredicateConfig::default());
    let queue = trigger_self(changes, ());
    let config = Config::default().concurrency(8);
    applier(
        |profile, shared| reconcile(profile, shared).boxed(),
        |_, error, _| retry(error),
        shared,
        store,
        queue,
        config,
    )
    .for_each(|outcome| async move {
        if let Err(error) = outcome {
            tracing::warn!(%error, "profile");
        }
    })
    .await;
}

fn forget(shared: &Shared, profile: &KmsProfile) {
    let (namespace, name) = (profile.namespace().unwrap_or_default(), profile.name_any());
    shared.connections.forget(&namespace, &name);
    shared.figures.forget(&namespace, &name);
}

fn retry(error: &Error) -> Action {
    tracing::warn!(error = %Causes(error), "profile not reported");
    Action::requeue(RETRY)
}

async fn reconcile(profile: Arc<KmsProfile>, shared: Arc<Shared>) -> Result<Action, Error> {
    let found = look::look(&shared, &profile).await;
    let volumes = Api::<EncryptedVolume>::all(shared.client.clone());
    let volumes = volumes.list(&ListParams::default()).await.map_err(Error::ListVolumes)?.items;
    let namespace = profile.namespace().unwrap_or_default();
    let profiles = Api::<KmsProfile>::all(shared.client.clone());
    let profiles = profiles.list(&ListParams::default()).await.map_err(Error::ListProfiles)?.items;
    let volumes = root_key::volumes(&profile, key_id(&profile, &found).as_deref(), &profiles, &volumes);
    let mine: Vec<_> = volumes.iter().collect();
    let mut next = status::next(&profile, &found, &mine, &conditions::now());
    retirable::decide(&mut next, &mine, &snapshots::known(&shared.client, &mine).await);
    say(&shared, &profile, &next).await?;
    shared.figures.profile(&namespace, &profile.name_any(), &next);
    rotate::manage(&shared, &profile, &found, &next).await?;
    let base = match found {
        Ok(_) => Duration::from_secs(u64::from(profile.spec.poll_seconds)),
        Err(_) => RETRY.min(Duration::from_secs(u64::from(profile.spec.poll_seconds))),
    };
    Ok(Action::requeue(spread(base, &format!("{namespace}/{}", profile.name_any()))))
}

/// What the KMS calls the root key, now or when it last answered.
fn key_id(profile: &KmsProfile, found: &Result<look::Look, ProfileProblem>) -> Option<String> {
    match found {
        Ok(look) => Some(look.info.id.0.clone()),
        Err(_) => root_key::known_id(profile).map(str::to_owned),
    }
}

async fn say(shared: &Shared, profile: &KmsProfile, next: &KmsProfileStatus) -> Result<(), Error> {
    let old = profile.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    report(shared, profile, next, (old, &next.conditions)).await.map_err(Error::PatchStatus)?;
    let version = |status: Option<&KmsProfileStatus>| status.and_then(|s| s.current_version.clone());
    let (before, now) = (version(profile.status.as_ref()), version(Some(next)));
    if let (Some(before), Some(now)) = (before, now)
        && before != now
    {
        let note = format!("the root key's current version is {now}; it was {before}");
        shared.events.normal(&profile.object_ref(&()), "Rotated", &note).await;
    }
    Ok(())
}

#[cfg(test)]
#[path = "profile/reconcile_tests.rs"]
mod tests;
