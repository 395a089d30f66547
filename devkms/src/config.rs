//! How a server is set up, and the rules of time and status that a test may relax. Invariant: the defaults are what the real service does.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::clock::{DAY, Seconds};
use crate::seed::Seed;

/// Everything that a server needs to start.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the KMS and IAM listen for http.
    pub http: Option<SocketAddr>,
    /// Where the KMS and IAM listen for https.
    pub https: Option<SocketAddr>,
    /// Where health, metrics and the control calls listen; no one is authenticated there, so keep it private.
    pub control: SocketAddr,
    /// The certificate for https.
    pub tls: Tls,
    /// A directory that keeps keys over restarts; without one they end with the process.
    pub store: Option<PathBuf>,
    /// Instances, keys and identities that exist from the start.
    pub seed: Seed,
    /// Rules of time and status.
    pub rules: Rules,
}

impl Config {
    /// In memory, http and control on free ports of the loopback.
    pub fn ephemeral(seed: Seed) -> Self {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            http: Some(loopback),
            https: None,
            control: loopback,
            tls: Tls::default(),
            store: None,
            seed,
            rules: Rules::default(),
        }
    }

    /// Like [`Config::ephemeral`], and https on another free port with a certificate of an own CA.
    pub fn ephemeral_tls(seed: Seed) -> Self {
        let plain = Self::ephemeral(seed);
        Self { https: plain.http, ..plain }
    }
}

/// Where the https certificate comes from.
#[derive(Debug, Clone)]
pub enum Tls {
    /// PEM files of a chain and its key.
    Files { cert: PathBuf, key: PathBuf },
    /// An own CA signs a certificate for these DNS names and addresses. With a directory the CA is kept there
    /// (`ca.crt`, `ca.key`, `tls.crt`, `tls.key`) and used again.
    SelfMade { dir: Option<PathBuf>, names: Vec<String> },
}

impl Default for Tls {
    fn default() -> Self {
        Self::SelfMade { dir: None, names: loopback_names() }
    }
}

/// The names that every own certificate has.
pub fn loopback_names() -> Vec<String> {
    ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec()
}

/// Rules that the service states in its documentation; seconds unless named otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Rules {
    /// Least time between two rotations of one key.
    pub rotation_interval: Seconds,
    /// Least time from disabling a key to enabling it.
    pub enable_delay: Seconds,
    /// Least time from deleting a key to restoring it.
    pub restore_delay: Seconds,
    /// Least time from deleting a key to purging it.
    pub purge_delay: Seconds,
    /// How long a deleted key can be restored.
    pub restore_window: Seconds,
    /// When a deleted key is purged without anybody asking.
    pub purge_after: Seconds,
    /// How long an access token is valid.
    pub token_lifetime: Seconds,
    /// HTTP status of a missing permission: 401 or 403.
    pub denied_status: u16,
    /// HTTP status of a ciphertext that does not open: 422 or 400.
    pub bad_ciphertext_status: u16,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            rotation_interval: 3600,
            enable_delay: 30,
            restore_delay: 30,
            purge_delay: 4 * 3600,
            restore_window: 30 * DAY,
            purge_after: 90 * DAY,
            token_lifetime: 3600,
            denied_status: 401,
            bad_ciphertext_status: 422,
        }
    }
}
