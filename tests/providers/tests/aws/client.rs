//! AWS's own Python client against the emulator: what shows that the emulator speaks the real protocol and not only ours.

use std::process::Command;

use providers::aws::{KEY, access_key, keys_file, role_arn, token, trusted_token, user_secret};
use providers::{Aws, Bench};
use xtask::places::Places;

#[tokio::test(flavor = "multi_thread")]
async fn awss_python_client_passes_the_whole_scenario() {
    let places = Places::from_environment().unwrap();
    let python = xtask::python::ensure(&places, "aws").unwrap();
    let b = Aws::start(false).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("credentials");
    std::fs::write(&file, keys_file("data")).unwrap();
    let stranger = token("sts.amazonaws.com", "system:serviceaccount:other:default");
    let mut run = Command::new(python);
    run.arg(places.repository.join("tests/conformance/aws/scenario.py"))
        .args(["--url", &b.server.url(), "--key", KEY])
        .env_clear()
        .env("AWS_SHARED_CREDENTIALS_FILE", &file)
        .env("AWS_CONFIG_FILE", dir.path().join("none"))
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .envs([("ROLE", role_arn("data")), ("TOKEN", trusted_token()), ("STRANGER", stranger)]);
    for role in ["owner", "data", "rewrap", "nobody"] {
        let name = role.to_uppercase();
        run.env(format!("ID_{name}"), access_key(role)).env(format!("SECRET_{name}"), user_secret(role));
    }
    let out = tokio::task::spawn_blocking(move || run.output()).await.unwrap().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    println!("{text}");
    assert!(out.status.success(), "the scenario failed:\n{text}");
    assert!(text.contains("15 steps hold"), "every step ran");
}
