//! Measuring: each piece of work on each contender in turn, round by round. Invariant: all contenders of a round run before the next.

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::Options;
use crate::contender::{Contender, Means, Mounted};
use crate::cpu;
use crate::ground::Ground;
use crate::growth::{self, Growth};
use crate::kms::Kms;
use crate::work::{Done, WORKS, Work, archive};

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

/// Runs what `options` choose.
pub fn run(options: &Options) -> Result<(Vec<Figures>, Option<Growth>)> {
    ensure!(rustix::process::geteuid().is_root(), "the benchmark mounts and drops caches: it needs root");
    let dir = options.storage.as_path();
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    let place = tempfile::tempdir().context("make a directory")?;
    let kms = Kms::start(place.path())?;
    let means = Means { kms: &kms, sidecar: &options.sidecar, mount_arguments: &options.mount_arguments };
    let archive = archive(options.sources.as_deref(), place.path())?;
    let chosen =
        |name: &str, of: &[String]| of.is_empty() || of.iter().any(|part| name.contains(part.as_str()));
    let contenders = Contender::ALL.into_iter().filter(|one| chosen(one.name(), &options.contenders));
    let mounts = contenders
        .map(|one| Mounted::start(one, &dir.join(one.name()), &means))
        .collect::<Result<Vec<_>>>()?;
    let grounds: Vec<Ground<'_>> = mounts
        .iter()
        .map(|mount| Ground { path: &mount.path, raw: &mount.raw, scale: options.scale, archive: &archive })
        .collect();
    let works = WORKS.iter().filter(|work| chosen(work.name, &options.only));
    let figures: Result<Vec<_>> =
        works.map(|work| alternate(work, &mounts, &grounds, options.rounds)).collect();
    let ours = mounts.iter().zip(&grounds).find(|(mount, _)| mount.contender == Contender::Cofferdam);
    let ours = ours.filter(|_| options.growth);
    let growth = ours.map(|(mount, ground)| growth::measure(mount, ground)).transpose();
    drop(grounds);
    drop(mounts);
    let _ = fs::remove_dir_all(dir);
    Ok((figures?, growth?))
}

fn alternate(
    work: &'static Work,
    mounts: &[Mounted],
    grounds: &[Ground<'_>],
    rounds: usize,
) -> Result<Figures> {
    let mut samples: BTreeMap<Contender, Vec<Sample>> = BTreeMap::new();
    for ground in grounds {
        (work.prepare)(ground).with_context(|| format!("prepare {}", work.name))?;
    }
    for round in 0..rounds {
        for (mount, ground) in mounts.iter().zip(grounds) {
            (work.before)(ground)?;
            let sample = once(work, mount, ground)
                .with_context(|| format!("{} on {}", work.name, mount.contender.name()))?;
            eprintln!(
                "{} {}: {:.0} {} ({} of {rounds})",
                work.name,
                mount.contender.name(),
                sample.rate,
                work.unit,
                round + 1
            );
            samples.entry(mount.contender).or_default().push(sample);
        }
    }
    grounds.iter().try_for_each(|ground| (work.after)(ground))?;
    Ok(Figures { work, samples })
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
