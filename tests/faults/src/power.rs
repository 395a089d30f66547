//! Rounds of power cuts: a load, a cut at a random moment, another mount, a check of every promise.
//!
//! Invariant: what the rounds do follows from their seed, except for what threads and time make of it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::{Dice, Disk, Findings, Format, Kind, Load, Place, Promise, Server};

/// What is tried.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The storage.
    pub format: Format,
    /// What serves on it.
    pub kind: Kind,
    /// How often.
    pub rounds: u32,
    /// See the module.
    pub seed: u64,
}

/// What came of a trial.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Of all rounds together.
    pub findings: Findings,
    /// Rounds with a broken promise.
    pub bad_rounds: u32,
    /// Rounds in which something that was in flight is gone.
    pub rounds_with_undone: u32,
    /// Rounds in which a request was under way when the server ended.
    pub rounds_in_flight: u32,
    /// Rounds that were done.
    pub rounds: u32,
}

/// Carries out a trial; `program` is this crate's own. Ends early only where the filesystem does not serve any more, which
/// is a finding.
pub fn run(program: &Path, trial: &Trial) -> Result<Outcome> {
    let place = Place::new()?;
    let disk = Disk::new(&place, trial.format)?;
    let backing = disk.root().join("backing");
    std::fs::create_dir(&backing).context("make the backing directory")?;
    let mut server = Server::start(program, trial.kind.clone(), &backing, &place.dir("mount")?)?;
    let mut load = Load::set_up(&server.path(""), trial.seed, Promise::Synced)?;
    rustix::fs::syncfs(std::fs::File::open(disk.root())?).context("sync the disk")?;
    let mut dice = Dice::new(trial.seed ^ 1);
    let mut outcome = Outcome::default();
    while outcome.rounds < trial.rounds {
        outcome.rounds += 1;
        let begun = Instant::now();
        let mut findings = load.run(|under| {
            let moment = Duration::from_millis(40 + dice.below(500) as u64);
            load_until(&mut server, begun + moment, outcome.rounds)?;
            under.breaking();
            disk.cut(dice.chance(50))
        })?;
        server.end();
        disk.mount_again()?;
        if let Err(error) = server.again() {
            findings.broken.push(format!("it cannot be served again: {error:#}"));
            note(&mut outcome, findings);
            break;
        }
        findings.add(load.check());
        note(&mut outcome, findings);
    }
    Ok(outcome)
}

/// Rotates the key all the while, so that headers are rewrapped under the load.
fn load_until(server: &mut Server, end: Instant, round: u32) -> Result<()> {
    let mut version = 0;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(15)));
        if server.rotates() {
            version += 1;
            server.say(&format!("rotate {round}-{version}"))?;
        }
    }
}

/// Adds what a round found.
pub(crate) fn note(outcome: &mut Outcome, mut findings: Findings) {
    outcome.bad_rounds += u32::from(!findings.broken.is_empty());
    outcome.rounds_with_undone += u32::from(findings.undone > 0);
    outcome.rounds_in_flight += u32::from(findings.in_flight > 0);
    for problem in &mut findings.broken {
        *problem = format!("round {}: {problem}", outcome.rounds);
    }
    outcome.findings.add(findings);
}
