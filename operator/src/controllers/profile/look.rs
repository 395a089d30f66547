//! Asks the KMS about a profile's root key: metadata only, never a wrap or an unwrap.
//!
//! Invariant: it reads; what follows from it is decided in `status`.

use api::KmsProfile;
use kms::{CallCtx, KeyInfo, VersionInfo};

use crate::controllers::{ProfileProblem, Shared};

/// What the KMS said.
pub struct Look {
    /// The key.
    pub info: KeyInfo,
    /// Its versions, newest first; `None` where the credential may not list them.
    pub versions: Option<Vec<VersionInfo>>,
}

/// Looks at the root key.
pub async fn look(shared: &Shared, profile: &KmsProfile) -> Result<Look, ProfileProblem> {
    let connection = shared.connections.of(&shared.client, profile).await?;
    let (key, call) = (super::root_key::name(profile), CallCtx::default());
    let info = connection.describe(&key, &call).await.map_err(ProfileProblem::Kms)?;
    let versions = if info.state.unwraps() { connection.versions(&key, &call).await.ok() } else { None };
    Ok(Look { info, versions })
}
