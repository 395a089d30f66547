//! How commands outside speak with the first process inside: a request is a file in the run folder, the answer is the
//! list of parts that it publishes. Invariant: a file appears whole, by a rename.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// What may be asked of a part.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// Start it, if it is held down.
    Start,
    /// End it with SIGTERM and hold it down.
    Stop,
    /// End it with SIGKILL and hold it down.
    Kill,
    /// End it with SIGTERM and start it again.
    Restart,
}

/// What has become of a part.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Its short name.
    pub name: String,
    /// Its process id inside the cluster, if it runs.
    pub pid: Option<i32>,
    /// Whether it is held down on request.
    pub held: bool,
    /// How often it was started.
    pub starts: u32,
}

/// Leaves a request for `part`.
pub fn leave(run: &Path, part: &str, request: Request) -> Result<()> {
    let text = serde_json::to_string(&request).context("encode a request")?;
    write_whole(&path(run, part), &text)
}

/// Takes the request for `part`, if there is one.
pub fn take(run: &Path, part: &str) -> Result<Option<Request>> {
    let path = path(run, part);
    let Ok(text) = fs::read_to_string(&path) else { return Ok(None) };
    fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
    Ok(serde_json::from_str(&text).ok())
}

/// Whether the request for `part` has not been taken yet.
pub fn pending(run: &Path, part: &str) -> bool {
    path(run, part).exists()
}

/// Publishes what has become of the parts.
pub fn publish(run: &Path, parts: &[Status]) -> Result<()> {
    write_whole(&run.join("parts.json"), &serde_json::to_string(parts).context("encode the parts")?)
}

/// What has become of the parts.
pub fn published(run: &Path) -> Result<Vec<Status>> {
    let path = run.join("parts.json");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("understand {}", path.display()))
}

fn path(run: &Path, part: &str) -> PathBuf {
    run.join("requests").join(part)
}

fn write_whole(path: &Path, text: &str) -> Result<()> {
    let unfinished = path.with_extension("unfinished");
    fs::write(&unfinished, text).with_context(|| format!("write {}", unfinished.display()))?;
    fs::rename(&unfinished, path).with_context(|| format!("name {}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_request_is_taken_once() {
        let run = tempfile::tempdir().unwrap();
        fs::create_dir(run.path().join("requests")).unwrap();
        assert_eq!(take(run.path(), "kubelet").unwrap(), None);
        leave(run.path(), "kubelet", Request::Restart).unwrap();
        assert!(pending(run.path(), "kubelet"));
        assert_eq!(take(run.path(), "kubelet").unwrap(), Some(Request::Restart));
        assert_eq!(take(run.path(), "kubelet").unwrap(), None);
    }

    #[test]
    fn the_parts_are_read_back_as_published() {
        let run = tempfile::tempdir().unwrap();
        let part = Status { name: "etcd".into(), pid: Some(7), held: false, starts: 1 };
        publish(run.path(), std::slice::from_ref(&part)).unwrap();
        assert_eq!(published(run.path()).unwrap(), [part]);
    }
}
