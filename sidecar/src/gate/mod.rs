//! The gate: proves, before the application starts, that what it will see is the encrypted mount of this pod's sidecar.
//!
//! Invariant: it passes only on a proof, fails only on a disproof or on a mount that is dead for good, and waits for everything
//! else, saying why.

mod challenge;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use challenge::{answer, ensure_key, verify};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);
/// Disproofs in a row that are believed: a key file that is just being written must not end a pod.
const DISPROOFS: u32 = 5;

/// Looks in a row at a mount whose connection has ended, before the gate ends too: about a minute. A running container keeps the
/// mount that it was made with, so that only a new gate can see a newer one.
const DEAD_LOOKS: u32 = 300;

/// What one look at one mount says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the encrypted mount, and it serves.
    Passed,
    /// Not yet.
    Wait(String),
    /// Its connection has ended.
    Dead(String),
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

/// Waits until every mount passes; `Err` says which one is proven wrong, or dead.
pub fn run(mounts: &[Mount], key_file: &Path, mut say: impl FnMut(&str)) -> Result<(), String> {
    for mount in mounts {
        wait(&mount.volume, PAUSE, || look(mount, key_file), &mut say)?;
    }
    Ok(())
}

/// Looks until the mount of a volume passes.
fn wait(
    volume: &str,
    pause: Duration,
    mut look: impl FnMut() -> Verdict,
    say: &mut impl FnMut(&str),
) -> Result<(), String> {
    let (mut last, mut dead, mut wrong) = (String::new(), 0, 0);
    loop {
        let verdict = look();
        dead = if matches!(verdict, Verdict::Dead(_)) { dead + 1 } else { 0 };
        wrong = if matches!(verdict, Verdict::Wrong(_)) { wrong + 1 } else { 0 };
        let text = match verdict {
            Verdict::Passed => break,
            Verdict::Wait(why) | Verdict::Dead(why) => format!("volume {volume}: not yet: {why}"),
            Verdict::Wrong(why) => format!("volume {volume}: {why}"),
        };
        if wrong >= DISPROOFS || dead >= DEAD_LOOKS {
            return Err(text);
        }
        if text != last {
            say(&text);
            last = text;
        }
        std::thread::sleep(pause);
    }
    say(&format!("volume {volume}: is the encrypted mount, and serves"));
    Ok(())
}

/// One look.
pub fn look(mount: &Mount, key_file: &Path) -> Verdict {
    challenge::look(mount, key_file)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of a row of verdicts, and how many of them were looked at.
    fn after(verdicts: impl IntoIterator<Item = Verdict>) -> (Result<(), String>, usize) {
        let (mut verdicts, mut looks) = (verdicts.into_iter(), 0);
        let look = || {
            looks += 1;
            verdicts.next().unwrap_or(Verdict::Passed)
        };
        let result = wait("data", Duration::ZERO, look, &mut |_| {});
        (result, looks)
    }

    fn times(verdict: Verdict, count: u32) -> impl Iterator<Item = Verdict> {
        std::iter::repeat_n(verdict, count as usize)
    }

    #[test]
    fn a_gate_waits_as_long_as_nothing_is_proven() {
        assert_eq!(after(times(Verdict::Wait("suspended".into()), 5000)), (Ok(()), 5001));
    }

    #[test]
    fn disproofs_count_only_in_a_row() {
        let wrong = || times(Verdict::Wrong("is no FUSE mount".into()), DISPROOFS - 1);
        let between = times(Verdict::Wait("not yet".into()), 1);
        assert!(after(wrong().chain(between).chain(wrong())).0.is_ok());
        let (result, looks) = after(wrong().chain(wrong()));
        assert!(result.is_err_and(|text| text.contains("no FUSE mount")));
        assert_eq!(looks, DISPROOFS as usize);
    }

    #[test]
    fn a_mount_that_stays_dead_ends_the_gate_and_one_that_is_replaced_does_not() {
        let dead = |count| times(Verdict::Dead("its connection has ended".into()), count);
        assert!(after(dead(DEAD_LOOKS - 1)).0.is_ok());
        let (result, looks) = after(dead(DEAD_LOOKS + 1));
        assert!(result.is_err_and(|text| text.contains("has ended")));
        assert_eq!(looks, DEAD_LOOKS as usize);
    }
}
