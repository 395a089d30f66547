//! The wire: requests come in here, meet faults, are answered, counted and put on the audit trail.

pub mod connection;
pub mod control;
pub mod faults;
mod pipeline;
mod request;

use crate::audit::Audit;
use crate::metrics::Metrics;
use crate::service::Service;

pub use pipeline::router;

/// What every request handler needs.
#[derive(Debug)]
pub struct App {
    pub service: Service,
    pub audit: Audit,
    pub metrics: Metrics,
    pub faults: faults::Faults,
}

impl App {
    /// A service without a wire yet.
    pub fn new(service: Service) -> Self {
        Self {
            service,
            audit: Audit::default(),
            metrics: Metrics::default(),
            faults: faults::Faults::default(),
        }
    }
}
