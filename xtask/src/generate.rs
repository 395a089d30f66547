//! `cargo xtask generate`: writes every generated file. Invariant: a test fails when one of them is stale: of the definitions in
//! `api`, of the page in `tests/providers`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::places::Places;
use crate::process;

/// Where the definitions lie: for `kubectl apply`, and for Helm, which reads nothing outside a chart.
const DEFINITIONS: [&str; 2] = ["crds", "charts/cofferdam/files/crds"];

/// The page whose table the suite of the providers generates.
const KMS_PAGE: &str = "docs/kms.md";

/// Writes the custom resource definitions, and the table of what each KMS provider has shown.
pub fn run() -> Result<()> {
    let places = Places::from_environment()?;
    build(&places)?;
    example(&places, "crds", &DEFINITIONS.map(|folder| places.repository.join(folder)))?;
    example(&places, "kms_page", &[places.repository.join(KMS_PAGE)])
}

/// Builds both with the features of the whole workspace: a package alone has others, and its dependencies would be built anew.
fn build(places: &Places) -> Result<()> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&places.repository);
    process::shown(cargo.args([
        "build",
        "--locked",
        "--workspace",
        "--example",
        "crds",
        "--example",
        "kms_page",
    ]))
}

fn example(places: &Places, name: &str, paths: &[PathBuf]) -> Result<()> {
    let mut program = Command::new(places.repository.join("target/debug/examples").join(name));
    process::shown(program.current_dir(&places.repository).args(paths))
}
