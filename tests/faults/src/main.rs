//! The server processes of the fault tests, and the trials that take long, by hand. Invariant: a trial that found a broken
//! promise of ours ends badly.

mod args;
#[path = "../../../sidecar/examples/memory_mount.rs"]
#[allow(clippy::pedantic, reason = "an example of another crate")]
mod memory_mount;
mod volume;

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::Parser;

use args::{Arguments, Command, PowerArgs, Served};
use faults::power::{self, Outcome, Trial};
use faults::{Kind, Place, RootKey};

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Memory { arguments } => {
            memory_mount::run(&arguments).map_err(|error| anyhow!("serve: {error}"))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Volume { backing, target, profile } => volume::serve(&backing, &target, profile),
        Command::Sidecar { arguments } => {
            let program = std::iter::once("cofferdam-sidecar".to_owned());
            let cli = sidecar::cli::Cli::try_parse_from(program.chain(arguments))?;
            Ok(ExitCode::from(u8::try_from(sidecar::cli::run(cli)).unwrap_or(1)))
        }
        Command::Power(args) => try_power(&args),
        Command::WriteVectors { folder } => {
            faults::vectors::make::all(&folder)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn try_power(args: &PowerArgs) -> Result<ExitCode> {
    let program = std::env::current_exe()?;
    let place = Place::new()?;
    let key = RootKey::new(&place.path(""))?;
    let kind = match args.served {
        Served::Memory => Kind::Memory,
        Served::Strict => Kind::Strict,
        Served::Volume => Kind::Volume(key.profile()),
        Served::Gocryptfs => Kind::Gocryptfs,
        Served::Storage => Kind::Storage,
    };
    let seed = args.seed.unwrap_or_else(faults::dice::seed);
    let mut trial = Trial { format: args.storage, kind, rounds: args.rounds, seed };
    println!("{trial:?}");
    let mut trials = 1;
    if args.fresh {
        (trials, trial.rounds) = (args.rounds, 1);
    }
    let mut bad = 0;
    for _ in 0..trials {
        let outcome = power::run(&program, &trial)?;
        bad += outcome.bad_rounds;
        report(&outcome);
        trial.seed += 1;
    }
    println!("rounds with broken promises: {bad} of {}", args.rounds);
    Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report(outcome: &Outcome) {
    for problem in &outcome.findings.broken {
        println!("{problem}");
    }
    println!(
        "rounds {}, with changes in flight that are gone {}; promises kept {}, broken {}",
        outcome.rounds,
        outcome.rounds_with_undone,
        outcome.findings.kept,
        outcome.findings.broken.len()
    );
}
