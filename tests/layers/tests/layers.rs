//! Who may depend on whom.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use cofferdam_layers::Metadata;

/// The one platform that the programs are built for.
const TARGET: &str = "x86_64-unknown-linux-gnu";

fn cargo(args: &[&str]) -> Vec<u8> {
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(program).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn metadata() -> Metadata {
    let args = ["metadata", "--format-version", "1", "--locked", "--filter-platform", TARGET];
    serde_json::from_slice(&cargo(&args)).unwrap()
}

#[test]
fn no_part_sees_what_the_architecture_keeps_from_it() {
    let breaches = metadata().breaches();
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn the_check_sees_through_dependencies_of_dependencies() {
    let metadata = metadata();
    assert!(metadata.reachable("cofferdam-operator").contains("kube-client"));
    assert!(!metadata.reachable("cofferdam-contract").contains("kube-client"));
}

/// `cargo tree`, because the metadata also names packages that only a feature nobody enables would bring in.
#[test]
fn every_program_has_one_tls_provider() {
    for program in
        ["cofferdam-operator", "cofferdam-sidecar", "cofferdam-node", "cofferdam-cli", "cofferdam-devkms"]
    {
        let args = [
            "tree",
            "--locked",
            "--package",
            program,
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--target",
            TARGET,
        ];
        let tree = String::from_utf8(cargo(&args)).unwrap();
        let providers =
            ["ring v", "openssl-sys v", "aws-lc-rs v"].map(|name| tree.lines().any(|l| l.starts_with(name)));
        assert_eq!(providers, [false, false, true], "{program}");
    }
}
