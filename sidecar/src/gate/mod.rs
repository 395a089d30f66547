//! The gate: proves, before the application starts, that what it will see is the encrypted mount of this pod's sidecar.
//!
//! Invariant: it passes only on a proof, fails only on a disproof, and waits for everything else, saying why.

mod challenge;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use challenge::{answer, ensure_key, verify};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);
/// Disproofs in a row that are believed: a key file that is just being written must not end a pod.
const DISPROOFS: u32 = 5;

/// What one look at one mount says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the encrypted mount, and it serves.
    Passed,
    /// Not yet.
    Wait(String),
    /// It is something else.
    Wrong(String),
}

/// A mount that a gate looks at.
#[derive(Clone, Debug)]
pub struct Mount {
    /// The volume's name.
    pub volume: String,
    /// Where the application's view is mounted.
    pub path: PathBuf,
}

/// Waits until every mount passes; `Err` says which one is proven wrong.
pub fn run(mounts: &[Mount], key_file: &Path, mut say: impl FnMut(&str)) -> Result<(), String> {
    for mount in mounts {
        let mut last = String::new();
        let mut disproofs = 0;
        loop {
            let text = match look(mount, key_file) {
                Verdict::Passed => break,
                Verdict::Wait(why) => {
                    disproofs = 0;
                    format!("volume {}: not yet: {why}", mount.volume)
                }
                Verdict::Wrong(why) => {
                    disproofs += 1;
                    let text = format!("volume {}: {why}", mount.volume);
                    if disproofs >= DISPROOFS {
                        return Err(text);
                    }
                    text
                }
            };
            if text != last {
                say(&text);
                last = text;
            }
            std::thread::sleep(PAUSE);
        }
        say(&format!("volume {}: is the encrypted mount, and serves", mount.volume));
    }
    Ok(())
}

/// One look.
pub fn look(mount: &Mount, key_file: &Path) -> Verdict {
    challenge::look(mount, key_file)
}
