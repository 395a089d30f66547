//! What exists from the start: instances, keys, API keys, trusted profiles. Invariant: a seed adds what is missing and changes no key that is there.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::access::service_account::TrustedProfile;
use crate::access::{Access, Grant};
use crate::clock::{Seconds, parse_rfc3339};
use crate::keys::key::Alias;
use crate::keys::{DEFAULT_RING, Instance, Key, Made, Material, PolicyStamp, RotationPolicy, Version};

/// A seed file, YAML or JSON.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Seed {
    pub instances: Vec<InstanceSeed>,
    pub api_keys: Vec<ApiKeySeed>,
    pub trusted_profiles: Vec<ProfileSeed>,
}

/// An instance with its rings and keys.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct InstanceSeed {
    /// The GUID that clients send as `Bluemix-Instance`.
    pub id: String,
    pub key_rings: Vec<String>,
    pub keys: Vec<KeySeed>,
}

/// A key; a root key unless `extractable`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct KeySeed {
    /// A UUID.
    pub id: String,
    pub name: String,
    pub aliases: Vec<String>,
    pub key_ring: Option<String>,
    pub extractable: bool,
    /// Base64 of 16, 24 or 32 bytes; makes it an imported key. Random where absent.
    pub material: Option<Material>,
    /// RFC 3339; when it was made, by default now.
    pub creation_date: Option<String>,
    /// RFC 3339.
    pub expiration_date: Option<String>,
    /// Rotation policy, in months of 30 days.
    pub rotation_months: Option<u8>,
}

/// A service ID with an API key.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ApiKeySeed {
    pub name: String,
    /// The API key itself…
    pub key: Option<String>,
    /// …or a file that holds it.
    pub key_file: Option<PathBuf>,
    pub grants: Vec<Grant>,
}

impl std::fmt::Debug for ApiKeySeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKeySeed")
            .field("name", &self.name)
            .field("grants", &self.grants)
            .finish_non_exhaustive()
    }
}

/// A trusted profile with its grants.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ProfileSeed {
    pub profile: TrustedProfile,
    pub grants: Vec<Grant>,
}

