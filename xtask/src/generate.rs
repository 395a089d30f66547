//! `cargo xtask generate`: writes every generated file. Invariant: a test in `api` fails when one of them is stale.

use std::process::Command;

use anyhow::Result;

use crate::places::Places;
use crate::process;

/// Where the definitions lie: for `kubectl apply`, and for Helm, which reads nothing outside a chart.
const DEFINITIONS: [&str; 2] = ["crds", "charts/cofferdam/files/crds"];

/// Writes the custom resource definitions.
pub fn run() -> Result<()> {
    let places = Places::from_environment()?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&places.repository).args([
        "run",
        "--locked",
        "--package",
        "cofferdam-api",
        "--example",
        "crds",
        "--",
    ]);
    process::shown(cargo.args(DEFINITIONS.map(|folder| places.repository.join(folder))))
}
