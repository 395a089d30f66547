//! Which volumes a root key protects: those of every profile that names it, not of one profile alone.
//!
//! Invariant: pure; where it cannot be told whether two profiles name one root key, nothing is known of the other one's volumes.

use api::{EncryptedVolume, KmsProfile, connection};
use contract::config::{AwsKms, AzureKeyVault, KeyProtect, Provider, Transit};
use kms::KeyRef;
use kube::ResourceExt;

/// Whether another profile names the same root key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kin {
    Same,
    Perhaps,
    Other,
}

/// The volumes of all profiles with the root key of `profile`, which the KMS last called `key_id`. Of volumes whose root key
/// may be this one the counts are left out, so that they count as unknown.
pub fn volumes(
    profile: &KmsProfile,
    key_id: Option<&str>,
    profiles: &[KmsProfile],
    volumes: &[EncryptedVolume],
) -> Vec<EncryptedVolume> {
    let kin = |volume: &EncryptedVolume| {
        if uses(volume, profile) {
            return Kin::Same;
        }
        let other = profiles.iter().find(|other| uses(volume, other));
        // A profile that is gone tells no more which root key it named.
        other.map_or(Kin::Perhaps, |other| kin(profile, key_id, other))
    };
    let counted = |volume: &EncryptedVolume| match kin(volume) {
        Kin::Same => Some(volume.clone()),
        Kin::Perhaps => Some(not_counted(volume.clone())),
        Kin::Other => None,
    };
    volumes.iter().filter_map(counted).collect()
}

fn not_counted(mut volume: EncryptedVolume) -> EncryptedVolume {
    if let Some(status) = &mut volume.status {
        status.last_sweep = None;
    }
    volume
}

fn uses(volume: &EncryptedVolume, profile: &KmsProfile) -> bool {
    let reference = &volume.spec.profile;
    let home = reference.namespace.clone().or_else(|| volume.namespace());
    reference.name == profile.name_any() && home == profile.namespace()
}

/// What a profile calls its root key.
pub fn name(profile: &KmsProfile) -> KeyRef {
    let provider = connection::provider(&profile.spec);
    KeyRef(provider.map_or_else(String::new, |provider| provider.root_key().into()))
}

/// An address without what does not count.
fn address(url: &str) -> &str {
    url.trim_end_matches('/')
}

/// A server may have several addresses, and nothing else tells it from another one.
fn kin_in_transit(here: &Transit, there: &Transit) -> Kin {
    let place = |kms: &Transit| (kms.namespace.clone(), kms.mount.clone(), kms.key.clone());
    match (place(here) == place(there), address(&here.endpoint) == address(&there.endpoint)) {
        (true, true) => Kin::Same,
        (true, false) => Kin::Perhaps,
        (false, _) => Kin::Other,
    }
}

fn kin(profile: &KmsProfile, key_id: Option<&str>, other: &KmsProfile) -> Kin {
    let providers = (connection::provider(&profile.spec), connection::provider(&other.spec));
    let (Some(here), Some(there)) = providers else { return Kin::Other };
    let ids = (key_id, known_id(other));
    match (&here, &there) {
        (Provider::Aws(here), Provider::Aws(there)) => kin_in_aws(here, there, ids),
        // A vault's address is its own, and all of it.
        (Provider::Azure(here), Provider::Azure(there)) => {
            let place = |kms: &AzureKeyVault| (address(&kms.vault).to_owned(), kms.key.clone());
            if place(here) == place(there) { Kin::Same } else { Kin::Other }
        }
        (Provider::Google(here), Provider::Google(there)) => {
            if here.key == there.key {
                Kin::Same
            } else {
                Kin::Other
            }
        }
        (Provider::KeyProtect(here), Provider::KeyProtect(there)) => kin_in_key_protect(here, there, ids),
        // Labels are what a person gave: another library may lead to another token of the same name.
        (Provider::Pkcs11(here), Provider::Pkcs11(there)) => match here.module == there.module {
            _ if (&here.token, &here.key) != (&there.token, &there.key) => Kin::Other,
            true => Kin::Same,
            false => Kin::Perhaps,
        },
        (Provider::Transit(here), Provider::Transit(there)) => kin_in_transit(here, there),
        _ => Kin::Other,
    }
}

