//! The Secret `cofferdam-operator-tls` in which the replicas share the material.
//!
//! Invariant: what was written is read back equal; a Secret that makes no sense reads as none, and is replaced.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::core::ObjectMeta;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::material::{Authority, Material, Serving};

/// The Secret's name.
pub const NAME: &str = "cofferdam-operator-tls";
const INDEX: &str = "index.json";

/// What the PEM files of the Secret are.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    authorities: Vec<AuthorityEntry>,
    serving: ServingEntry,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthorityEntry {
    serial: String,
    created: i64,
    not_after: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServingEntry {
    issuer: String,
    names: Vec<String>,
    not_after: i64,
}

/// The Secret's new content; `version` is the `resourceVersion` that it replaces.
pub fn write(material: &Material, version: Option<String>) -> Secret {
    let mut data = BTreeMap::new();
    let mut put = |key: String, text: &str| data.insert(key, ByteString(text.as_bytes().to_vec()));
    let mut authorities = vec![];
    for Authority { serial, certificate, key, created, not_after } in &material.authorities {
        put(format!("ca-{serial}.crt"), certificate);
        if let Some(key) = key {
            put(format!("ca-{serial}.key"), key.expose_secret());
        }
        authorities.push(AuthorityEntry { serial: serial.clone(), created: *created, not_after: *not_after });
    }
    let Serving { certificate, key, issuer, names, not_after } = &material.serving;
    put("tls.crt".into(), certificate);
    put("tls.key".into(), key.expose_secret());
    put("ca.crt".into(), &material.bundle());
    let serving = ServingEntry { issuer: issuer.clone(), names: names.clone(), not_after: *not_after };
    let index = serde_json::to_string(&Index { authorities, serving }).expect("plain data serialises");
    put(INDEX.into(), &index);
    let labels = [("app.kubernetes.io/managed-by".to_owned(), "cofferdam-operator".to_owned())];
    Secret {
        metadata: ObjectMeta {
            name: Some(NAME.into()),
            labels: Some(labels.into()),
            resource_version: version,
            ..ObjectMeta::default()
        },
        data: Some(data),
        ..Secret::default()
    }
}

/// The material in a Secret.
pub fn read(secret: &Secret) -> Option<Material> {
    let data = secret.data.as_ref()?;
    let text = |key: &str| String::from_utf8(data.get(key)?.0.clone()).ok();
    let index: Index = serde_json::from_str(&text(INDEX)?).ok()?;
    let authorities = index.authorities.into_iter().map(|AuthorityEntry { serial, created, not_after }| {
        Some(Authority {
            certificate: text(&format!("ca-{serial}.crt"))?,
            key: text(&format!("ca-{serial}.key")).map(SecretString::from),
            serial,
            created,
            not_after,
        })
    });
    let authorities = authorities.collect::<Option<Vec<_>>>()?;
    let ServingEntry { issuer, names, not_after } = index.serving;
    let serving = Serving {
        certificate: text("tls.crt")?,
        key: SecretString::from(text("tls.key")?),
        issuer,
        names,
        not_after,
    };
    Some(Material { authorities, serving })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::material::renewed;
    use super::*;

    #[test]
    fn what_one_replica_writes_another_reads_and_has_nothing_to_renew() {
        let names = vec!["a.svc".to_owned()];
        let material = renewed(None, &names, 1_800_000_000).unwrap().unwrap();
        let read = read(&write(&material, None)).unwrap();
        assert_eq!(read.bundle(), material.bundle());
        assert!(renewed(Some(&read), &names, 1_800_000_000).unwrap().is_none());
    }

    #[test]
    fn a_damaged_secret_reads_as_none() {
        let material = renewed(None, &["a.svc".to_owned()], 1_800_000_000).unwrap().unwrap();
        for missing in ["tls.crt", "tls.key", INDEX, &format!("ca-{}.crt", material.serving.issuer)] {
            let mut secret = write(&material, None);
            secret.data.as_mut().unwrap().remove(missing);
            assert!(read(&secret).is_none(), "{missing}");
        }
    }

    #[test]
    fn no_key_is_printed() {
        let material = renewed(None, &["a.svc".to_owned()], 1_800_000_000).unwrap().unwrap();
        assert!(!format!("{material:?}").contains("PRIVATE KEY"));
    }
}
