//! Reads what a binding depends on.
//!
//! Invariant: it reads; what follows from it is decided in `plan`.

use api::{EncryptedVolume, KmsProfile, StorageBinding};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Secret, ServiceAccount};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

/// What is around a binding.
pub struct Around {
    /// Its namespace, if it still exists.
    pub namespace: Option<Namespace>,
    /// Its profile, if it exists.
    pub profile: Option<KmsProfile>,
    /// Claims of the namespace.
    pub claims: Vec<PersistentVolumeClaim>,
    /// All bindings of the namespace.
    pub bindings: Vec<StorageBinding>,
    /// Records of the namespace.
    pub volumes: Vec<EncryptedVolume>,
    /// Names of pull Secrets that do not exist.
    pub missing_pull_secrets: Vec<String>,
    /// The service account of its Jobs does not exist.
    pub service_account_missing: bool,
}

/// Looks around.
pub async fn look(client: &Client, binding: &StorageBinding) -> Result<Around, kube::Error> {
    let namespace = binding.namespace().unwrap_or_default();
    let reference = &binding.spec.profile;
    let profile_namespace = reference.namespace.as_deref().unwrap_or(&namespace);
    let all = ListParams::default();
    let secrets = Api::<Secret>::namespaced(client.clone(), &namespace);
    let mut missing_pull_secrets = vec![];
    for name in &binding.spec.image_pull_secrets {
        if secrets.get_metadata_opt(name).await?.is_none() {
            missing_pull_secrets.push(name.clone());
        }
    }
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), &namespace);
    let account = &binding.spec.rewrap.service_account_name;
    Ok(Around {
        namespace: Api::<Namespace>::all(client.clone()).get_opt(&namespace).await?,
        profile: Api::namespaced(client.clone(), profile_namespace).get_opt(&reference.name).await?,
        claims: Api::namespaced(client.clone(), &namespace).list(&all).await?.items,
        bindings: Api::namespaced(client.clone(), &namespace).list(&all).await?.items,
        volumes: Api::namespaced(client.clone(), &namespace).list(&all).await?.items,
        missing_pull_secrets,
        service_account_missing: accounts.get_metadata_opt(account).await?.is_none(),
    })
}
