//! The program itself: flags, seed file, https, and what is left after a restart and after SIGKILL.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Certificate, Client};
use serde_json::{Value, json};
use support::{Caller, KEY};

const SEED: &str = r"
instances:
- id: 0f0f0f0f-1111-4111-8111-111111111111
  keyRings: [blue]
  keys:
  - {id: 22222222-2222-4222-8222-222222222222, name: root, aliases: [main], keyRing: blue}
apiKeys:
- {name: manager, key: manager, grants: [{role: Manager}]}
- {name: reader, key: reader, grants: [{role: Reader, keys: [22222222-2222-4222-8222-222222222222]}]}
";

/// A running `devkms`, killed when dropped.
struct Program {
    child: Child,
    addresses: Value,
}

impl Program {
    fn start(dir: &Path, flags: &[&str]) -> Self {
        std::fs::write(dir.join("seed.yaml"), SEED).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_devkms"))
            .args(["--http", "127.0.0.1:0", "--control", "127.0.0.1:0", "--print-addresses", "--seed"])
            .arg(dir.join("seed.yaml"))
            .arg("--store")
            .arg(dir.join("store"))
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let addresses = serde_json::from_str(&line).expect("devkms prints its addresses");
        Self { child, addresses }
    }

    fn url(&self, what: &str) -> String {
        self.addresses[what].as_str().unwrap().to_owned()
    }

    async fn caller(&self, api_key: &str) -> Caller {
        Caller::at(Client::new(), &self.url("http"), api_key).await
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Already gone where a test killed it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn keys_tokens_and_the_clock_outlive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let first = Program::start(dir.path(), &[]);
    let manager = first.caller("manager").await;
    let wrapped = manager.wrap(&["a"]).await;
    manager.action("rotate", &json!({})).await.ok();
    manager.action("disable", &json!({})).await.ok();
    let made = json!({"metadata": {"collectionType": "x", "collectionTotal": 1}, "resources": [{"name": "second", "extractable": true}]});
    let made = manager.post("keys", &made).await.ok()["resources"][0].clone();
    let advance = Client::new()
        .post(format!("{}/_emu/clock/advance", first.url("control")))
        .json(&json!({"seconds": 600}));
    assert_eq!(advance.send().await.unwrap().status(), 200);
    let before = manager.metadata().await;
    first.kill();

    let second = Program::start(dir.path(), &[]);
    let manager = Caller { base: second.url("http"), ..manager };
    assert_eq!(manager.metadata().await, before, "same token, same key, same state");
    assert_eq!(manager.action("enable", &json!({})).await.status, 204, "the clock stayed 600 s ahead");
    let opened =
        manager.action("unwrap", &json!({"ciphertext": wrapped["ciphertext"], "aad": ["a"]})).await.ok();
    assert_eq!(opened["plaintext"], wrapped["plaintext"]);
    assert!(opened["rewrappedKeyVersion"]["id"].is_string());
    let path = format!("keys/{}", made["id"].as_str().unwrap());
    assert_eq!(manager.get(&path).await.ok()["resources"][0]["payload"], made["payload"]);
    assert_eq!(manager.get("keys/main/metadata").await.ok()["resources"][0]["keyRingID"], "blue");
}

#[tokio::test]
async fn what_was_acknowledged_before_sigkill_is_there_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..6 {
        let program = Program::start(dir.path(), &["--rotation-interval", "0"]);
        let writer = program.caller("manager").await;
        let before = versions(&writer).await;
        let busy = writer.clone();
        let rotating = tokio::spawn(async move {
            let mut acknowledged = 0;
            loop {
                let path = format!("keys/{KEY}/actions/rotate");
                match busy.request(reqwest::Method::POST, &path).send().await {
                    Ok(response) if response.status() == 204 => acknowledged += 1,
                    _ => return acknowledged,
                }
            }
        });
        tokio::time::sleep(Duration::from_millis(60 + 23 * round)).await;
        program.kill();
        let acknowledged = rotating.await.unwrap();
        assert!(acknowledged > 0, "the test kills while it rotates");
        let again = Program::start(dir.path(), &[]);
        let after = versions(&again.caller("manager").await).await;
        let kept = after.len() - before.len();
        assert!(
            kept == acknowledged || kept == acknowledged + 1,
            "{kept} kept of {acknowledged} acknowledged"
        );
        assert!(after.ends_with(&before), "no older version is lost");
    }
}

