//! `EncryptedVolume`: says where a volume is in its life, and runs rewrap Jobs while no pod mounts it.
//!
//! Invariant: a Job never runs beside a pod that mounts the claim; a record goes only when claim, persistent volume and
//! VolumeSnapshots are gone.

mod jobs;
mod left;
pub mod look;
pub mod rewrapped;
pub mod status;

use std::sync::Arc;
use std::time::Duration;

use api::condition::{reasons, types};
use api::{EncryptedVolume, EncryptedVolumeStatus, KmsProfile};
use futures::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Resource, ResourceExt};

use super::{Shared, conditions};
use crate::causes::Causes;
use crate::rewrap::job::{self, JobError};
use crate::rewrap::plan::{Plan, Situation, Start, ending, plan};
use look::Around;

/// How often a volume is looked at although nothing has changed: a missing check-in is no change.
const RESYNC: Duration = Duration::from_secs(30);
/// How soon after a failure.
const RETRY: Duration = Duration::from_secs(3);

/// A volume could not be reconciled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read what is around the volume")]
    Look(#[source] kube::Error),
    #[error("write the volume's status")]
    Report(#[source] kube::Error),
    #[error("keep the record of the volume that the claim has left")]
    Keep(#[source] kube::Error),
    #[error("delete a rewrap Job")]
    DeleteJob(#[source] kube::Error),
    #[error("start a rewrap Job")]
    StartJob(#[source] kube::Error),
    #[error("delete the record of a volume that is gone")]
    Forget(#[source] kube::Error),
}

/// Runs the controller.
pub async fn run(shared: Arc<Shared>) {
    let client = shared.client.clone();
    let config = watcher::Config::default;
    let controller = Controller::new(Api::<EncryptedVolume>::all(client.clone()), config());
    let known = controller.store();
    controller
        .owns(Api::<Job>::all(client.clone()), config())
        .watches(Api::<Pod>::all(client.clone()), config(), |pod| of_pod(&pod))
        .watches(
            Api::<PersistentVolumeClaim>::all(client.clone()),
            config(),
            |claim: PersistentVolumeClaim| {
                let namespace = claim.namespace().unwrap_or_default();
                [ObjectRef::new(&claim.name_any()).within(&namespace)]
            },
        )
        .watches(Api::<KmsProfile>::all(client), config(), move |profile| {
            of_profile(&known.state(), &profile)
        })
        .with_config(Config::default().concurrency(8).debounce(Duration::from_millis(300)))
        .run(reconcile, |_, error, _| retry(error), shared)
        .for_each(|outcome| async move {
            if let Err(error) = outcome {
                tracing::debug!(%error, "volume");
            }
        })
        .await;
}

/// The records of the claims that a pod mounts; those of claims without one are never reconciled.
fn of_pod(pod: &Pod) -> Vec<ObjectRef<EncryptedVolume>> {
    let namespace = pod.namespace().unwrap_or_default();
    let records = look::claims(pod).into_iter();
    records.map(|(_, claim)| ObjectRef::new(&claim).within(&namespace)).collect()
}

fn of_profile(volumes: &[Arc<EncryptedVolume>], profile: &KmsProfile) -> Vec<ObjectRef<EncryptedVolume>> {
    let uses = |volume: &&Arc<EncryptedVolume>| {
        let reference = &volume.spec.profile;
        let home = reference.namespace.clone().or(volume.namespace());
        reference.name == profile.name_any() && home == profile.namespace()
    };
    volumes.iter().filter(uses).map(|volume| ObjectRef::from_obj(volume.as_ref())).collect()
}

fn retry(error: &Error) -> Action {
    tracing::warn!(error = %Causes(error), "volume not reconciled");
    Action::requeue(RETRY)
}

async fn reconcile(volume: Arc<EncryptedVolume>, shared: Arc<Shared>) -> Result<Action, Error> {
    if volume.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let around = look::look(&shared.client, &volume).await.map_err(Error::Look)?;
    if gone(&volume, &around) {
        return forget(&shared, &volume).await;
    }
    let names: Vec<_> = around.pods.iter().map(ResourceExt::name_any).collect();
    let jobs: Vec<_> = around.jobs.iter().collect();
    let plan = plan(&Situation {
        volume: &volume,
        binding: around.binding.as_ref(),
        profile: around.profile.as_ref(),
        bound: around.claim.as_ref().is_some_and(|claim| can_be_mounted(claim, &volume)),
        pods: &names,
        only_read: around.only_read(&volume.spec.claim_name),
        jobs: &jobs,
        others_running: around.others_running,
        now: conditions::now().0,
    });
    for (name, why) in &plan.delete {
        delete_job(&shared, &volume, &around, name, why).await?;
    }
    let refused = match &plan.start {
        Some(start) => start_job(&shared, &volume, &around, start).await?,
        None => None,
    };
    report(&shared, &volume, &around, &with_refusal(plan.clone(), refused)).await?;
    let again =
        plan.again.map_or(RESYNC, |seconds| Duration::from_secs(u64::from(seconds).max(1)).min(RESYNC));
    Ok(Action::requeue(again))
}

fn with_refusal(mut plan: Plan, refused: Option<JobError>) -> Plan {
    if let Some(error) = refused {
        plan.waits = Some(format!("could not {error}"));
    }
    plan
}

/// The claim is bound to the volume that the record speaks of, and nobody wants it gone: a Job's pod would hold it.
fn can_be_mounted(claim: &PersistentVolumeClaim, volume: &EncryptedVolume) -> bool {
    let bound = claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    let recorded = volume.status.as_ref().and_then(|status| status.persistent_volume.as_ref());
    let same =
        claim.spec.as_ref().is_some_and(|spec| recorded.is_none() || spec.volume_name.as_ref() == recorded);
    bound && same && claim.metadata.deletion_timestamp.is_none()
}

/// Claim and persistent volume are gone, and no VolumeSnapshot is known, so nothing is left to protect or to count.
fn gone(volume: &EncryptedVolume, around: &Around) -> bool {
    let seen = volume.status.as_ref().is_some_and(|status| status.marker.is_some());
    let recorded = volume.status.as_ref().is_some_and(|status| status.persistent_volume.is_some());
    // A marker without a known persistent volume: nobody can say that it is gone.
    around.claim.is_none()
        && around.pods.is_empty()
        && !around.persistent_volume_exists
        && around.kept.is_none()
        && (recorded || !seen || volume.has_left_its_claim())
}

async fn forget(shared: &Shared, volume: &EncryptedVolume) -> Result<Action, Error> {
    let api =
        Api::<EncryptedVolume>::namespaced(shared.client.clone(), &volume.namespace().unwrap_or_default());
    let preconditions = Preconditions {
        uid: volume.metadata.uid.clone(),
        resource_version: volume.metadata.resource_version.clone(),
    };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match api.delete(&volume.name_any(), &parameters).await {
        Ok(_) => {
            tracing::info!(volume = volume.name_any(), "nothing is left of the volume; record deleted");
        }
        Err(kube::Error::Api(status)) if status.is_not_found() => {}
        Err(kube::Error::Api(status)) if status.is_conflict() => return Ok(Action::requeue(RETRY)),
        Err(error) => return Err(Error::Forget(error)),
    }
    Ok(Action::await_change())
}

async fn delete_job(
    shared: &Shared,
    volume: &EncryptedVolume,
    around: &Around,
    name: &str,
    why: &str,
) -> Result<(), Error> {
    let api = Api::<Job>::namespaced(shared.client.clone(), &volume.namespace().unwrap_or_default());
    match api.delete(name, &DeleteParams::background()).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
        Err(error) => return Err(Error::DeleteJob(error)),
    }
    let ran = around.jobs.iter().any(|job| job.name_any() == name && ending(job).is_none());
    if ran {
        shared.figures.job_stopped();
        let note = format!("rewrap Job {name} was deleted: {why}");
        shared.events.normal(&volume.object_ref(&()), "RewrapStopped", &note).await;
    }
    Ok(())
}

/// Starts a Job; says why if it cannot be built.
async fn start_job(
    shared: &Shared,
    volume: &EncryptedVolume,
    around: &Around,
    start: &Start,
) -> Result<Option<JobError>, Error> {
    let Some(profile) = &around.profile else { return Ok(None) };
    let about = volume.object_ref(&());
    let job = match job::build(volume, around.binding.as_ref(), profile, start, &shared.jobs) {
        Ok(job) => job,
        Err(error) => {
            tracing::warn!(%error, volume = volume.name_any(), "no rewrap Job");
            return Ok(Some(error));
        }
    };
    let api = Api::<Job>::namespaced(shared.client.clone(), &volume.namespace().unwrap_or_default());
    match api.create(&PostParams::default(), &job).await {
        Ok(_) => {}
        // One that is being deleted still has the name.
        Err(kube::Error::Api(status)) if status.is_already_exists() => return Ok(None),
        Err(error) => return Err(Error::StartJob(error)),
    }
    shared.figures.job_started();
    if job::only_looks(volume) {
        let note =
            format!("Job {} looks whether the volume, which no pod has mounted, is empty", job.name_any());
        shared.events.normal(&about, "LookStarted", &note).await;
        return Ok(None);
    }
    let note = format!("Job {} rewraps the volume to version {}", job.name_any(), start.target);
    shared.events.normal(&about, "RewrapStarted", &note).await;
    if let Some(note) = job::credential_warning(profile) {
        shared.events.warning(&about, contract::check_in::reasons::DATA_CREDENTIAL_USED, &note).await;
    }
    Ok(None)
}

/// Writes the status if it is another.
async fn report(
    shared: &Shared,
    volume: &EncryptedVolume,
    around: &Around,
    plan: &Plan,
) -> Result<(), Error> {
    let api =
        Api::<EncryptedVolume>::namespaced(shared.client.clone(), &volume.namespace().unwrap_or_default());
    // The cache may lag behind check-ins.
    let Some(mut live) = api.get_opt(&volume.name_any()).await.map_err(Error::Report)? else { return Ok(()) };
    if let Some(left) = left::behind(&live, around) {
        live = left::keep(shared, live, &left).await.map_err(Error::Keep)?;
    }
    let next = status::next(&live, around, plan, &conditions::now());
    let before = live.status.clone();
    if before.as_ref() == Some(&next) {
        return Ok(());
    }
    live.status = Some(next.clone());
    match api.replace_status(&live.name_any(), &PostParams::default(), &live).await {
        Ok(_) => {}
        // A check-in was quicker; its change brings the volume here again.
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => return Ok(()),
        Err(error) => return Err(Error::Report(error)),
    }
    let before = before.unwrap_or_default();
    announce(shared, &live, &before, &next).await;
    announce_wait(shared, &live, &before, &next).await;
    announce_failure(shared, &live, around, &before, &next).await;
    Ok(())
}

fn around_open(status: &EncryptedVolumeStatus) -> bool {
    conditions::find(&status.conditions, types::SUSPENDED)
        .is_some_and(|said| said.reason == reasons::OPEN_POD)
}

async fn announce(
    shared: &Shared,
    volume: &EncryptedVolume,
    before: &EncryptedVolumeStatus,
    next: &EncryptedVolumeStatus,
) {
    let about = volume.object_ref(&());
    let message = next.message.clone().unwrap_or_default();
    if let Some(old) = &before.persistent_volume
        && before.persistent_volume != next.persistent_volume
    {
        let note = format!(
            "the claim has another persistent volume; nothing is known of it yet, and {old} counts on its own while it is there"
        );
        shared.events.warning(&about, "VolumeReplaced", &note).await;
    }
    if before.phase != next.phase {
        match next.phase.as_deref() {
            Some("Unknown") => shared.events.warning(&about, "NoCheckIn", &message).await,
            Some("Orphaned") => shared.events.warning(&about, "Orphaned", &message).await,
            Some("Failed") if around_open(next) => {
                shared.events.warning(&about, reasons::OPEN_POD, &message).await;
            }
            Some(phase @ ("Detached" | "Released")) => shared.events.normal(&about, phase, &message).await,
            _ => {}
        }
    }
    let yes = |status: &EncryptedVolumeStatus| {
        conditions::status(&status.conditions, types::REWRAPPED).map(str::to_owned)
    };
    if yes(before) != yes(next)
        && let Some(condition) = conditions::find(&next.conditions, types::REWRAPPED)
        && condition.status != "Unknown"
    {
        let note = format!("Rewrapped is {}: {}", condition.status, condition.message);
        shared.events.normal(&about, &condition.reason, &note).await;
    }
}

/// A condition that is True.
fn holds<'a>(status: &'a EncryptedVolumeStatus, type_: &str) -> Option<&'a Condition> {
    conditions::find(&status.conditions, type_).filter(|condition| condition.status == "True")
}

/// That nothing rewraps the volume although it is behind, said once.
async fn announce_wait(
    shared: &Shared,
    volume: &EncryptedVolume,
    before: &EncryptedVolumeStatus,
    next: &EncryptedVolumeStatus,
) {
    let said = holds(before, types::REWRAP_WAITS).is_some();
    if let Some(condition) = holds(next, types::REWRAP_WAITS).filter(|_| !said) {
        let about = volume.object_ref(&());
        shared.events.warning(&about, &condition.reason, &condition.message).await;
    }
}

/// A failed Job, said once: of the volume, and of the claim, where its owner looks.
async fn announce_failure(
    shared: &Shared,
    volume: &EncryptedVolume,
    around: &Around,
    before: &EncryptedVolumeStatus,
    next: &EncryptedVolumeStatus,
) {
    let said = holds(before, types::REWRAP_FAILED).map(|condition| &condition.message);
    let failed = holds(next, types::REWRAP_FAILED);
    let Some(condition) = failed.filter(|condition| said != Some(&condition.message)) else { return };
    let note = format!("{}: {}", condition.reason, condition.message);
    let claim = around.claim.as_ref().map(|claim| claim.object_ref(&()));
    for about in [Some(volume.object_ref(&())), claim].into_iter().flatten() {
        shared.events.warning(&about, types::REWRAP_FAILED, &note).await;
    }
}

#[cfg(test)]
#[path = "volume/left_tests.rs"]
mod left_tests;
#[cfg(test)]
#[path = "volume/reconcile_tests.rs"]
mod tests;
