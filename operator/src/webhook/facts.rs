//! Gathers what decides over a pod: from the stores, or live from the API server.
//!
//! Invariant: reads only; a claim that the stores do not know is always asked for live.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{EncryptedVolume, KmsProfile, StorageBinding};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim};
use kube::api::ListParams;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use super::injection::Facts;
use crate::stores::Stores;

/// The API server could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// For a namespace.
    #[error("read the namespace")]
    Namespace(#[source] kube::Error),
    /// For a claim.
    #[error("read the pod's claims")]
    Claims(#[source] kube::Error),
    /// For bindings, records or profiles.
    #[error("read what protects the claims")]
    Declared(#[source] kube::Error),
}

/// Where facts come from.
#[derive(Clone)]
pub struct Source {
    /// Live answers.
    pub client: Client,
    /// Remembered ones.
    pub stores: Stores,
}

/// Names of the claims that a pod's `spec.volumes` name.
pub fn claim_names(pod: &Value) -> BTreeSet<String> {
    let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array).into_iter().flatten();
    let names = volumes.filter_map(|volume| volume.pointer("/persistentVolumeClaim/claimName")?.as_str());
    names.map(str::to_owned).collect()
}

/// How many volumes of a pod have a claim, of its own or by name.
pub fn claim_count(pod: &Value) -> usize {
    let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array).into_iter().flatten();
    volumes
        .filter(|volume| {
            ["persistentVolumeClaim", "ephemeral"]
                .iter()
                .any(|kind| volume.get(kind).is_some_and(Value::is_object))
        })
        .count()
}

impl Source {
    /// From the stores; claims that they do not know are asked for live.
    pub async fn remembered(&self, namespace: &str, claims: &BTreeSet<String>) -> Result<Facts, FactsError> {
        let stores = &self.stores;
        let here = |object_namespace: Option<String>| object_namespace.as_deref() == Some(namespace);
        let bindings = stores.bindings.state_filter(|binding| here(binding.namespace()));
        let volumes = stores.volumes.state_filter(|volume| here(volume.namespace()));
        let referred = referred(namespace, &bindings, &volumes);
        let profiles = referred
            .iter()
            .filter_map(|(home, name)| stores.profiles.get(&ObjectRef::new(name).within(home)));
        let mut found = BTreeMap::new();
        for name in claims {
            let known = stores.claims.get(&ObjectRef::new(name).within(namespace));
            let claim = if known.is_some() { known } else { self.claim(namespace, name).await? };
            found.insert(name.clone(), claim);
        }
        let known = stores.namespaces.get(&ObjectRef::new(namespace));
        let namespace_labels = match known {
            Some(known) => known.labels().clone(),
            None => self.namespace_labels(namespace).await?,
        };
        let profiles = profiles.collect();
        Ok(Facts {
            namespace: namespace.into(),
            namespace_labels,
            claims: found,
            bindings,
            volumes,
            profiles,
        })
    }

    /// From the API server alone.
    pub async fn live(&self, namespace: &str, claims: &BTreeSet<String>) -> Result<Facts, FactsError> {
        let all = ListParams::default();
        let bindings = Api::<StorageBinding>::namespaced(self.client.clone(), namespace);
        let volumes = Api::<EncryptedVolume>::namespaced(self.client.clone(), namespace);
        let (bindings, volumes) =
            futures::try_join!(bindings.list(&all), volumes.list(&all)).map_err(FactsError::Declared)?;
        let bindings: Vec<_> = bindings.items.into_iter().map(Arc::new).collect();
        let volumes: Vec<_> = volumes.items.into_iter().map(Arc::new).collect();
        let profiles = referred(namespace, &bindings, &volumes).into_iter().map(|(home, name)| async move {
            Api::<KmsProfile>::namespaced(self.client.clone(), &home).get_opt(&name).await
        });
        let profiles = try_join_all(profiles).await.map_err(FactsError::Declared)?;
        let claims =
            claims.iter().map(|name| async move { Ok((name.clone(), self.claim(namespace, name).await?)) });
        Ok(Facts {
            namespace: namespace.into(),
            namespace_labels: self.namespace_labels(namespace).await?,
            claims: try_join_all(claims).await?.into_iter().collect(),
            bindings,
            volumes,
            profiles: profiles.into_iter().flatten().map(Arc::new).collect(),
        })
    }

    /// All claims of a namespace that the stores know.
    pub fn known_claims(&self, namespace: &str) -> BTreeMap<String, Option<Arc<PersistentVolumeClaim>>> {
        let here = self.stores.claims.state_filter(|claim| claim.namespace().as_deref() == Some(namespace));
        here.into_iter().map(|claim| (claim.name_any(), Some(claim))).collect()
    }

    async fn claim(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<PersistentVolumeClaim>>, FactsError> {
        let api = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), namespace);
        Ok(api.get_opt(name).await.map_err(FactsError::Claims)?.map(Arc::new))
    }

    async fn namespace_labels(&self, namespace: &str) -> Result<BTreeMap<String, String>, FactsError> {
        let found = Api::<Namespace>::all(self.client.clone()).get_metadata(namespace).await;
        Ok(found.map_err(FactsError::Namespace)?.metadata.labels.unwrap_or_default())
    }
}

/// Profiles that bindings and records refer to, as (namespace, name).
fn referred(
    namespace: &str,
    bindings: &[Arc<StorageBinding>],
    volumes: &[Arc<EncryptedVolume>],
) -> BTreeSet<(String, String)> {
    let by_bindings = bindings.iter().map(|binding| &binding.spec.profile);
    let references = by_bindings.chain(volumes.iter().map(|volume| &volume.spec.profile));
    references
        .map(|one| (one.namespace.clone().unwrap_or_else(|| namespace.into()), one.name.clone()))
        .collect()
}
