//! `cargo xtask test`: all checks as named steps with their times. Invariant: it ends well only if every step did, and its
//! last line counts every test that ran.

mod diagnosis;
mod fuzz;
mod steps;
mod tally;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;

use self::tally::Tally;
use crate::cluster::Cluster;

/// Which steps run, and what is left behind.
#[derive(Args, Debug, Default)]
pub struct Options {
    /// Only the steps whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Leave the cluster running.
    #[arg(long)]
    keep: bool,
}

/// One step: it adds the tests that it ran to the tally.
struct Step {
    name: &'static str,
    /// Whether the steps after it make no sense without it.
    needed: bool,
    run: fn(&Cluster, &mut Tally) -> Result<()>,
}

/// How a step ended.
enum Outcome {
    Passed(Duration),
    Failed(Duration),
    Skipped,
}

/// Runs the steps, prints the table and the counts.
pub fn run(options: &Options) -> Result<()> {
    let cluster = Cluster::from_environment()?;
    let mut tally = Tally::default();
    let mut outcomes = Vec::new();
    let mut blocked = false;
    let mut started = false;
    for step in steps::STEPS {
        let chosen = options.only.as_ref().is_none_or(|only| step.name.contains(only));
        let outcome =
            if chosen && !blocked { carry_out(step, &cluster, &mut tally) } else { Outcome::Skipped };
        started |= step.name == steps::START && !matches!(outcome, Outcome::Skipped);
        blocked |= step.needed && matches!(outcome, Outcome::Failed(_));
        outcomes.push((step.name, outcome));
    }
    if started && tally.failed > 0 {
        diagnosis::print(&cluster);
    }
    if started
        && !options.keep
        && let Err(error) = cluster.down()
    {
        eprintln!("{error:#}");
        tally.failed += 1;
    }
    report(&outcomes, &tally)
}

fn carry_out(step: &Step, cluster: &Cluster, tally: &mut Tally) -> Outcome {
    eprintln!("\n== {}", step.name);
    let started = Instant::now();
    let failed_before = tally.failed;
    let result = (step.run)(cluster, tally);
    let took = started.elapsed();
    let Err(error) = result else {
        tally.passed += 1;
        return Outcome::Passed(took);
    };
    eprintln!("{}: {error:#}", step.name);
    if tally.failed == failed_before {
        tally.failed += 1; // it failed outside any test
    }
    Outcome::Failed(took)
}

fn report(outcomes: &[(&str, Outcome)], tally: &Tally) -> Result<()> {
    if !tally.panics.is_empty() {
        println!("\n== what failed\n{}", tally.panics.join("\n"));
    }
    println!("\n{:44} {:>8}  outcome", "step", "seconds");
    let mut skipped = 0;
    for (name, outcome) in outcomes {
        let (took, word) = match outcome {
            Outcome::Passed(took) => (format!("{:.1}", took.as_secs_f32()), "passed"),
            Outcome::Failed(took) => (format!("{:.1}", took.as_secs_f32()), "FAILED"),
            Outcome::Skipped => {
                skipped += 1;
                ("-".into(), "skipped")
            }
        };
        println!("{name:44} {took:>8}  {word}");
    }
    println!("\n{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped + skipped);
    if tally.failed > 0 {
        bail!("not everything passed");
    }
    Ok(())
}