/// What the KMS called the keys of two profiles, where it was asked.
type Ids<'a> = (Option<&'a str>, Option<&'a str>);

/// A key may be named by its id, its ARN or an alias, which another account has too; only AWS itself says what it is.
fn kin_in_aws(here: &AwsKms, there: &AwsKms, ids: Ids<'_>) -> Kin {
    if here.region != there.region {
        // A key of several regions has one material.
        return if here.key.contains("mrk-") || there.key.contains("mrk-") {
            Kin::Perhaps
        } else {
            Kin::Other
        };
    }
    match ids {
        (Some(one), Some(two)) if one == two => Kin::Same,
        (Some(_), Some(_)) => Kin::Other,
        _ if here.key == there.key && !here.key.contains("alias/") => Kin::Same,
        _ => Kin::Perhaps,
    }
}

/// An instance is known by its GUID: the same one has public and private endpoints.
fn kin_in_key_protect(here: &KeyProtect, there: &KeyProtect, ids: Ids<'_>) -> Kin {
    if here.instance != there.instance {
        return Kin::Other;
    }
    if here.root_key == there.root_key {
        return Kin::Same;
    }
    match (resolved(&here.root_key, ids.0), resolved(&there.root_key, ids.1)) {
        (Some(one), Some(two)) if one == two => Kin::Same,
        (Some(_), Some(_)) => Kin::Other,
        _ => Kin::Perhaps,
    }
}

/// What the KMS called the key, where it was asked about the profile as it is now.
pub fn known_id(profile: &KmsProfile) -> Option<&str> {
    let status = profile.status.as_ref()?;
    let current = status.observed_generation == profile.metadata.generation;
    status.key_id.as_deref().filter(|_| current)
}

/// A key's id stands for itself; an alias is what the KMS says.
fn resolved<'a>(root_key: &'a str, key_id: Option<&'a str>) -> Option<&'a str> {
    if is_id(root_key) { Some(root_key) } else { key_id }
}

