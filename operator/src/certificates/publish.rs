//! The ConfigMap `cofferdam-ca` of every opted-in namespace: the operator's authorities, and those of each KMS that the
//! namespace's bindings use.
//!
//! Invariant: public certificates only; a bundle that cannot be read now keeps what was published before.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use api::KmsProfile;
use contract::names::{CA_CONFIG_MAP, CA_OPERATOR_KEY, FIELD_MANAGER, INJECTION_ENABLED, INJECTION_LABEL};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::core::ObjectMeta;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;

use crate::injection_config::ca_key;
use crate::stores::Stores;

/// How often everything is looked at although nothing was heard.
const PERIOD: Duration = Duration::from_secs(20);
/// How long changes are collected before they are acted on.
const DEBOUNCE: Duration = Duration::from_millis(300);
/// How often a ConfigMap is written although it should be right: somebody may have changed it.
const REWRITE: Duration = Duration::from_mins(5);

/// Publishes in every opted-in namespace, for ever. Runs in the leader.
pub async fn run(client: Client, stores: Stores, mut bundle: watch::Receiver<String>) {
    let mut published = HashMap::<String, (Data, Instant)>::new();
    let mut changes = stores.changes();
    loop {
        let authorities = bundle.borrow_and_update().clone();
        round(&client, &stores, &authorities, &mut published).await;
        tokio::select! {
            _ = changes.changed() => tokio::time::sleep(DEBOUNCE).await,
            _ = bundle.changed() => {}
            () = tokio::time::sleep(PERIOD) => {}
        }
        changes.mark_unchanged();
    }
}

type Data = BTreeMap<String, String>;

async fn round(
    client: &Client,
    stores: &Stores,
    authorities: &str,
    published: &mut HashMap<String, (Data, Instant)>,
) {
    let mut bundles = HashMap::new();
    let namespaces = opted_in(stores);
    published.retain(|namespace, _| namespaces.contains(namespace));
    for namespace in namespaces {
        let mut data = Data::from([(CA_OPERATOR_KEY.to_owned(), authorities.to_owned())]);
        for profile in profiles(stores, &namespace) {
            let key = ca_key(&namespace, &profile);
            let at = (profile.namespace().unwrap_or_default(), profile.name_any());
            if !bundles.contains_key(&at) {
                bundles.insert(at.clone(), kms_bundle(client, &profile).await);
            }
            let known = published.get(&namespace).and_then(|(data, _)| data.get(&key).cloned());
            let pem = bundles.get(&at).cloned().flatten().or(known);
            data.extend(pem.map(|pem| (key, pem)));
        }
        let is_published = published
            .get(&namespace)
            .is_some_and(|(known, since)| *known == data && since.elapsed() < REWRITE);
        if is_published {
            continue;
        }
        match apply(client, &namespace, &data).await {
            Ok(()) => drop(published.insert(namespace, (data, Instant::now()))),
            Err(error) => tracing::warn!(%error, namespace, "publish certificate authorities"),
        }
    }
}

/// Namespaces that are opted in and not being deleted.
fn opted_in(stores: &Stores) -> BTreeSet<String> {
    let namespaces = stores.namespaces.state_filter(|namespace| {
        namespace.labels().get(INJECTION_LABEL).is_some_and(|value| value == INJECTION_ENABLED)
            && namespace.metadata.deletion_timestamp.is_none()
    });
    namespaces.iter().map(|namespace| namespace.name_any()).collect()
}

/// Profiles that bindings and records of a namespace refer to, where they allow it.
fn profiles(stores: &Stores, namespace: &str) -> Vec<std::sync::Arc<KmsProfile>> {
    let here = |object: Option<String>| object.as_deref() == Some(namespace);
    let bindings = stores.bindings.state_filter(|binding| here(binding.namespace()));
    let volumes = stores.volumes.state_filter(|volume| here(volume.namespace()));
    let by_bindings = bindings.iter().map(|binding| &binding.spec.profile);
    let references = by_bindings.chain(volumes.iter().map(|volume| &volume.spec.profile));
    let names: BTreeSet<_> = references
        .map(|one| (one.namespace.clone().unwrap_or_else(|| namespace.into()), one.name.clone()))
        .collect();
    let found =
        names.iter().filter_map(|(home, name)| stores.profiles.get(&ObjectRef::new(name).within(home)));
    let allowed = |profile: &KmsProfile| {
        here(profile.namespace())
            || profile.spec.allowed_namespaces.iter().any(|allowed| allowed == namespace)
    };
    found.filter(|profile| allowed(profile)).collect()
}

/// The authorities of a profile's KMS; none where it names no bundle or that cannot be read.
async fn kms_bundle(client: &Client, profile: &KmsProfile) -> Option<String> {
    let bundle = profile.spec.ca_bundle.as_ref()?;
    let api = Api::<ConfigMap>::namespaced(client.clone(), &profile.namespace()?);
    match api.get_opt(&bundle.config_map).await {
        Ok(map) => certificates(map?.data?.get(&bundle.key)?),
        Err(error) => {
            tracing::warn!(%error, profile = profile.name_any(), "read the CA bundle of a profile");
            None
        }
    }
}

/// The certificates of a PEM text and nothing else, in case somebody put a key there too.
fn certificates(text: &str) -> Option<String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let blocks = text.split(BEGIN).skip(1).filter_map(|rest| rest.split_once(END));
    let pem: String = blocks.map(|(body, _)| format!("{BEGIN}{body}{END}\n")).collect();
    (!pem.is_empty()).then_some(pem)
}

async fn apply(client: &Client, namespace: &str, data: &Data) -> Result<(), kube::Error> {
    let labels = [("app.kubernetes.io/managed-by".to_owned(), "cofferdam-operator".to_owned())];
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(CA_CONFIG_MAP.into()),
            labels: Some(labels.into()),
            ..ObjectMeta::default()
        },
        data: Some(data.clone()),
        ..ConfigMap::default()
    };
    let api = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    api.patch(CA_CONFIG_MAP, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&map)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_certificates_are_published() {
        let one = "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n";
        let text =
            format!("# ours\n{one}-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n{one}");
        assert_eq!(certificates(&text), Some(format!("{one}{one}")));
        assert_eq!(certificates("no certificate"), None);
    }
}