async fn versions(caller: &Caller) -> Vec<Value> {
    let list = caller.get(&format!("keys/{KEY}/versions?limit=5000")).await.ok();
    list["resources"].as_array().unwrap().clone()
}

#[tokio::test]
async fn https_is_trusted_through_the_own_ca_and_not_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let tls = dir.path().join("tls");
    let flags = ["--https", "127.0.0.1:0", "--tls-name", "kms.example", "--tls-dir", tls.to_str().unwrap()];
    let program = Program::start(dir.path(), &flags);
    let url = program.url("https");
    let ca = Certificate::from_pem(&std::fs::read(tls.join("ca.crt")).unwrap()).unwrap();
    let client = Client::builder().tls_certs_only([ca.clone()]).build().unwrap();
    let caller = Caller::at(client, &url, "reader").await;
    assert_eq!(caller.metadata().await["id"], KEY);

    let named = url.replace("127.0.0.1", "kms.example");
    let port = named.rsplit(':').next().unwrap().parse().unwrap();
    let resolving =
        Client::builder().tls_certs_only([ca.clone()]).resolve("kms.example", ([127, 0, 0, 1], port).into());
    let caller = Caller::at(resolving.build().unwrap(), &named, "reader").await;
    assert_eq!(caller.metadata().await["id"], KEY);

    let other = url.replace("127.0.0.1", "other.example");
    let wrong_name =
        Client::builder().tls_certs_only([ca]).resolve("other.example", ([127, 0, 0, 1], port).into());
    assert!(wrong_name.build().unwrap().get(&other).send().await.unwrap_err().is_connect());
    assert!(Client::new().get(&url).send().await.unwrap_err().is_connect(), "an unknown CA");
}

#[tokio::test]
async fn a_second_process_cannot_use_the_same_store() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Program::start(dir.path(), &[]);
    let mut second = Command::new(env!("CARGO_BIN_EXE_devkms"))
        .args(["--http", "127.0.0.1:0", "--control", "127.0.0.1:0", "--store"])
        .arg(dir.path().join("store"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while second.try_wait().unwrap().is_none() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Where it did start after all, this ends it and the next line fails.
    let _ = second.kill();
    let second = second.wait_with_output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another process uses it"));
}

#[test]
fn a_seed_that_is_wrong_stops_the_start_and_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("seed.yaml");
    for (text, said) in [
        ("apiKeys: [{name: x, key: y, grants: [{role: Reeder}]}]", "Reeder"),
        ("apiKeys: [{name: x, grants: []}]", "API key x"),
        ("instances: [{id: ../escape}]", "../escape"),
        ("instances: [{id: i, keys: [{id: k, name: k, keyRing: nowhere}]}]", "nowhere"),
    ] {
        std::fs::write(&path, text).unwrap();
        let run = Command::new(env!("CARGO_BIN_EXE_devkms"))
            .args(["--http", "127.0.0.1:0", "--control", "127.0.0.1:0", "--seed"])
            .arg(&path)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&run.stderr);
        assert!(!run.status.success() && stderr.contains(said), "{text}: {stderr}");
    }
}

#[test]
fn the_help_names_every_flag_and_control_call() {
    let run = Command::new(env!("CARGO_BIN_EXE_devkms")).arg("--help").output().unwrap();
    let help = String::from_utf8(run.stdout).unwrap();
    for word in [
        "--http",
        "--https",
        "--control",
        "--store",
        "--seed",
        "--tls-cert",
        "--tls-key",
        "--tls-dir",
        "--tls-name",
        "--rotation-interval",
        "--enable-delay",
        "--token-lifetime",
        "--print-addresses",
        "/_emu/clock/advance",
        "/_emu/rules",
        "/_emu/faults",
        "/_emu/roles/revoke",
        "/_emu/tokens/revoke",
        "/_emu/audit",
        "/_emu/counters",
        "/_emu/reset",
    ] {
        assert!(help.contains(word), "{word}");
    }
}