/// Key Protect's ids are UUIDs; an alias never looks like one.
fn is_id(root_key: &str) -> bool {
    let lengths: Vec<_> = root_key.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && root_key.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    const ID: &str = "7f7e3c1a-0000-4000-8000-00000000aaaa";

    fn profile(name: &str, instance: &str, root_key: &str, key_id: Option<&str>) -> KmsProfile {
        serde_json::from_value(json!({
            "apiVersion": "cofferdam.io/v1alpha1", "kind": "KmsProfile",
            "metadata": {"name": name, "namespace": "shop", "generation": 1},
            "spec": {
                "keyProtect": {"endpoint": format!("https://{name}"), "instance": instance, "rootKey": root_key},
                "credentials": {"data": {"apiKeySecret": {"name": "s"}}},
            },
            "status": {"keyId": key_id, "observedGeneration": 1},
        }))
        .unwrap()
    }

    fn volume(profile: &str) -> EncryptedVolume {
        serde_json::from_value(json!({
            "apiVersion": "cofferdam.io/v1alpha1", "kind": "EncryptedVolume",
            "metadata": {"name": format!("of-{profile}"), "namespace": "shop"},
            "spec": {"claimName": "v", "bindingName": "b", "profile": {"name": profile}},
            "status": {"persistentVolume": "pv", "lastSweep": {"targetVersion": "v2"}},
        }))
        .unwrap()
    }

    /// What becomes of the other profile's volume: counted, counted without its counts, or not.
    fn of_other(mine: &KmsProfile, key_id: Option<&str>, other: KmsProfile) -> Kin {
        let known = [volume("main"), volume("other")];
        let found = volumes(mine, key_id, &[mine.clone(), other], &known);
        assert_eq!(found[0].status, known[0].status, "its own always count");
        match found.get(1) {
            None => Kin::Other,
            Some(found) if found.status == known[1].status => Kin::Same,
            Some(found) => {
                assert!(found.status.as_ref().unwrap().last_sweep.is_none());
                Kin::Perhaps
            }
        }
    }

    #[test]
    fn volumes_of_every_profile_with_the_root_key_count_and_those_that_may_have_it_are_unknown() {
        let mine = profile("main", "i", ID, Some(ID));
        let other =
            |instance: &str, root_key: &str, id: Option<&str>| profile("other", instance, root_key, id);
        for (theirs, expected) in [
            (other("i", ID, None), Kin::Same),
            (other("i", "alias", Some(ID)), Kin::Same),
            (other("i", "alias", Some("another")), Kin::Other),
            (other("i", "7f7e3c1a-0000-4000-8000-00000000bbbb", None), Kin::Other),
            (other("i", "alias", None), Kin::Perhaps),
            (other("j", ID, Some(ID)), Kin::Other),
        ] {
            let seen = format!("{:?}", theirs.spec.key_protect);
            assert_eq!(of_other(&mine, Some(ID), theirs), expected, "{seen}");
        }
        let transit = |name: &str, endpoint: &str, key: &str| {
            let mut profile = profile(name, "i", ID, None);
            profile.spec.key_protect = None;
            let spec = json!({"endpoint": endpoint, "mount": "transit", "key": key});
            profile.spec.transit = Some(serde_json::from_value(spec).unwrap());
            profile
        };
        let here = transit("main", "https://bao:8200", "k");
        for (endpoint, key, expected) in [
            ("https://bao:8200/", "k", Kin::Same),
            ("https://bao.example:8200", "k", Kin::Perhaps),
            ("https://bao:8200", "l", Kin::Other),
        ] {
            assert_eq!(of_other(&here, None, transit("other", endpoint, key)), expected, "{endpoint} {key}");
        }
        let aws = |name: &str, region: &str, key: &str, id: Option<&str>| {
            let mut profile = profile(name, "i", ID, id);
            profile.spec.key_protect = None;
            profile.spec.aws = Some(serde_json::from_value(json!({"region": region, "key": key})).unwrap());
            profile
        };
        let here = aws("main", "eu-central-1", "alias/k", Some(ID));
        for (region, key, id, expected) in [
            ("eu-central-1", "alias/k", Some(ID), Kin::Same),
            ("eu-central-1", ID, Some(ID), Kin::Same),
            ("eu-central-1", "alias/k", Some("another"), Kin::Other),
            ("eu-central-1", "alias/k", None, Kin::Perhaps),
            ("us-east-1", ID, Some(ID), Kin::Other),
            ("us-east-1", "mrk-1", Some("mrk-1"), Kin::Perhaps),
        ] {
            assert_eq!(
                of_other(&here, Some(ID), aws("other", region, key, id)),
                expected,
                "{region} {key} {id:?}"
            );
        }
        let google = |name: &str, key: &str| {
            let mut profile = profile(name, "i", ID, None);
            profile.spec.key_protect = None;
            profile.spec.google = Some(serde_json::from_value(json!({"key": key})).unwrap());
            profile
        };
        assert_eq!(of_other(&google("main", "k"), None, google("other", "k")), Kin::Same);
        assert_eq!(of_other(&google("main", "k"), None, google("other", "l")), Kin::Other);
        let another_vendors = aws("other", "eu-central-1", "k", None);
        assert_eq!(of_other(&google("main", "k"), None, another_vendors), Kin::Other);
        let by_alias = profile("main", "i", "alias", None);
        assert_eq!(of_other(&by_alias, None, other("i", ID, None)), Kin::Perhaps);
        assert_eq!(of_other(&by_alias, Some(ID), other("i", ID, None)), Kin::Same);
        let gone = volumes(&mine, Some(ID), std::slice::from_ref(&mine), &[volume("deleted")]);
        assert!(gone[0].status.as_ref().unwrap().last_sweep.is_none(), "its profile was deleted");
        let mut changed = other("i", "alias", Some("another"));
        changed.metadata.generation = Some(2);
        assert_eq!(of_other(&mine, Some(ID), changed), Kin::Perhaps, "the KMS spoke of an earlier spec");
    }
}
