//! The root key is rotated, and every wrapped key follows while the application goes on.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use anyhow::{Context, Result};
use stage::manifests::{binding, managed_profile, pod, protect};
use stage::root_key::{ADMIN_API_KEY, DATA_API_KEY};
use stage::{RootKey, Stage, soon, until, wait};

fn current_version(stage: &Stage) -> Result<String> {
    let profile = stage.get("kmsprofile", "main")?;
    Ok(profile["status"]["currentVersion"].as_str().context("no version yet")?.to_owned())
}

/// Waits until the profile shows another version than `old`; two polls of 5 s ± 20 %, and a little.
fn new_version(stage: &Stage, old: &str) -> String {
    until("the profile shows the new version", Duration::from_secs(15), || {
        let now = current_version(stage)?;
        wait::expect(now != old, &now).map(|()| now)
    })
}

/// Digest of the sealed blocks of every file, by name.
fn blocks(stage: &Stage, volume: &str) -> BTreeMap<String, Vec<u8>> {
    let files = stage.raw_files(volume).into_iter();
    files.map(|file| (file.name.clone(), file.blocks().flatten().copied().collect())).collect()
}

fn everything_names(stage: &Stage, volume: &str, version: &str) -> Result<()> {
    let versions = stage.raw_versions(volume);
    wait::expect(versions.len() == 1 && versions.contains_key(version), format!("{versions:?}"))
}

const FILES: &str = "for i in $(seq 200); do echo content $i > /data/file-$i; done; sync; exec workload journal /data/journal";

