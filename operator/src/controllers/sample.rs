//! What controllers share, for tests.
//!
//! Invariant: a sample is valid; a test changes what it is about.

use std::sync::Arc;

use audit::Trail;
use contract::audit::Who;
use kube::Client;

use super::events::Events;
use super::{Connections, Figures, Rules, Shared};
use crate::settings::InjectionSettings;

/// An audit trail that nobody reads.
pub fn nowhere() -> Arc<Trail> {
    Trail::to(Who::program("operator"), Box::new(std::io::sink()))
}

/// All that a controller needs, over this client.
pub fn shared(client: Client) -> Shared {
    let jobs = InjectionSettings {
        image: "cofferdam:1".into(),
        image_pull_policy: "Never".into(),
        operator_url: "https://operator:8443".into(),
        sidecar_cpu: "500m".into(),
        sidecar_memory: "128Mi".into(),
        mesh_exclusion: true,
    };
    Shared {
        events: Events::new(client.clone()),
        client,
        connections: Connections::new(Rules::default(), nowhere()),
        jobs,
        figures: Figures::default(),
    }
}
