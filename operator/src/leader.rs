//! Which replica runs the controllers: a Lease (`coordination.k8s.io/v1`).
//!
//! Invariant: a replica works only while it renewed the lease within [`STOP`], which is shorter than [`DURATION`], after which
//! another one may take it; clocks of different replicas are never compared.

use std::future::Future;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::core::ObjectMeta;
use kube::{Api, Client};

/// The Lease's name.
pub const NAME: &str = "cofferdam-operator";
/// How long a lease that nobody renews counts.
const DURATION: Duration = Duration::from_secs(15);
/// How long after its last renewal a leader stops working.
const STOP: Duration = Duration::from_secs(10);
/// How often a lease is looked at.
const PERIOD: Duration = Duration::from_secs(3);

/// One replica's view of the lease.
pub struct Election {
    api: Api<Lease>,
    identity: String,
    seen: Option<(String, Instant)>,
}

impl Election {
    /// For the replica `identity`.
    pub fn new(client: Client, namespace: &str, identity: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), identity: identity.into(), seen: None }
    }

    /// Runs `work` whenever this replica leads, for ever; `work` is dropped where it stands when the lease is lost.
    pub async fn run<F: Future<Output = ()>>(mut self, mut report: impl FnMut(bool), work: impl Fn() -> F) {
        loop {
            self.acquire().await;
            tracing::info!(identity = self.identity, "leading");
            report(true);
            tokio::select! {
                () = work() => tracing::error!("the controllers ended"),
                () = self.keep() => tracing::warn!("the lease is lost"),
            }
            report(false);
        }
    }

    async fn acquire(&mut self) {
        loop {
            match self.try_hold().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "look at the lease"),
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// Returns when the lease is lost.
    async fn keep(&mut self) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < STOP {
            tokio::time::sleep(PERIOD).await;
            match tokio::time::timeout(PERIOD, self.try_hold()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => return,
                Ok(Err(error)) => tracing::warn!(%error, "renew the lease"),
                Err(_) => tracing::warn!("renew the lease: no answer"),
            }
        }
    }

    /// Takes or renews the lease, if nobody else holds it.
    async fn try_hold(&mut self) -> Result<bool, kube::Error> {
        let found = self.api.get_opt(NAME).await?;
        let version =
            found.as_ref().and_then(|lease| lease.metadata.resource_version.clone()).unwrap_or_default();
        if self.seen.as_ref().is_none_or(|(known, _)| *known != version) {
            self.seen = Some((version, Instant::now()));
        }
        let unchanged = self.seen.as_ref().map(|(_, since)| since.elapsed()).unwrap_or_default();
        let Some(next) = claim(found.as_ref(), &self.identity, unchanged, Timestamp::now()) else {
            return Ok(false);
        };
        let written = match found {
            None => self.api.create(&PostParams::default(), &next).await,
            Some(_) => self.api.replace(NAME, &PostParams::default(), &next).await,
        };
        match written {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The lease as `identity` would hold it; none while another replica does. `unchanged` is how long this replica has seen the
/// lease unchanged.
fn claim(found: Option<&Lease>, identity: &str, unchanged: Duration, now: Timestamp) -> Option<Lease> {
    let old = found.and_then(|lease| lease.spec.clone()).unwrap_or_default();
    let holder = old.holder_identity.as_deref().unwrap_or_default();
    if !holder.is_empty() && holder != identity && unchanged < DURATION {
        return None;
    }
    let is_new = holder != identity;
    let spec = LeaseSpec {
        holder_identity: Some(identity.into()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: if is_new { Some(MicroTime(now)) } else { old.acquire_time },
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(old.lease_transitions.unwrap_or(0) + i32::from(is_new && found.is_some())),
        ..LeaseSpec::default()
    };
    let metadata = found.map_or_else(
        || ObjectMeta { name: Some(NAME.into()), ..ObjectMeta::default() },
        |lease| lease.metadata.clone(),
    );
    Some(Lease { metadata, spec: Some(spec) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn held_by(identity: &str) -> Lease {
        claim(None, identity, Duration::ZERO, now()).unwrap()
    }

    #[test]
    fn a_lease_that_another_replica_renews_is_left_alone() {
        assert!(claim(Some(&held_by("a")), "b", Duration::from_secs(14), now()).is_none());
    }

    #[test]
    fn a_lease_that_nobody_renews_changes_hands_and_counts_it() {
        let taken = claim(Some(&held_by("a")), "b", Duration::from_secs(15), now()).unwrap().spec.unwrap();
        assert_eq!((taken.holder_identity.as_deref(), taken.lease_transitions), (Some("b"), Some(1)));
    }

    #[test]
    fn the_holder_renews_without_a_transition() {
        let renewed = claim(Some(&held_by("a")), "a", Duration::from_secs(3), now()).unwrap().spec.unwrap();
        assert_eq!(renewed.lease_transitions, Some(0));
    }
}
