//! The controllers: what is declared, what is, and what follows. They run in the leader only.
//!
//! Invariant: each controller is `look` (reads), a pure step, and `report` (writes); unknown is never written as success.

mod allowed_endpoints;
pub mod binding;
pub mod conditions;
mod connection;
pub mod events;
mod figures;
mod identity_tokens;
pub mod profile;
mod report;
#[cfg(test)]
pub(crate) mod sample;
mod snapshots;
pub mod volume;

use std::sync::Arc;
use std::time::Duration;

use kube::Client;

pub use allowed_endpoints::AllowedEndpoints;
pub use connection::{Connections, ProfileProblem, Rules};
use events::Events;
pub use figures::Figures;
pub use identity_tokens::IdentityTokens;

/// What the controllers share.
pub struct Shared {
    /// The API server.
    pub client: Client,
    /// Kubernetes events.
    pub events: Events,
    /// One KMS connection for each profile and credential.
    pub connections: Connections,
    /// How rewrap Jobs look.
    pub jobs: crate::rewrap::Settings,
    /// What the metrics say of profiles and Jobs.
    pub figures: Figures,
}

/// Runs every controller; drop the future to stop them, as a replica that leads no more must.
pub async fn run(shared: Arc<Shared>) {
    let profiles = profile::run(shared.clone());
    let bindings = binding::run(shared.clone());
    let volumes = volume::run(shared);
    futures::join!(profiles, bindings, volumes);
}

/// `base` ± 20 %, so that many objects do not ask at once; spread by the object's name, so that tests can foresee it.
pub(crate) fn spread(base: Duration, name: &str) -> Duration {
    let step = name.bytes().fold(7_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte))) % 41;
    base.mul_f64(0.8 + f64::from(step) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_are_spread_by_a_fifth_to_both_sides() {
        let polls: Vec<f64> = (0..200)
            .map(|n| spread(Duration::from_secs(100), &format!("profile-{n}")).as_secs_f64())
            .collect();
        assert!(polls.iter().all(|poll| (79.9..=120.1).contains(poll)));
        assert!(polls.iter().any(|poll| *poll < 85.0) && polls.iter().any(|poll| *poll > 115.0));
    }
}
