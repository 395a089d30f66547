//! The words of conditions: types and reasons, each with when it is true.
//!
//! Invariant: a controller, the chart's documentation and the tests use these constants, never their own strings.

use kube_core::ListMerge;

/// How lists of conditions are merged: there is one of each type.
pub(crate) fn one_of_each_type() -> ListMerge {
    ListMerge::Map(vec!["type".into()])
}

/// Types of conditions.
pub mod types {
    /// `KmsProfile`: the root key can be used. `StorageBinding`: its claims are protected, or will be once a pod mounts them.
    pub const READY: &str = "Ready";
    /// `StorageBinding`, `EncryptedVolume`: access to data is suspended because the KMS refuses the root key.
    pub const SUSPENDED: &str = "Suspended";
    /// `KmsProfile`: the KMS did not answer the last poll; nothing is concluded from that.
    pub const UNREACHABLE: &str = "Unreachable";
    /// `KmsProfile` with `rotation.managed`: the root key is rotated in time, by its KMS or by the operator.
    pub const ROTATION_MANAGED: &str = "RotationManaged";
    /// `EncryptedVolume`: every file is wrapped by the current key version.
    pub const REWRAPPED: &str = "Rewrapped";
    /// `EncryptedVolume`: its last rewrap Job used the data credential, which can also unwrap, because the profile has no
    /// rewrap credential.
    pub const DATA_CREDENTIAL_USED: &str = "DataCredentialUsed";
    /// `EncryptedVolume`: its last rewrap Job failed; unknown while one that had to be started again still runs.
    pub const REWRAP_FAILED: &str = "RewrapFailed";
    /// `EncryptedVolume`: it is behind the current key version, and nothing rewraps it as long as what the message says holds.
    pub const REWRAP_WAITS: &str = "RewrapWaits";
    /// `EncryptedVolume`: an aligned 4 KiB write may be torn on its backing filesystem.
    pub const TORN_WRITES_POSSIBLE: &str = "TornWritesPossible";
    /// Pod: its volumes are encrypted and served; its message says why not.
    pub const POD_SERVED: &str = "cofferdam.io/Served";
}

/// Reasons of conditions, beside those of `KmsError::reason`.
pub mod reasons {
    /// All is well.
    pub const READY: &str = "Ready";
    /// It has not been looked at yet.
    pub const PENDING: &str = "Pending";
    /// The spec contradicts itself in a way that CEL cannot see.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// The named provider exists in the schema but not yet in this version.
    pub const PROVIDER_NOT_SUPPORTED: &str = "ProviderNotSupported";
    /// The Secret does not exist.
    pub const SECRET_MISSING: &str = "SecretMissing";
    /// The Secret lacks a key, or its value is empty.
    pub const SECRET_INCOMPLETE: &str = "SecretIncomplete";
    /// The ConfigMap with the KMS's certificate authorities does not exist or holds no certificate.
    pub const CA_MISSING: &str = "CaBundleMissing";
    /// The profile does not exist.
    pub const PROFILE_MISSING: &str = "ProfileMissing";
    /// The profile exists but is not Ready.
    pub const PROFILE_NOT_READY: &str = "ProfileNotReady";
    /// The profile does not list the binding's namespace.
    pub const NAMESPACE_NOT_ALLOWED: &str = "NamespaceNotAllowed";
    /// The namespace lacks the label that opts it in.
    pub const NAMESPACE_NOT_OPTED_IN: &str = "NamespaceNotOptedIn";
    /// Another binding selects one of its claims.
    pub const CONFLICTING_BINDING: &str = "ConflictingBinding";
    /// A selected claim is a block volume.
    pub const BLOCK_VOLUME: &str = "BlockVolume";
    /// A named Secret with image pull credentials does not exist.
    pub const PULL_SECRET_MISSING: &str = "ImagePullSecretMissing";
    /// The service account that rewrap Jobs are to run as does not exist.
    pub const SERVICE_ACCOUNT_MISSING: &str = "ServiceAccountMissing";
    /// The KMS refuses the root key; the message says how.
    pub const KEY_REFUSED: &str = "KeyRefused";
    /// The KMS rotates by the policy that the operator set.
    pub const ROTATION_POLICY_SET: &str = "RotationPolicySet";
    /// The operator rotates when the time comes.
    pub const ROTATION_SCHEDULED: &str = "RotationScheduled";
    /// The KMS wants more time to pass between two rotations; the operator waits.
    pub const ROTATION_WAITS: &str = "RotationWaits";
    /// The KMS has not rotated although its policy says so.
    pub const ROTATION_OVERDUE: &str = "RotationOverdue";
    /// The KMS shows another rotation policy than the one that was set.
    pub const ROTATION_POLICY_CHANGED: &str = "RotationPolicyChanged";
    /// Rotation is to be managed, and the profile has no admin credential.
    pub const ADMIN_CREDENTIAL_MISSING: &str = "AdminCredentialMissing";
    /// The root key was imported: only its owner has new material.
    pub const KEY_MATERIAL_NEEDED: &str = "KeyMaterialNeeded";
    /// The last look at the root key told nothing about it.
    pub const KEY_UNKNOWN: &str = "KeyUnknown";
    /// Nobody told when the current key version was made.
    pub const VERSION_AGE_UNKNOWN: &str = "VersionAgeUnknown";
    /// Files are wrapped by another key version than the current one.
    pub const BEHIND: &str = "BehindKeyVersion";
    /// The volume was put back to an earlier state, so what was counted counts no more.
    pub const RESTORED: &str = "VolumeRestored";
    /// Another volume stands in its place.
    pub const WRONG_VOLUME: &str = "WrongVolume";
    /// Nobody has checked in for too long.
    pub const NO_CHECK_IN: &str = "NoCheckIn";
    /// A pod without the sidecar mounts it: it began before the claim was protected.
    pub const OPEN_POD: &str = "OpenPod";
    /// No pod mounts it.
    pub const DETACHED: &str = "Detached";
    /// Pods mount it, and all of them only read it.
    pub const MOUNTED_READ_ONLY: &str = "MountedReadOnly";
    /// A Job found neither files nor a marker in it.
    pub const VOLUME_EMPTY: &str = "VolumeEmpty";
    /// The profile has no rewrap credential.
    pub const NO_REWRAP_CREDENTIAL: &str = "NoRewrapCredential";
    /// Not every volume could be counted.
    pub const UNKNOWN: &str = "Unknown";
    /// A key version: it is the current one.
    pub const CURRENT: &str = "Current";
    /// A key version: files are still wrapped by it.
    pub const FILES_LEFT: &str = "FilesLeft";
    /// A key version: a volume has not been swept to the current version.
    pub const NOT_SWEPT: &str = "NotSwept";
    /// A key version: VolumeSnapshots were taken before their volume was swept.
    pub const OLDER_SNAPSHOTS: &str = "OlderSnapshots";
    /// A key version: the API server did not say which VolumeSnapshots there are.
    pub const SNAPSHOTS_UNKNOWN: &str = "SnapshotsUnknown";
    /// A key version: nothing known to this cluster needs it.
    pub const UNNEEDED: &str = "Unneeded";
}
