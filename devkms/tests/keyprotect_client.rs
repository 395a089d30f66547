//! IBM's own Python client against this server, over https: what shows that the server speaks the real protocol and not only ours.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use devkms::{Config, Grant, Role, Server, TrustedProfile};
use sha2::{Digest, Sha256};
use support::issuer::Issuer;
use support::{INSTANCE, seed};

/// Where downloads and builds are kept between runs; the target folder where unset.
const CACHE_VARIABLE: &str = "COFFERDAM_CACHE";

fn scenario() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/conformance/keyprotect")
}

fn run(command: &mut Command, what: &str) {
    let out = command.output().unwrap_or_else(|e| panic!("{what}: {e}"));
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{what} failed:\n{text}");
}

/// The Python of a virtual environment that holds exactly the pinned packages; made once for each list of them.
fn python() -> PathBuf {
    let requirements = scenario().join("requirements.txt");
    let version = Command::new("python3")
        .arg("--version")
        .output()
        .expect("python3 (Debian: python3 python3-venv)")
        .stdout;
    let digest =
        Sha256::new().chain_update(fs::read(&requirements).unwrap()).chain_update(version).finalize();
    let name = format!("{:016x}", u64::from_be_bytes(digest[..8].try_into().unwrap()));
    let cache =
        std::env::var_os(CACHE_VARIABLE).map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    let home = cache.join("python").join(format!("keyprotect-{name}"));
    fs::create_dir_all(home.parent().unwrap()).unwrap();
    let lock = File::create(home.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let python = home.join("bin/python");
    let complete = home.join("complete");
    if !complete.exists() {
        let _ = fs::remove_dir_all(&home);
        run(
            Command::new("python3").args(["-m", "venv"]).arg(&home),
            "make a virtual environment (Debian: python3-venv)",
        );
        let pip = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--require-hashes",
            "--only-binary=:all:",
            "-r",
        ];
        run(Command::new(&python).args(pip).arg(&requirements), "install the pinned packages");
        fs::write(complete, "").unwrap();
    }
    python
}

#[test]
fn ibm_s_python_client_passes_the_whole_scenario() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Issuer::new("k1");
    let profile = TrustedProfile {
        id: "Profile-44444444-4444-4444-8444-444444444444".into(),
        name: "pods".into(),
        audiences: vec!["iam".into()],
        jwks: Some(cluster.jwks.clone()),
        ..TrustedProfile::default()
    };
    let job = Grant::actions(&["kms.secrets.rewrap", "kms.secrets.readmetadata"]);
    let seed =
        seed().api_key("any-key-job", "any-key-job", job).trusted_profile(profile, Grant::role(Role::Reader));
    let server = Server::start(Config::ephemeral_tls(seed)).unwrap();
    let ca = dir.path().join("ca.crt");
    fs::write(&ca, server.ca_pem().unwrap()).unwrap();
    let token = dir.path().join("token");
    fs::write(&token, cluster.sign("k1", "iam", "system:serviceaccount:app:default", 600)).unwrap();

    let out = Command::new(python())
        .arg(scenario().join("scenario.py"))
        .args(["--url", &server.https_url(), "--control", &server.control_url(), "--instance", INSTANCE])
        .arg("--service-account-token")
        .arg(&token)
        .env("REQUESTS_CA_BUNDLE", &ca)
        .envs([
            ("API_KEY_READER", "reader"),
            ("API_KEY_WRITER", "writer"),
            ("API_KEY_MANAGER", "manager"),
            ("API_KEY_SECOND_MANAGER", "other-manager"),
            ("API_KEY_JOB", "any-key-job"),
            ("API_KEY_PURGER", "purger"),
        ])
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    println!("{text}");
    assert!(out.status.success(), "the scenario failed:\n{text}");
    assert!(text.contains("18 steps hold"), "every step ran");
}
