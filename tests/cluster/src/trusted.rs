//! A KMS that knows nobody's API key but its owner's: pods, Jobs and the operator show it their service accounts.
//!
//! Invariant: each trusted profile names the service accounts that it trusts; a namespace is none of them.

use anyhow::Result;
use contract::config::Credential;
use devkms::{Grant, Role, TrustedProfile};
use xtask::cluster::{Cluster, node};

use crate::root_key::connect;
use crate::{RootKey, Stage, soon};

/// The trusted profile of sidecars, a Reader.
pub const DATA_PROFILE: &str = "Profile-6d0a4b52-3c1e-4f8b-9a6d-1e2f3a4b5c6d";
/// The trusted profile of rewrap Jobs, which may read metadata and rewrap.
pub const REWRAP_PROFILE: &str = "Profile-9b8c7d6e-5f4a-4b3c-8d2e-1f0a9b8c7d6e";
/// The audience of the tokens that it takes; a profile's default, and the operator's by `values.yaml`.
pub const AUDIENCE: &str = "iam";
/// The port of this KMS, because `values.yaml` lists its endpoint as one that may be shown the operator's identity token.
const PORT: u16 = 8645;
const OPERATOR: &str = "system:serviceaccount:cofferdam-system:cofferdam-operator";

impl RootKey {
    /// Starts a KMS with a new root key that trusts, in `stage`'s namespace, the service account `app` for data and `rewrap` for
    /// rewrapping. The operator looks at the key as the data profile. Where another test has the port, it waits.
    pub fn trusting(stage: &Stage) -> Self {
        let account = |name: &str| format!("system:serviceaccount:{}:{name}", stage.name);
        soon("the KMS at its known port", || {
            let (seed, id) = Self::seed();
            let data = trusted(&stage.cluster, DATA_PROFILE, "data", vec![account("app"), OPERATOR.into()])?;
            let rewrap = trusted(&stage.cluster, REWRAP_PROFILE, "rewrap", vec![account("rewrap")])?;
            let seed = seed.trusted_profile(data, Grant::role(Role::Reader));
            Self::start(seed.trusted_profile(rewrap, Self::rewrap_only()), id, PORT)
        })
    }

    /// What the KMS says to whoever shows this token for a trusted profile, and asks for an unwrap.
    pub fn unwrap_with_token(&self, trusted_profile: &str, token: &str) -> kms::Result<()> {
        let credential = Credential::TrustedProfile {
            profile_id: trusted_profile.into(),
            token_path: "/nonexistent".into(),
        };
        self.unwrap_by(connect(&self.reached_with(credential), token).as_ref())
    }
}

fn trusted(cluster: &Cluster, id: &str, name: &str, subjects: Vec<String>) -> Result<TrustedProfile> {
    Ok(TrustedProfile {
        id: id.into(),
        name: name.into(),
        issuer: Some(node::ISSUER.into()),
        audiences: vec![AUDIENCE.into()],
        subjects,
        public_key: Some(std::fs::read_to_string(cluster.token_key())?),
        ..TrustedProfile::default()
    })
}
