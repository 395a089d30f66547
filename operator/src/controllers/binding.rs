//! `StorageBinding`: finds its claims, records each as an `EncryptedVolume`, and says what is wrong.
//!
//! Invariant: records are made, never deleted here: a claim that was protected stays closed when its binding goes.

mod look;
mod plan;

use std::sync::Arc;
use std::time::Duration;

use api::{EncryptedVolume, EncryptedVolumeSpec, KmsProfile, StorageBinding};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim};
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Resource, ResourceExt};

use super::report::report;
use super::{Shared, conditions};
use crate::causes::Causes;

/// How often a binding is looked at although nothing has changed.
const RESYNC: Duration = Duration::from_secs(30);
/// How soon after a failure.
const RETRY: Duration = Duration::from_secs(5);

/// A binding could not be reconciled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read what the binding depends on")]
    Look(#[source] kube::Error),
    #[error("record an encrypted volume")]
    Record(#[source] kube::Error),
    #[error("write the binding's status")]
    PatchStatus(#[source] kube::Error),
}

/// Runs the controller.
pub async fn run(shared: Arc<Shared>) {
    let client = shared.client.clone();
    let config = watcher::Config::default;
    let controller = Controller::new(Api::<StorageBinding>::all(client.clone()), config());
    let store = controller.store();
    let in_namespace = move |namespace: Option<String>| -> Vec<ObjectRef<StorageBinding>> {
        let all = store.state().into_iter();
        all.filter(|binding| binding.namespace() == namespace)
            .map(|binding| ObjectRef::from_obj(&*binding))
            .collect()
    };
    let (by_claim, by_volume, by_namespace) =
        (in_namespace.clone(), in_namespace.clone(), in_namespace.clone());
    let every = controller.store();
    controller
        .watches(Api::<PersistentVolumeClaim>::all(client.clone()), config(), move |claim| {
            by_claim(claim.namespace())
        })
        .watches(Api::<EncryptedVolume>::all(client.clone()), config(), move |volume| {
            by_volume(volume.namespace())
        })
        .watches(Api::<Namespace>::all(client.clone()), config(), move |namespace: Namespace| {
            by_namespace(namespace.metadata.name)
        })
        .watches(Api::<KmsProfile>::all(client), config(), move |profile| {
            let names = |binding: &StorageBinding| binding.spec.profile.name == profile.name_any();
            let all = every.state().into_iter();
            all.filter(|binding| names(binding))
                .map(|binding| ObjectRef::from_obj(&*binding))
                .collect::<Vec<_>>()
        })
        .with_config(Config::default().concurrency(8).debounce(Duration::from_millis(300)))
        .run(reconcile, |_, error, _| retry(error), shared)
        .for_each(|outcome| async move {
            if let Err(error) = outcome {
                tracing::debug!(%error, "binding");
            }
        })
        .await;
}

fn retry(error: &Error) -> Action {
    tracing::warn!(error = %Causes(error), "binding not reconciled");
    Action::requeue(RETRY)
}

async fn reconcile(binding: Arc<StorageBinding>, shared: Arc<Shared>) -> Result<Action, Error> {
    let around = look::look(&shared.client, &binding).await.map_err(Error::Look)?;
    let plan = plan::plan(&binding, &around);
    for (claim, spec) in &plan.record {
        record(&shared, &binding, claim, spec).await?;
    }
    let next = plan::status(&binding, &plan, &conditions::now());
    if binding.status.as_ref() != Some(&next) {
        let old = binding.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        let conditions = (old, next.conditions.as_slice());
        report(&shared, binding.as_ref(), &next, conditions).await.map_err(Error::PatchStatus)?;
    }
    Ok(Action::requeue(RESYNC))
}

async fn record(
    shared: &Shared,
    binding: &StorageBinding,
    claim: &str,
    spec: &EncryptedVolumeSpec,
) -> Result<(), Error> {
    let namespace = binding.namespace().unwrap_or_default();
    let api = Api::<EncryptedVolume>::namespaced(shared.client.clone(), &namespace);
    let volume = EncryptedVolume::new(claim, spec.clone());
    match api.create(&kube::api::PostParams::default(), &volume).await {
        Ok(_) => {
            let note = format!("claim {claim} is protected from now on");
            shared.events.normal(&binding.object_ref(&()), "Protected", &note).await;
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(error) => Err(Error::Record(error)),
    }
}
