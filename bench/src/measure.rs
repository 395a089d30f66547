//! Measuring: each piece of work on each contender in turn, round by round. Invariant: all contenders of a round run before the next;
//! a run that takes too long ends with its server, and a piece of work with its share of the time.

use std::collections::BTreeMap;
use std::fs;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::Options;
use crate::contender::{self, Contender, Means, Mounted};
use crate::cpu;
use crate::ground::Ground;
use crate::kms::Kms;
use crate::uring::Offered;
use crate::work::{Done, WORKS, Work, archive};

/// The longest that one run of a piece of work may take, at full size.
const LONGEST: Duration = Duration::from_secs(180);

/// A run of a piece of work.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Units a second.
    pub rate: f64,
    /// Seconds of the server's CPU time for a unit.
    pub server_cpu: f64,
    /// The same with the worker's own.
    pub all_cpu: f64,
}

/// What was measured of a piece of work.
pub struct Figures {
    pub work: &'static Work,
    pub samples: BTreeMap<Contender, Vec<Sample>>,
}

impl Figures {
    /// Rounds that there was time for.
    pub fn rounds(&self) -> usize {
        self.samples.values().map(Vec::len).min().unwrap_or(0)
    }
}

/// Runs `then` with each of the contenders that `options` choose, mounted.
pub fn with_mounts<T>(
    options: &Options,
    then: impl FnOnce(&[Mounted], &[Ground<'_>]) -> Result<T>,
) -> Result<T> {
    ensure!(rustix::process::geteuid().is_root(), "the benchmark mounts and drops caches: it needs root");
    let dir = options.storage.as_path();
    contender::clear(dir);
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    let place = tempfile::tempdir().context("make a directory")?;
    let kms = Kms::start(place.path())?;
    let means = Means { kms: &kms, sidecar: &options.sidecar, mount_arguments: &options.mount_arguments };
    let archive = archive(options.sources.as_deref(), place.path())?;
    let mut contenders = options.contenders.clone();
    let offered = if contenders.iter().any(|one| one.is_ring()) { Offered::switch_on() } else { None };
    contenders.retain(|one| !one.is_ring() || offered.is_some());
    let mounts = contenders
        .iter()
        .enumerate()
        .map(|(at, one)| {
            let name = one.name().replace([' ', ','], "-");
            Mounted::start(*one, &dir.join(format!("{at}-{name}")), &means)
        })
        .collect::<Result<Vec<_>>>()?;
    let grounds: Vec<Ground<'_>> = mounts
        .iter()
        .map(|mount| Ground { path: &mount.path, raw: &mount.raw, scale: options.scale, archive: &archive })
        .collect();
    let result = then(&mounts, &grounds);
    drop(grounds);
    drop(mounts);
    let _ = fs::remove_dir_all(dir);
    result
}

/// Runs the pieces of work that `options` choose.
pub fn run(options: &Options) -> Result<Vec<Figures>> {
    let chosen = |work: &&Work| {
        options.only.is_empty() || options.only.iter().any(|part| work.name.contains(part.as_str()))
    };
    let works: Vec<&'static Work> = WORKS.iter().filter(chosen).collect();
    let end = Instant::now() + Duration::from_secs_f64(options.minutes * 60.0);
    with_mounts(options, |mounts, grounds| {
        let mut figures = Vec::new();
        for (at, work) in works.iter().enumerate() {
            let left = end.saturating_duration_since(Instant::now());
            let share = left / (works.len() - at) as u32;
            eprintln!("[{} of {}] {}: at most {} s", at + 1, works.len(), work.name, share.as_secs());
            figures.push(alternate(work, mounts, grounds, options.rounds, Instant::now() + share)?);
        }
        Ok(figures)
    })
}

/// Rounds of a piece of work, until there were enough or the next one would not be over by `end`; one at least.
fn alternate(
    work: &'static Work,
    mounts: &[Mounted],
    grounds: &[Ground<'_>],
    rounds: usize,
    end: Instant,
) -> Result<Figures> {
    let mut samples: BTreeMap<Contender, Vec<Sample>> = BTreeMap::new();
    for (mount, ground) in mounts.iter().zip(grounds) {
        let prepared = within(LONGEST, mount.server(), || (work.prepare)(ground));
        prepared.with_context(|| format!("prepare {} on {}", work.name, mount.contender.name()))?;
    }
    for round in 1..=rounds {
        let begin = Instant::now();
        for (mount, ground) in mounts.iter().zip(grounds) {
            let sample = within(LONGEST, mount.server(), || {
                (work.before)(ground)?;
                once(work, mount, ground)
            });
            let sample = sample.with_context(|| format!("{} on {}", work.name, mount.contender.name()))?;
            let (name, unit) = (mount.contender.name(), work.unit);
            eprintln!("  {} {name}: {:.0} {unit} ({round} of {rounds})", work.name, sample.rate);
            samples.entry(mount.contender).or_default().push(sample);
        }
        if Instant::now() + begin.elapsed() > end {
            break;
        }
    }
    for (mount, ground) in mounts.iter().zip(grounds) {
        within(LONGEST, mount.server(), || (work.after)(ground))?;
    }
    Ok(Figures { work, samples })
}

/// Runs `work`; a server that keeps it waiting for longer than `limit` is ended, so that the work fails instead.
pub fn within<T>(limit: Duration, server: Option<Pid>, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let (done, over) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if over.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                eprintln!("  longer than {} s: its server is ended", limit.as_secs());
                let _ = server.map(|server| kill_process(server, Signal::KILL));
            }
        });
        let result = work();
        drop(done);
        result
    })
}

fn once(work: &Work, mount: &Mounted, ground: &Ground<'_>) -> Result<Sample> {
    let (server, own, begin) = (mount.server_cpu(), cpu::seconds("self", cpu::WITH_CHILDREN), Instant::now());
    let done = (work.run)(ground)?;
    let seconds = begin.elapsed().as_secs_f64();
    let (server, own) = (mount.server_cpu() - server, cpu::seconds("self", cpu::WITH_CHILDREN) - own);
    let (rate, amount) = match done {
        Done::Amount(amount) => (amount / seconds, amount),
        Done::Rate(rate) => (rate, rate * seconds),
    };
    Ok(Sample { rate, server_cpu: server / amount, all_cpu: (server + own) / amount })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn a_server_that_keeps_work_waiting_is_ended() {
        let mut server = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_child(&server);
        let status = within(Duration::from_millis(50), Some(pid), || Ok(server.wait()?)).unwrap();
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()));
        let mut quick = std::process::Command::new("sleep").arg("0.2").spawn().unwrap();
        let pid = Pid::from_child(&quick);
        assert!(within(Duration::from_secs(60), Some(pid), || Ok(quick.wait()?)).unwrap().success());
    }
}
