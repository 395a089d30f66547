//! Work on a leased volume that must end when another one has taken the volume over.
//!
//! Invariant: the lease's record counts up as long as the guard lives; once the lease is lost the work is told to end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinHandle;

use super::{Lease, VolumeError};

/// See the module.
pub struct Guard {
    lost: Arc<Mutex<Option<VolumeError>>>,
    task: JoinHandle<()>,
}

impl Guard {
    /// Keeps `lease`, and sets `cancel` when it is lost. Needs a runtime.
    pub fn new(lease: &Arc<Lease>, cancel: Arc<AtomicBool>) -> Self {
        let lost = Arc::new(Mutex::new(None));
        let (keeping, found) = (Lease::keep(lease), Arc::clone(&lost));
        let task = tokio::spawn(async move {
            if let Err(error) = keeping.await {
                tracing::error!(%error, "the volume is another one's; the work ends");
                *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                cancel.store(true, Ordering::SeqCst);
            }
        });
        Self { lost, task }
    }

    /// The work is over: why it had to end, if it had to.
    pub fn end(self) -> Option<VolumeError> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::fd::AsFd;
    use std::time::Duration;

    use super::*;
    use crate::volume::Purpose;

    #[tokio::test]
    async fn work_on_a_volume_that_was_taken_over_is_told_to_end_and_why() {
        let dir = tempfile::tempdir().unwrap();
        let file = std::fs::File::open(dir.path()).unwrap();
        let lease = Arc::new(Lease::acquire(file.as_fd(), "here", Purpose::Write, true).unwrap());
        std::fs::write(dir.path().join("lease"), br#"{"epoch":9,"holder":"pod far/away","boot":"b"}"#)
            .unwrap();
        let cancelled = Arc::new(AtomicBool::new(false));
        let guard = Guard::new(&lease, Arc::clone(&cancelled));
        let told = async {
            while !cancelled.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), told).await.unwrap();
        assert!(matches!(guard.end(), Some(VolumeError::InUse { holder }) if holder == "pod far/away"));
    }
}
