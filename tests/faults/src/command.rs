//! Running programs. Invariant: one that fails is an error that says what it printed.

use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Runs `program` with `arguments`; what it printed.
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output =
        Command::new(program).args(arguments).output().with_context(|| format!("start {program}"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {}", arguments.join(" "), error.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The words of a command with paths in them.
pub fn words<const N: usize>(paths: [&std::path::Path; N]) -> [String; N] {
    paths.map(|path| path.to_string_lossy().into_owned())
}
