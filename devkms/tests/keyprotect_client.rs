//! IBM's own Python client against this server, over https: what shows that the server speaks the real protocol and not only ours.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::fs;

use devkms::{Config, Grant, Role, Server, TrustedProfile};
use support::issuer::Issuer;
use support::{INSTANCE, seed};

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

    conformance::scenario("keyprotect", env!("CARGO_TARGET_TMPDIR"), 18, |command| {
        command
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
            ]);
    });
}
