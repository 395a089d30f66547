//! What the security team and the application team see after they have declared what they want.

use stage::manifests::{binding, profile};
use stage::{RootKey, Stage, soon, wait};

#[test]
fn a_profile_becomes_ready_and_shows_the_keys_state_and_version() {
    let stage = Stage::new("profile");
    let key = RootKey::create();
    stage.apply(&profile(&key));
    stage.wait_condition("kmsprofile", "main", "Ready", "True");
    let row = soon("the profile's row", || {
        let row = stage.try_kubectl(&["get", "kmsprofile", "main", "--no-headers"])?;
        wait::expect(row.contains("Enabled"), &row).map(|()| row)
    });
    let version = stage.get("kmsprofile", "main").unwrap()["status"]["currentVersion"].clone();
    assert!(row.contains(version.as_str().unwrap()), "{row}");
    // The operator looked at the key with the Reader credential, and only looked.
    assert!(!key.audit("kms.secrets.readmetadata", "data").is_empty());
    assert!(key.audit("kms.secrets.unwrap", "data").is_empty());
}

#[test]
fn a_binding_becomes_ready() {
    let stage = Stage::new("binding");
    let key = RootKey::create();
    stage.apply(&profile(&key));
    stage.apply(&binding());
    stage.wait_condition("storagebinding", "app", "Ready", "True");
    stage.wait_condition("storagebinding", "app", "Suspended", "False");
}
