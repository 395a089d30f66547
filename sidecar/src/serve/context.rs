//! What every volume's tasks share.
//!
//! Invariant: nothing here changes after the start but the stop signal.

use std::path::PathBuf;
use std::sync::Arc;

use audit::Trail;
use contract::audit::Who;
use contract::config::{Profile, SidecarConfig, Volume};
use kms::observe::Auditor;
use tokio::sync::watch;

use super::board::Board;
use super::link::DriverLink;
use super::metrics::Metrics;
use crate::profile::Told;

/// The places that a pod has; tests have others.
#[derive(Clone, Debug)]
pub struct Places {
    /// Raw volumes lie below this.
    pub raw: PathBuf,
    /// The driver's socket.
    pub ctl: PathBuf,
    /// Status and gate key.
    pub run: PathBuf,
    /// The operator's CA.
    pub ca: PathBuf,
    /// The token for check-ins.
    pub token: PathBuf,
    /// Port of metrics and health; 0: none.
    pub port: u16,
}

impl Default for Places {
    fn default() -> Self {
        use contract::names;
        let ca = PathBuf::from(names::CA_DIR).join(names::CA_OPERATOR_KEY);
        Self {
            raw: names::RAW_DIR.into(),
            ctl: names::CTL_SOCKET.into(),
            run: names::RUN_DIR.into(),
            ca,
            token: names::TOKEN_FILE.into(),
            port: names::SIDECAR_METRICS_PORT,
        }
    }
}

/// Shared by all tasks of the process.
pub struct Context {
    /// The configuration.
    pub config: SidecarConfig,
    /// Where things are.
    pub places: Places,
    /// Who this is, for leases.
    pub holder: String,
    /// What the volumes are doing.
    pub board: Board,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The audit trail.
    pub trail: Arc<Trail>,
    /// The node driver.
    pub link: DriverLink,
    /// The gate's key.
    pub gate_key: Vec<u8>,
    /// `true` once the process is to end.
    pub stop: watch::Sender<bool>,
}

impl Context {
    /// The profile of a volume; `None` if the configuration is wrong.
    pub fn profile(&self, volume: &Volume) -> Option<&Profile> {
        self.config.profiles.get(volume.profile)
    }

    /// Who is told of what a volume does with keys.
    pub fn told(&self, volume: &Volume, profile: &Profile) -> Told {
        Told { observer: self.metrics.observer(), auditor: auditor(&self.trail, volume, profile) }
    }

    /// Ends when the process is to end.
    pub async fn stopped(&self) {
        let mut stop = self.stop.subscribe();
        // A closed channel means that everything has ended.
        let _ = stop.wait_for(|stop| *stop).await;
    }
}

/// The audit trail of this process, which is a `program` in a pod.
pub fn trail(program: &'static str) -> Arc<Trail> {
    let read = |name| std::env::var(name).ok();
    let (pod, namespace) = (read(contract::names::POD_NAME_ENV), read(contract::names::POD_NAMESPACE_ENV));
    Trail::stdout(Who { pod, namespace, ..Who::program(program) })
}

/// The trail, for what is done with the keys of a volume.
pub fn auditor(trail: &Arc<Trail>, volume: &Volume, profile: &Profile) -> Arc<dyn Auditor> {
    trail.scoped(Who {
        profile: Some(format!("{}/{}", profile.namespace, profile.name)),
        binding: volume.binding.clone(),
        claim: Some(volume.claim.clone()),
        ..trail.who().clone()
    })
}

/// `pod namespace/name (uid)`, as far as the environment tells.
pub fn holder() -> String {
    let read = |name| std::env::var(name).unwrap_or_else(|_| "?".into());
    let (namespace, name) = (read(contract::names::POD_NAMESPACE_ENV), read(contract::names::POD_NAME_ENV));
    format!("pod {namespace}/{name} ({})", read(contract::names::POD_UID_ENV))
}
