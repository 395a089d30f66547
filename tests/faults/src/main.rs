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
use faults::power::{self, Trial};
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
        Served::Volume => Kind::Volume(key.profile()),
        Served::Gocryptfs => Kind::Gocryptfs,
        Served::Storage => Kind::Storage,
    };
    let trial = Trial {
        format: args.storage,
        kind,
        rounds: args.rounds,
        seed: args.seed.unwrap_or_else(faults::dice::seed),
    };
    println!("{trial:?}");
    let outcome = power::run(&program, &trial)?;
    for problem in &outcome.findings.broken {
        println!("{problem}");
    }
    println!(
        "rounds {}, with broken promises {}, with changes in flight that are gone {}; promises kept {}, broken {}",
        outcome.rounds,
        outcome.bad_rounds,
        outcome.rounds_with_undone,
        outcome.findings.kept,
        outcome.findings.broken.len()
    );
    let good = outcome.bad_rounds == 0;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
