//! A profile that another namespace uses, with no Secret anywhere: the KMS knows pods and Jobs by their service accounts.

use anyhow::Result;
use kms::ErrorKind;
use stage::manifests::{binding_to, pod_as, shared_profile};
use stage::trusted::{AUDIENCE, DATA_PROFILE, REWRAP_PROFILE};
use stage::{RootKey, Stage, soon, wait};

const WORDS: &str = "plain words of another namespace";

/// The security team's namespace with the profile, the application's with the binding, both Ready.
fn shared() -> (Stage, Stage, RootKey) {
    let security = Stage::new("security");
    let stage = Stage::new("shared");
    let key = RootKey::trusting(&stage);
    security.apply(&shared_profile(&key, &stage.name));
    security.wait_condition("kmsprofile", "main", "Ready", "True");
    for account in ["app", "rewrap", "stranger"] {
        stage.kubectl(&["create", "serviceaccount", account]);
    }
    stage.apply(&binding_to(&security.name, "rewrap"));
    stage.wait_condition("storagebinding", "app", "Ready", "True");
    (security, stage, key)
}

/// A claim with 50 files that a pod wrote as the service account `app`; the pod still runs.
fn written(stage: &Stage) -> String {
    let volume = stage.claim("files", 48);
    let script = format!("for i in $(seq 50); do echo {WORDS} $i > /data/file-$i; done; sleep infinity");
    stage.run("app", &pod_as("app", "app", "files", &script));
    stage.exec("app", "until test -e /data/file-50; do sleep 0.1; done; sync");
    volume
}

fn token(stage: &Stage, account: &str, audience: &str) -> String {
    stage.kubectl(&["create", "token", account, "--audience", audience]).trim().to_owned()
}

fn everything_names(stage: &Stage, volume: &str, version: &str) -> Result<()> {
    let versions = stage.raw_versions(volume);
    wait::expect(versions.len() == 1 && versions.contains_key(version), format!("{versions:?}"))
}

#[test]
fn a_pod_and_a_job_of_another_namespace_use_a_profile_by_their_service_accounts_with_no_secret_anywhere() {
    let (security, stage, key) = shared();
    let volume = written(&stage);
    assert_eq!(stage.exec("app", "cat /data/file-7"), format!("{WORDS} 7\n"));
    assert_eq!(stage.raw_files(&volume).len(), 50);
    let image = stage.raw_image(&volume);
    assert!(!image.windows(WORDS.len()).any(|run| run == WORDS.as_bytes()), "plaintext on the volume");
    stage.delete("app");

    let version =
        || security.get("kmsprofile", "main").map(|profile| profile["status"]["currentVersion"].clone());
    let old = version().unwrap();
    key.rotate();
    let new = soon("the profile shows the new version", || {
        let now = version()?;
        wait::expect(now != old, &now).map(|()| now.as_str().unwrap_or_default().to_owned())
    });
    soon("a Job rewraps every header", || everything_names(&stage, &volume, &new));
    soon("the record says so, and with which credential", || {
        let (rewrapped, _, message) = stage.condition("encryptedvolume", "files", "Rewrapped")?;
        let (with_data, _, credential) = stage.condition("encryptedvolume", "files", "DataCredentialUsed")?;
        wait::expect(rewrapped == "True" && with_data == "False", format!("{message}; {credential}"))
    });
    assert!(!key.audit("kms.secrets.rewrap", "rewrap").is_empty());
    assert!(key.audit("kms.secrets.rewrap", "data").is_empty());

    stage.run("again", &pod_as("app", "again", "files", "sleep infinity"));
    assert_eq!(stage.exec("again", "cat /data/file-50"), format!("{WORDS} 50\n"));
    for namespace in [&security, &stage] {
        assert_eq!(namespace.kubectl(&["get", "secrets", "--output", "name"]), "");
    }
}

#[test]
fn the_kms_tells_the_application_from_the_jobs_and_both_from_a_stranger_of_their_namespace() {
    let (_security, stage, key) = shared();
    let unwrap = |trusted_profile: &str, account: &str, audience: &str| {
        key.unwrap_with_token(trusted_profile, &token(&stage, account, audience)).map_err(|error| error.kind)
    };
    assert_eq!(unwrap(DATA_PROFILE, "app", AUDIENCE), Ok(()));
    let refused = unwrap(REWRAP_PROFILE, "rewrap", AUDIENCE);
    assert!(matches!(refused, Err(ErrorKind::Denied { .. })), "{refused:?}");
    for (trusted_profile, account, audience) in [
        (DATA_PROFILE, "rewrap", AUDIENCE),
        (REWRAP_PROFILE, "app", AUDIENCE),
        (DATA_PROFILE, "stranger", AUDIENCE),
        (DATA_PROFILE, "app", "cofferdam"),
    ] {
        let refused = unwrap(trusted_profile, account, audience);
        assert_eq!(refused, Err(ErrorKind::CredentialRejected), "{trusted_profile} {account} {audience}");
    }
}

#[test]
fn a_stranger_of_the_namespace_gets_no_data_and_pod_and_record_say_why() {
    let (security, stage, key) = shared();
    let volume = written(&stage);
    stage.delete("app");
    let old = stage.raw_versions(&volume);
    let unwraps = key.audit("kms.secrets.unwrap", "data").len();
    stage.apply(&pod_as("stranger", "stranger", "files", "cat /data/file-7; sleep infinity"));
    soon("the pod says why it waits", || {
        let (status, reason, message) = stage.condition("pod", "stranger", "cofferdam.io/Served")?;
        let says = reason == "CredentialRejected" && message.contains("credential rejected");
        wait::expect(status == "False" && says, format!("{status} {reason}: {message}"))
    });
    let state = &stage.get("pod", "stranger").unwrap()["status"]["containerStatuses"][0]["state"].clone();
    assert_eq!(state["waiting"]["reason"], "PodInitializing", "the application has not started: {state}");
    assert_eq!(key.audit("kms.secrets.unwrap", "data").len(), unwraps, "nothing was unwrapped for it");
    stage.delete("stranger");
    stage.run("again", &pod_as("app", "again", "files", "sleep infinity"));
    assert_eq!(stage.exec("again", "cat /data/file-7"), format!("{WORDS} 7\n"));
    stage.delete("again");

    stage.apply(&binding_to(&security.name, "stranger"));
    key.rotate();
    soon("the record says why a stranger's Job waits", || {
        let status = stage.get("encryptedvolume", "files")?["status"].clone();
        let message = status["message"].as_str().unwrap_or_default();
        wait::expect(status["phase"] == "Waiting" && message.contains("credential rejected"), &status)
    });
    assert_eq!(stage.raw_versions(&volume), old);
    stage.apply(&binding_to(&security.name, "rewrap"));
    stage.kubectl(&["delete", "jobs", "--all"]);
    soon("a Job with the right account follows", || {
        let now = stage.raw_versions(&volume);
        wait::expect(now.len() == 1 && now != old, format!("{now:?}"))
    });
}
