//! What hangs on a root key, by the records of the volumes.
//!
//! Invariant: pure; a volume counts unless it is gone or released.

use std::collections::BTreeSet;

use api::EncryptedVolume;
use kube::ResourceExt;
use serde::Serialize;

use crate::subject::Gap;

/// Counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Affected {
    /// Volumes that the key protects.
    pub volumes: usize,
    /// Pods that serve them now.
    pub pods: usize,
    /// Namespaces that they are in.
    pub namespaces: usize,
}

/// Counts the volumes of a profile.
pub fn count(volumes: &[EncryptedVolume], namespace: &str, profile: &str) -> Affected {
    let uses = |volume: &&EncryptedVolume| {
        let reference = &volume.spec.profile;
        let home = reference.namespace.clone().or_else(|| volume.namespace()).unwrap_or_default();
        reference.name == profile && home == namespace && !volume.is_released() && !volume.is_acknowledged()
    };
    let (mut pods, mut namespaces, mut found) = (BTreeSet::new(), BTreeSet::new(), 0);
    for volume in volumes.iter().filter(uses) {
        found += 1;
        let namespace = volume.namespace().unwrap_or_default();
        let pod = volume.status.as_ref().and_then(|status| status.pod.clone());
        pods.extend(pod.map(|pod| (namespace.clone(), pod)));
        namespaces.insert(namespace);
    }
    Affected { volumes: found, pods: pods.len(), namespaces: namespaces.len() }
}

/// For people.
pub fn sentence(counted: &Result<Affected, Gap>) -> String {
    let many =
        |count: usize, one: &str, more: &str| format!("{count} {}", if count == 1 { one } else { more });
    match counted {
        Ok(Affected { volumes: 0, .. }) => "No volume known to this cluster uses it.".into(),
        Ok(Affected { volumes, pods, namespaces }) => format!(
            "{} in {} use it, and {} of them now; other clusters are not counted.",
            many(*volumes, "volume", "volumes"),
            many(*namespaces, "namespace", "namespaces"),
            many(*pods, "pod serves some", "pods serve some"),
        ),
        Err(gap) => format!("How many volumes use it is not known: {}.", gap.text),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    fn volume(
        namespace: &str,
        name: &str,
        profile: &Value,
        pod: Option<&str>,
        acknowledged: bool,
    ) -> EncryptedVolume {
        serde_json::from_value(json!({
            "apiVersion": "cofferdam.io/v1alpha1", "kind": "EncryptedVolume",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"claimName": name, "bindingName": "b", "profile": profile, "acknowledged": acknowledged},
            "status": {"pod": pod},
        }))
        .unwrap()
    }

    #[test]
    fn volumes_of_other_namespaces_count_and_those_of_other_profiles_or_long_gone_do_not() {
        let shared = json!({"name": "main", "namespace": "keys"});
        let volumes = [
            volume("shop", "a", &shared, Some("app-0"), false),
            volume("shop", "b", &shared, Some("app-0"), false),
            volume("blog", "a", &shared, None, false),
            volume("keys", "own", &json!({"name": "main"}), None, false),
            volume("shop", "gone", &shared, None, true),
            volume("shop", "other", &json!({"name": "main"}), Some("app-1"), false),
        ];
        let counted = count(&volumes, "keys", "main");
        assert_eq!(counted, Affected { volumes: 4, pods: 1, namespaces: 3 });
        assert_eq!(
            sentence(&Ok(counted)),
            "4 volumes in 3 namespaces use it, and 1 pod serves some of them now; other clusters are not counted."
        );
        assert!(sentence(&Err(Gap::refused("forbidden"))).contains("not known: forbidden"));
    }
}
