//! A look into a volume of which nobody has reported a marker: is there anything that a key version wraps?
//!
//! Invariant: it writes nothing, takes no lease and needs no key. What it cannot see is not counted, and never zero; where another
//! look may see more it gives no answer, but fails.

use std::io::ErrorKind;

use contract::check_in::{LookReport, MarkerReport, VolumePhase, reasons};
use contract::config::Volume as VolumeConfig;

use super::JobError;
use crate::serve::Places;
use crate::serve::board::Row;
use crate::volume::{self, Glance, VolumeError};

/// What was found, for the operator.
pub(super) struct Found {
    pub(super) reason: &'static str,
    pub(super) message: String,
    marker: Option<MarkerReport>,
    pub(super) empty: bool,
}

/// Looks, and puts what it found on the row; `version` is the key version that was current before.
pub async fn look(volume: &VolumeConfig, version: &str, row: &Row, places: &Places) -> Result<(), JobError> {
    let (path, entries) = (places.raw.join(&volume.name), volume.storage_entries.clone());
    let seen = tokio::task::spawn_blocking(move || volume::glance(&path, &entries)).await;
    let cut_short = |_| Err(VolumeError::Read(std::io::Error::other("the look at the volume was cut short")));
    let found = found(seen.unwrap_or_else(cut_short)).map_err(JobError::Volume)?;
    row.update(|state| {
        state.phase = VolumePhase::Swept;
        found.reason.clone_into(&mut state.reason);
        state.message = found.message;
        state.marker = found.marker;
        state.look = Some(LookReport { target_version: version.to_owned(), empty: found.empty });
    });
    Ok(())
}

pub(super) fn found(seen: Result<Glance, VolumeError>) -> Result<Found, VolumeError> {
    let not_counted = |reason, message| Found { reason, message, marker: None, empty: false };
    Ok(match seen {
        Ok(Glance::Empty) => {
            let message = "there are no files and no marker".into();
            Found { reason: reasons::VOLUME_EMPTY, message, marker: None, empty: true }
        }
        Ok(Glance::Begun) => {
            let message = "somebody began to initialise it, and there is no marker: a pod that mounts it goes on with that";
            not_counted(reasons::INITIALISATION_UNFINISHED, message.into())
        }
        Ok(Glance::Marked { region, owner }) => {
            let epoch = region.sweep_epoch().map_err(VolumeError::Marker)?;
            let marker = Some(volume::marker_report(region.marker(), epoch, owner));
            let message = "a pod has initialised it".into();
            Found { reason: reasons::MARKER_FOUND, message, marker, empty: false }
        }
        Err(error) if may_pass(&error) => return Err(error),
        Err(VolumeError::Plaintext { entries }) => {
            let message = format!(
                "it holds {entries} and no marker: they are not encrypted, or nobody can say by which key version; no pod gets it until \
                 they are gone"
            );
            not_counted(reasons::PLAINTEXT_FOUND, message)
        }
        Err(error @ (VolumeError::Read(_) | VolumeError::Own { .. })) => {
            let who = rustix::process::geteuid().as_raw();
            let message =
                format!("uid {who}, which looks into it, may not read all of it: {}", error.explain());
            not_counted(reasons::VOLUME_UNREADABLE, message)
        }
        Err(error) => not_counted(error.reason(), error.explain()),
    })
}

/// An error of the storage that says nothing of what lies there. A refusal by its permissions will be the same again.
fn may_pass(error: &VolumeError) -> bool {
    match error {
        VolumeError::Read(source) | VolumeError::Own { source, .. } => {
            source.kind() != ErrorKind::PermissionDenied
        }
        _ => false,
    }
}