/// The seed cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    #[error("read the seed file")]
    Read(#[source] std::io::Error),
    #[error("understand the seed file")]
    Parse(#[source] serde_saphyr::Error),
    #[error("read the file of API key {0}")]
    KeyFile(String, #[source] std::io::Error),
    #[error("accept the seed: {0}")]
    Invalid(String),
    #[error("draw random key material")]
    Random(#[source] getrandom::Error),
}

impl Seed {
    /// Reads a YAML or JSON file.
    pub fn load(path: &Path) -> Result<Self, SeedError> {
        Self::parse(&std::fs::read_to_string(path).map_err(SeedError::Read)?)
    }

    /// Parses YAML, of which JSON is a part.
    pub fn parse(text: &str) -> Result<Self, SeedError> {
        serde_saphyr::from_str(text).map_err(SeedError::Parse)
    }

    /// An instance with one root key; what most tests need.
    pub fn one_key(instance: &str, key: &str) -> Self {
        Self {
            instances: vec![InstanceSeed {
                id: instance.to_owned(),
                keys: vec![KeySeed { id: key.to_owned(), name: "root".to_owned(), ..KeySeed::default() }],
                ..InstanceSeed::default()
            }],
            ..Self::default()
        }
    }

    /// Adds a service ID with an API key.
    #[must_use]
    pub fn api_key(mut self, name: &str, key: &str, grant: Grant) -> Self {
        self.api_keys.push(ApiKeySeed {
            name: name.to_owned(),
            key: Some(key.to_owned()),
            key_file: None,
            grants: vec![grant],
        });
        self
    }

    /// Adds a trusted profile.
    #[must_use]
    pub fn trusted_profile(mut self, profile: TrustedProfile, grant: Grant) -> Self {
        self.trusted_profiles.push(ProfileSeed { profile, grants: vec![grant] });
        self
    }

    /// Who may do what, by this seed.
    pub fn access(&self) -> Result<Access, SeedError> {
        let mut access = Access::default();
        for entry in &self.api_keys {
            let secret = match (&entry.key, &entry.key_file) {
                (Some(key), None) => key.clone(),
                (None, Some(path)) => std::fs::read_to_string(path)
                    .map_err(|e| SeedError::KeyFile(entry.name.clone(), e))?
                    .trim()
                    .to_owned(),
                _ => {
                    return Err(SeedError::Invalid(format!(
                        "API key {} takes either key or keyFile",
                        entry.name
                    )));
                }
            };
            if secret.is_empty() || access.by_api_key(&secret).is_some() {
                return Err(SeedError::Invalid(format!("API key {} is empty or given twice", entry.name)));
            }
            unique(&mut access, &entry.name)?;
            access.add_api_key(&entry.name, &secret, entry.grants.clone());
        }
        for entry in &self.trusted_profiles {
            if !is_id(&entry.profile.id) {
                return Err(SeedError::Invalid(format!(
                    "trusted profile {} needs an id",
                    entry.profile.name
                )));
            }
            unique(&mut access, &entry.profile.name)?;
            access.add_profile(entry.profile.clone(), entry.grants.clone());
        }
        Ok(access)
    }

    /// The keys that are missing in `instance`, made from this seed.
    pub fn missing_keys(&self, instance: &Instance, now: Seconds) -> Result<Vec<Key>, SeedError> {
        let seeds = self.instances.iter().filter(|i| i.id == instance.id).flat_map(|i| &i.keys);
        seeds
            .filter(|seed| !instance.keys.contains_key(&seed.id.to_ascii_lowercase()))
            .map(|seed| seed.make(now))
            .collect()
    }
}

fn unique(access: &mut Access, name: &str) -> Result<(), SeedError> {
    if name.is_empty() || access.by_name_mut(name).is_some() {
        return Err(SeedError::Invalid(format!("identity name '{name}' is empty or given twice")));
    }
    Ok(())
}

/// Ids become file names: letters, digits, `-` and `_` only.
pub(crate) fn is_id(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 64
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// The name under which the seed appears as the creator of things.
pub(crate) const SEEDED_BY: &str = "iam-devkms-seed";

impl KeySeed {
    fn make(&self, now: Seconds) -> Result<Key, SeedError> {
        if !is_id(&self.id) || self.name.is_empty() {
            return Err(SeedError::Invalid(format!(
                "key '{}' needs an id of letters, digits and dashes, and a name",
                self.id
            )));
        }
        let material = match &self.material {
            Some(material) if material.is_aes_key() => material.clone(),
            Some(_) => {
                return Err(SeedError::Invalid(format!("key {} has material of a wrong length", self.id)));
            }
            None => Material::random().map_err(SeedError::Random)?,
        };
        let expires = self.date(self.expiration_date.as_ref())?;
        // Nobody has made a key in the future.
        let created = self.date(self.creation_date.as_ref())?.map_or(now, |at| at.min(now));
        let made = Made { at: created, by: SEEDED_BY.to_owned() };
        let alias = |name: &String| Alias { name: name.clone(), made: made.clone() };
        let rotation = self.rotation_months.map(|months| RotationPolicy {
            enabled: true,
            months,
            stamp: PolicyStamp::touch(None, now, SEEDED_BY),
        });
        Ok(Key {
            id: self.id.to_ascii_lowercase(),
            name: self.name.clone(),
            description: None,
            tags: vec![],
            aliases: self.aliases.iter().map(alias).collect(),
            extractable: self.extractable,
            imported: self.material.is_some(),
            ring: self.key_ring.clone().unwrap_or_else(|| DEFAULT_RING.to_owned()),
            created: made.clone(),
            expires,
            suspended: None,
            deleted: None,
            updated: created,
            rotated: None,
            rotation,
            dual_auth: None,
            scheduled_deletion: None,
            versions: vec![Version::new(material, created)],
        })
    }

    fn date(&self, text: Option<&String>) -> Result<Option<Seconds>, SeedError> {
        let parse = |text: &String| {
            let wrong = || SeedError::Invalid(format!("key {} has no RFC 3339 date", self.id));
            parse_rfc3339(text).ok_or_else(wrong)
        };
        text.map(parse).transpose()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const YAML: &str = r"
instances:
- id: 11111111-1111-4111-8111-111111111111
  keyRings: [blue]
  keys:
  - id: 22222222-2222-4222-8222-222222222222
    name: demo
    aliases: [demo-root]
    rotationMonths: 3
apiKeys:
- name: data
  key: secret-1
  grants: [{role: Reader, keys: [22222222-2222-4222-8222-222222222222]}]
- name: rewrap
  key: secret-2
  grants: [{actions: [kms.secrets.rewrap, kms.secrets.readmetadata]}]
trustedProfiles:
- profile: {id: Profile-33333333-3333-4333-8333-333333333333, name: pods, audiences: [iam]}
  grants: [{role: Reader}]
";

    #[test]
    fn a_yaml_seed_gives_keys_and_identities() {
        let seed = Seed::parse(YAML).unwrap();
        let access = seed.access().unwrap();
        assert_eq!(access.identities().count(), 3);
        let instance = Instance::new(&seed.instances[0].id, 5, "x");
        let keys = seed.missing_keys(&instance, 5).unwrap();
        assert_eq!(keys[0].aliases[0].name, "demo-root");
        assert_eq!(keys[0].rotation.as_ref().unwrap().months, 3);
    }

    #[test]
    fn a_key_is_as_old_as_its_seed_says_and_never_of_the_future() {
        let made = |date: &str| {
            let mut seed = Seed::one_key("i", "k");
            seed.instances[0].keys[0].creation_date = Some(date.to_owned());
            let keys = seed.missing_keys(&Instance::new("i", 100, "x"), 100);
            keys.map(|keys| (keys[0].created.at, keys[0].versions[0].created))
        };
        assert_eq!(made("1970-01-01T00:00:05Z").unwrap(), (5, 5));
        assert_eq!(made("1970-01-01T01:00:00Z").unwrap(), (100, 100));
        assert!(matches!(made("yesterday"), Err(SeedError::Invalid(_))));
    }

    #[test]
    fn a_misspelt_field_or_role_is_refused() {
        assert!(Seed::parse("apiKeys: [{name: x, key: y, role: Reader}]").is_err());
        assert!(Seed::parse("apiKeys: [{name: x, key: y, grants: [{role: Raeder}]}]").is_err());
    }

    #[test]
    fn two_identities_of_one_name_or_key_are_refused() {
        let twice = Seed::default().api_key("a", "k1", Grant::default()).api_key("a", "k2", Grant::default());
        assert!(matches!(twice.access(), Err(SeedError::Invalid(_))));
        let same = Seed::default().api_key("a", "k", Grant::default()).api_key("b", "k", Grant::default());
        assert!(matches!(same.access(), Err(SeedError::Invalid(_))));
    }

    #[test]
    fn debug_output_of_a_seed_has_no_api_key() {
        let seed = Seed::default().api_key("a", "top-secret", Grant::default());
        assert!(!format!("{seed:?}").contains("top-secret"));
        assert!(!format!("{:?}", seed.access().unwrap()).contains("top-secret"));
    }
}
