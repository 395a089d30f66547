//! The status file that the probes read.
//!
//! Invariant: replaced atomically, at each change and every 10 s, so that an old one means a process that hangs.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use contract::config::Status;

use super::board::Board;

/// How often it is written although nothing changed.
const PERIOD: Duration = Duration::from_secs(10);
/// An older one is not believed.
const STALE: Duration = Duration::from_secs(35);

/// Writes the file, for ever.
pub async fn keep(board: Board, path: &Path) {
    let mut changes = board.changes();
    loop {
        changes.borrow_and_update();
        if let Err(error) = write(path, &board.status()) {
            tracing::warn!(%error, "cannot write the status file");
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

/// Writes the file once.
pub fn write(path: &Path, status: &Status) -> std::io::Result<()> {
    let new = path.with_extension("new");
    // The umask of this process is 0.
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&new)?;
    file.write_all(&serde_json::to_vec(status)?)?;
    std::fs::rename(new, path)
}

/// Reads the file.
///
/// # Errors
/// A sentence for the probe's output, where there is none, or none that can be believed.
pub fn read(path: &Path) -> Result<Status, String> {
    let text = std::fs::read(path).map_err(|error| format!("the sidecar has not begun: {error}"))?;
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    let age = modified.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    if age.is_some_and(|age| age > STALE) {
        return Err("the sidecar stopped writing its status".into());
    }
    serde_json::from_slice(&text).map_err(|error| format!("the status file is damaged: {error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_status_that_grew_old_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("status.json");
        assert!(read(&path).is_err());
        let status = Status { ready: false, message: "waits".into() };
        write(&path, &status).unwrap();
        assert_eq!(read(&path).unwrap(), status);
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
        assert!(read(&path).unwrap_err().contains("stopped"));
    }
}
