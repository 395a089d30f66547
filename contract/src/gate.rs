//! The challenge by which the gate proves that a directory is the encrypted mount of this pod's sidecar.
//!
//! The gate reads the extended attribute [`CHALLENGE_XATTR_PREFIX`]`<32 hex digits>` of the mount's root. The filesystem
//! answers with the JSON of [`Answer`]; `mac` is HMAC-SHA-256 under the 32 bytes of `names::GATE_KEY_FILE` over
//! [`MAC_LABEL`] ‖ nonce (16 bytes) ‖ volume name. The key file lies on a tmpfs that only the sidecar and the gate mount.
//!
//! Invariant: the answer needs no KMS, so that a gate can wait while a key is disabled.

use serde::{Deserialize, Serialize};

/// Name of the attribute, before the nonce in lower-case hex. In the `security` namespace, because the kernel asks for no
/// permission on the directory there: the gate has another identity than the application, whose root may be closed to it.
pub const CHALLENGE_XATTR_PREFIX: &str = "security.cofferdam.challenge.";
/// First bytes of the MAC's input.
pub const MAC_LABEL: &[u8] = b"cofferdam/gate/v1";

/// The answer of the filesystem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Lower-case hex.
    pub mac: String,
    /// Whether data is served now; the gate waits until it is.
    pub serving: bool,
    /// Why not, as a PascalCase word.
    pub reason: String,
    /// Why not, for a person.
    pub message: String,
}
