//! AWS's own Python client against the emulator: what shows that the emulator speaks the real protocol and not only ours.

use providers::aws::{KEY, OTHER, access_key, keys_file, role_arn, token, trusted_token, user_secret};
use providers::{Aws, Bench};

#[tokio::test(flavor = "multi_thread")]
async fn awss_python_client_passes_the_whole_scenario() {
    let b = Aws::start(false).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("credentials");
    std::fs::write(&file, keys_file("data")).unwrap();
    let stranger = token("sts.amazonaws.com", "system:serviceaccount:other:default");
    let secrets = ["owner", "data", "rewrap", "nobody"].map(|role| {
        let name = role.to_uppercase();
        [(format!("ID_{name}"), access_key(role)), (format!("SECRET_{name}"), user_secret(role))]
    });
    let (url, none) = (b.server.url(), dir.path().join("none"));
    let run = tokio::task::spawn_blocking(move || {
        conformance::scenario("aws", env!("CARGO_TARGET_TMPDIR"), 15, |command| {
            command
                .args(["--url", &url, "--key", KEY, "--other", OTHER])
                .env_clear()
                .env("AWS_SHARED_CREDENTIALS_FILE", &file)
                .env("AWS_CONFIG_FILE", none)
                .env("AWS_EC2_METADATA_DISABLED", "true")
                .envs([("ROLE", role_arn("data")), ("TOKEN", trusted_token()), ("STRANGER", stranger)])
                .envs(secrets.concat());
        });
    });
    run.await.unwrap();
}