#[test]
fn reading_an_old_file_rewraps_it_and_the_sweep_rewraps_the_rest_while_the_application_runs() {
    let stage = Stage::new("rotation");
    let key = RootKey::create();
    protect(&stage, &key);
    let volume = stage.claim("files", 64);
    stage.run("app", &pod("app", "files", FILES));
    soon("the journal runs", || stage.last_event("app", "app", "ok"));
    let old = current_version(&stage).unwrap();
    everything_names(&stage, &volume, &old).unwrap();
    let mut before = blocks(&stage, &volume);
    before.remove("journal");

    key.rotate();
    let new = new_version(&stage, &old);
    assert_eq!(stage.exec("app", "cat /data/file-7"), "content 7\n");
    soon("every header names the new version", || everything_names(&stage, &volume, &new));
    let mut after = blocks(&stage, &volume);
    after.remove("journal");
    assert_eq!(before, after, "a data block changed");

    let events = stage.events_of("app", "app").unwrap();
    assert!(events.iter().all(|event| event["event"] == "begin" || event["event"] == "ok"), "{events:?}");
    assert_eq!(stage.restarts("app").unwrap(), 0);
    soon("the old version may be retired", || {
        let (retirable, why) = retirable(&stage, &old)?;
        wait::expect(retirable && why.contains(r#""files":0"#), why)
    });
}

#[test]
fn a_volume_that_no_pod_mounts_is_rewrapped_by_a_job_that_cannot_unwrap() {
    let stage = Stage::new("detached");
    let key = RootKey::create();
    protect(&stage, &key);
    let volume = stage.claim("files", 64);
    stage.run(
        "app",
        &pod("app", "files", "for i in $(seq 200); do echo content $i > /data/file-$i; done; sleep infinity"),
    );
    stage.exec("app", "until test -e /data/file-200; do sleep 0.1; done; sync");
    stage.delete("app");
    let old = current_version(&stage).unwrap();
    let before = blocks(&stage, &volume);
    assert_eq!(before.len(), 200);

    key.rotate();
    let new = new_version(&stage, &old);
    soon("a Job rewraps every header", || everything_names(&stage, &volume, &new));
    assert_eq!(before, blocks(&stage, &volume), "a data block changed");
    soon("the record says so", || {
        let (status, _, message) = stage.condition("encryptedvolume", "files", "Rewrapped")?;
        wait::expect(status == "True", message)
    });
    // The Job's own credential did it, in few calls, and the KMS refuses it when it asks for more.
    let rewraps = key.audit("kms.secrets.rewrap", "rewrap");
    assert!(!rewraps.is_empty() && rewraps.len() < 20, "{} calls", rewraps.len());
    assert!(key.audit("kms.secrets.unwrap", "rewrap").is_empty());
    assert!(key.rewrap_credential_is_refused_an_unwrap());

    stage.run("again", &pod("again", "files", "sleep infinity"));
    assert_eq!(stage.exec("again", "cat /data/file-1 /data/file-200"), "content 1\ncontent 200\n");
}

#[test]
fn a_file_that_is_read_is_rewrapped_at_once_however_slow_the_sweep_is() {
    let stage = Stage::new("lazy");
    let key = RootKey::create();
    protect(&stage, &key);
    stage.apply(&binding().replace("staggerSeconds: 1", "staggerSeconds: 1, filesPerSecond: 1"));
    let volume = stage.claim("files", 64);
    stage.run("app", &pod("app", "files", FILES));
    soon("the journal runs", || stage.last_event("app", "app", "ok"));
    let old = current_version(&stage).unwrap();

    key.rotate();
    let new = new_version(&stage, &old);
    let read: Vec<String> = (1..=20).map(|number| format!("file-{number}")).collect();
    until("what is read names the new version", Duration::from_secs(20), || {
        stage.exec("app", "cat /data/file-{1..20} > /dev/null");
        let files = stage.raw_files(&volume);
        let version = |file: &stage::raw::RawFile| file.key_version().unwrap_or_default();
        let behind = files.iter().filter(|file| read.contains(&file.name) && version(file) != new).count();
        wait::expect(behind == 0, format!("{behind} of 20 are behind"))?;
        // The sweep alone would have needed minutes for all of them.
        let others = files.iter().filter(|file| version(file) == old).count();
        assert!(others > 100, "the sweep was not slow: {others} files are left");
        Ok(())
    });
}

/// Whether `version` may be retired, with all that the profile says of its versions.
fn retirable(stage: &Stage, version: &str) -> Result<(bool, String)> {
    let profile = stage.get("kmsprofile", "main")?;
    let versions = profile["status"]["versions"].as_array().cloned().unwrap_or_default();
    let of_it = versions.iter().find(|one| one["id"] == version).context("the version")?;
    Ok((of_it["retirable"] == true, of_it.to_string()))
}

/// Owner, mode and names of a backing volume's root.
fn untouched(stage: &Stage, volume: &str) -> (u32, u32, u32, Vec<String>) {
    let root = stage.cluster.volume_path(volume).unwrap();
    let of_root = std::fs::metadata(&root).unwrap();
    let names =
        std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name().display().to_string());
    let mut names: Vec<_> = names.collect();
    names.sort();
    (of_root.uid(), of_root.gid(), of_root.mode(), names)
}

#[test]
fn a_claim_that_no_pod_has_mounted_keeps_no_version_from_being_retired_once_a_job_found_it_empty() {
    let stage = Stage::new("unmounted");
    let key = RootKey::create();
    protect(&stage, &key);
    let (empty, plain) = (stage.claim("files", 64), stage.claim("plain", 64));
    std::fs::write(stage.cluster.volume_path(&plain).unwrap().join("accounts"), "not encrypted").unwrap();
    let before = (untouched(&stage, &empty), untouched(&stage, &plain));
    let old = current_version(&stage).unwrap();
    key.rotate();
    new_version(&stage, &old);

    // Each is left to its first pod for a minute, and then looked into by one Job.
    until("a Job finds nothing", Duration::from_secs(150), || {
        let (status, reason, message) = stage.condition("encryptedvolume", "files", "Rewrapped")?;
        wait::expect(status == "True" && reason == "VolumeEmpty", message)
    });
    until("a Job finds what nobody can count", Duration::from_secs(60), || {
        let (status, reason, message) = stage.condition("encryptedvolume", "plain", "Rewrapped")?;
        wait::expect(status == "Unknown" && reason == "PlaintextFound", message)
    });
    let events = stage.events("plain");
    assert!(events.contains("PlaintextFound"), "{events}");
    soon("the volume with plaintext alone is in the way", || {
        let (retirable, why) = retirable(&stage, &old)?;
        let blocks = |claim: &str| why.contains(&format!("EncryptedVolume {}/{claim}", stage.name));
        wait::expect(!retirable && blocks("plain") && !blocks("files"), &why)
    });
    // Before the acknowledgement, with which a Job's work is over.
    let jobs = stage.kubectl(&["get", "jobs", "--selector", "cofferdam.io/rewrap", "--output", "name"]);
    assert_eq!(jobs.lines().count(), 2, "{jobs}");
    // Nobody has initialised, changed or handed over anything.
    assert_eq!((untouched(&stage, &empty), untouched(&stage, &plain)), before);
    let acknowledged = r#"{"spec": {"acknowledged": true}}"#;
    stage.kubectl(&["patch", "encryptedvolume", "plain", "--type=merge", "--patch", acknowledged]);
    soon("the old version may be retired", || {
        let (retirable, why) = retirable(&stage, &old)?;
        wait::expect(retirable, why)
    });

    // The first pod finds it as if nobody had been there, and from then on its own count holds.
    stage.run("app", &pod("app", "files", "echo first > /data/file; sync; sleep infinity"));
    soon("what the pod wrote is counted", || {
        let record = stage.get("encryptedvolume", "files")?;
        let (status, reason, _) = stage.condition("encryptedvolume", "files", "Rewrapped")?;
        let counted = record["status"]["files"].as_u64().is_some_and(|files| files > 0);
        wait::expect(status == "True" && reason == "Ready" && counted, &record["status"])
    });
}

fn told(stage: &Stage, words: &str) -> Result<()> {
    let events = stage.events("main");
    wait::expect(events.contains(words), &events)
}

#[test]
fn a_managed_key_is_rotated_by_the_operator_with_the_admin_credential() {
    let stage = Stage::new("managed");
    let key = RootKey::made_on(Some("2020-01-01T00:00:00Z"));
    // A Reader as admin is refused, and the person who declared it is told.
    stage.apply(&managed_profile(&key, DATA_API_KEY));
    let (reason, message) = stage.wait_condition("kmsprofile", "main", "RotationManaged", "False");
    assert_eq!(reason, "KeyAccessDenied", "{message}");
    soon("an event says so", || told(&stage, "RotationManaged is False"));
    let old = current_version(&stage).unwrap();

    // The operator tries again in some minutes, or at once where the spec has changed.
    let mended = managed_profile(&key, ADMIN_API_KEY).replace("pollSeconds: 5", "pollSeconds: 6");
    stage.apply(&mended);
    let new = new_version(&stage, &old);
    let (reason, message) = stage.wait_condition("kmsprofile", "main", "RotationManaged", "True");
    assert_eq!(reason, "RotationScheduled", "{message}");
    soon("an event says who did it", || told(&stage, "RotatedByOperator"));
    let status = &stage.get("kmsprofile", "main").unwrap()["status"];
    assert!(status["rotation"]["nextRotation"].is_string(), "{status}");

    // Once is enough, although this KMS lets a key be rotated at any time.
    std::thread::sleep(Duration::from_secs(15));
    assert_eq!(current_version(&stage).unwrap(), new);
    let rotations = key.audit("kms.secrets.rotate", "admin");
    assert_eq!(rotations.len(), 1, "{rotations:?}");
    assert_eq!(stage.get("kmsprofile", "main").unwrap()["status"]["versions"].as_array().unwrap().len(), 2);
}
