//! A volume in the words of the configuration and of check-ins.
//!
//! Invariant: here alone the operator's words meet those of the format, so that what is reported is what was asked for.

use std::path::Path;

use contract::check_in::MarkerReport;
use contract::config;
use envelope::{Ownership, VolumeMarker};

use super::{Purpose, Request, Volume, marker};

impl Request {
    /// For a volume of the configuration, below the directory of raw volumes.
    pub fn of(config: &config::Volume, raw: &Path, purpose: Purpose, holder: String) -> Self {
        Self {
            path: raw.join(&config.name),
            purpose,
            holder,
            storage_entries: config.storage_entries.clone(),
            pinned: config.pinned_volume_id.clone(),
            ownership: match config.ownership {
                config::Ownership::Native => Ownership::Native,
                config::Ownership::Virtual => Ownership::Virtual,
            },
            strict: config.strict,
            seal: config.seal,
        }
    }
}

impl Volume {
    /// What the operator pins of it; `None` where the storage does not tell.
    pub fn marker_report(&self) -> Option<MarkerReport> {
        let epoch = marker::read(self.dir()).ok()?.sweep_epoch().ok()?;
        Some(marker_report(self.region.marker(), epoch, self.owner().ok()?))
    }
}

/// The same of a marker that was only looked at; `owner` is the uid and gid of its file.
pub fn marker_report(marker: &VolumeMarker, sweep_epoch: u64, (uid, gid): (u32, u32)) -> MarkerReport {
    MarkerReport {
        volume_id: marker.volume_id().to_string(),
        strict: marker.options().strict,
        seal: marker.options().seal,
        ownership: match marker.options().ownership {
            Ownership::Native => config::Ownership::Native,
            Ownership::Virtual => config::Ownership::Virtual,
        },
        sweep_epoch,
        uid,
        gid,
    }
}
