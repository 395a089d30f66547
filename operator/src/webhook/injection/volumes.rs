//! Volumes that injection adds to a pod, in the form that the API server would complete them to.
//!
//! Invariant: names depend on nothing but the pod's own volume names and the order of its profiles.

use api::KmsProfile;
use api::profile::Credential;
use contract::names::{
    ATTRIBUTE_KIND, ATTRIBUTE_VOLUME, CA_CONFIG_MAP, CA_VOLUME, CREDENTIALS_VOLUME_PREFIX, CSI_DRIVER,
    CTL_VOLUME, KIND_CTL, KIND_PLAIN, KIND_RUN, PLAIN_VOLUME_PREFIX, RUN_VOLUME, TOKEN_AUDIENCE,
    TOKEN_VOLUME,
};
use serde_json::{Value, json};

use crate::credentials;
use crate::short_hash::short_hash;

/// The longest name that a volume may have.
const LONGEST_NAME: usize = 63;
/// Life of projected tokens in seconds; kubelet replaces them well before.
const TOKEN_SECONDS: u32 = 3600;
/// Mode of files that our containers read as whatever uid they have; no other container can mount them.
const READABLE: u32 = 0o444;

/// Name of the volume that stands for the protected volume `name`; hashed where it would be too long.
pub fn plain_name(name: &str) -> String {
    let plain = format!("{PLAIN_VOLUME_PREFIX}{name}");
    if plain.len() <= LONGEST_NAME {
        return plain;
    }
    format!("{PLAIN_VOLUME_PREFIX}{}", short_hash(&[name], 32))
}

/// The application's view of a protected volume.
pub fn plain(name: &str, read_only: bool) -> Value {
    let mut volume = csi(&plain_name(name), KIND_PLAIN, read_only);
    volume["csi"]["volumeAttributes"][ATTRIBUTE_VOLUME] = Value::String(name.into());
    volume
}

/// Volumes of sidecar and gate: the driver's socket, the tmpfs, the token, certificate authorities, credentials.
pub fn system(profiles: &[&KmsProfile]) -> Vec<Value> {
    let ca = json!({"name": CA_CONFIG_MAP, "optional": true, "defaultMode": READABLE});
    let mut volumes = vec![
        csi(CTL_VOLUME, KIND_CTL, true),
        csi(RUN_VOLUME, KIND_RUN, false),
        json!({"name": TOKEN_VOLUME, "projected": token(TOKEN_AUDIENCE, "token")}),
        json!({"name": CA_VOLUME, "configMap": ca}),
    ];
    let credentials = profiles.iter().enumerate();
    volumes.extend(credentials.map(|(index, profile)| credential(index, &profile.spec.credentials.data)));
    volumes
}

/// Name of the volume with the credentials of profile `index`.
pub fn credentials_name(index: usize) -> String {
    format!("{CREDENTIALS_VOLUME_PREFIX}{index}")
}

fn credential(index: usize, credential: &Credential) -> Value {
    let name = credentials_name(index);
    credentials::volume(&name, credential, READABLE)
}

fn token(audience: &str, path: &str) -> Value {
    let source = json!({"audience": audience, "expirationSeconds": TOKEN_SECONDS, "path": path});
    json!({"sources": [{"serviceAccountToken": source}], "defaultMode": READABLE})
}

fn csi(name: &str, kind: &str, read_only: bool) -> Value {
    let source =
        json!({"driver": CSI_DRIVER, "readOnly": read_only, "volumeAttributes": {ATTRIBUTE_KIND: kind}});
    json!({"name": name, "csi": source})
}
