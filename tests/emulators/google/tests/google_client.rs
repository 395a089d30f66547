//! Google's own Python client against this service: what shows that it speaks the real protocol and not only ours.
#![allow(clippy::unwrap_used)]

use std::fs;

use emulator_google::{
    ADMIN, AccountKey, Cluster, ENCRYPTER_DECRYPTER, Server, WORKLOAD_IDENTITY_USER, World,
};

const PROVIDER: &str = "projects/4711/locations/global/workloadIdentityPools/clusters/providers/main";
const SUBJECT: &str = "system:serviceaccount:shop:default";
const LOCATION: &str = "projects/example/locations/europe-west3";

fn email(role: &str) -> String {
    format!("{role}@example.iam.gserviceaccount.com")
}

#[tokio::test(flavor = "multi_thread")]
async fn google_s_python_client_passes_the_whole_scenario() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::new("https://cluster.example");
    let keys = ["owner", "user", "nobody"].map(|role| (role, AccountKey::new()));
    let mut world = World::default();
    for (role, key) in &keys {
        world = world.with_account(&email(role), key);
    }
    world.believe(cluster.pool(PROVIDER, "cloudkms"));
    world.grant(LOCATION, ADMIN, &format!("serviceAccount:{}", email("owner")));
    for role in ["owner", "user"] {
        world.grant(LOCATION, ENCRYPTER_DECRYPTER, &format!("serviceAccount:{}", email(role)));
    }
    let pool = PROVIDER.split_once("/providers/").unwrap().0;
    let member = format!("principal://iam.googleapis.com/{pool}/subject/{SUBJECT}");
    world.grant(&format!("serviceAccounts/{}", email("user")), WORKLOAD_IDENTITY_USER, &member);
    let (now, server) = (world.now(), Server::start(world).await);

    let token_uri = format!("http://{}/token", server.at);
    for (role, key) in &keys {
        fs::write(dir.path().join(format!("{role}.json")), key.file(&email(role), &token_uri)).unwrap();
    }
    fs::write(dir.path().join("forged.json"), keys[2].1.file(&email("owner"), &token_uri)).unwrap();
    fs::write(dir.path().join("token"), cluster.token(SUBJECT, "cloudkms", now + 600)).unwrap();
    fs::write(dir.path().join("old-token"), cluster.token(SUBJECT, "cloudkms", now - 600)).unwrap();

    let (at, folder) = (server.at.to_string(), dir.path().to_owned());
    let run = tokio::task::spawn_blocking(move || {
        conformance::scenario("google", env!("CARGO_TARGET_TMPDIR"), 14, |command| {
            command.args(["--address", &at, "--location", LOCATION, "--provider", PROVIDER]);
            command.args(["--account", &email("user")]).arg("--files").arg(folder);
        });
    });
    run.await.unwrap();
}
