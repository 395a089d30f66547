//! Bad input gets a clear error where the person looks, and nothing is lost.

use devkms::{Fault, FaultKind as Kind};
use stage::manifests::{binding, pod, profile, protect};
use stage::root_key::DATA_API_KEY;
use stage::{RootKey, Stage, soon, wait};
use xtask::cluster::VolumeOptions;

/// A profile with something changed; the reason and message of its Ready=False.
fn broken_profile(name: &str, key: &RootKey, change: impl Fn(&Stage, String) -> String) -> (String, String) {
    let stage = Stage::new(name);
    stage.apply(&change(&stage, profile(key)));
    stage.wait_condition("kmsprofile", "main", "Ready", "False")
}

#[test]
fn two_providers_in_one_profile_are_refused_at_once() {
    let stage = Stage::new("two-providers");
    let key = RootKey::create();
    let two = "transit: {endpoint: \"https://vault.example\", key: k}\n  caBundle:";
    let refusal = stage.refusal(&profile(&key).replace("caBundle:", two));
    assert!(refusal.contains("exactly one provider"), "{refusal}");
}

#[test]
fn a_trusted_profile_never_gets_a_token_that_somebody_in_the_cluster_accepts() {
    let stage = Stage::new("audience");
    let key = RootKey::create();
    let with = |credential: &str| profile(&key).replace("{apiKeySecret: {name: kms-rewrap}}", credential);
    for audience in ["cofferdam", "''", "https://kubernetes.default.svc"] {
        let refusal =
            stage.refusal(&with(&format!("{{trustedProfile: {{id: Profile-1, audience: {audience}}}}}")));
        assert!(refusal.contains("audience of the KMS's identity service"), "{refusal}");
    }
    // Nor does an endpoint that nobody vouches for, although the operator itself would not use this credential.
    stage.apply(&with("{trustedProfile: {id: Profile-1}}"));
    let (reason, message) = stage.wait_condition("kmsprofile", "main", "Ready", "False");
    assert_eq!(reason, "InvalidSpec", "{message}");
    assert!(message.contains("operator.identityTokenEndpoints"), "{message}");
}

#[test]
fn a_service_account_of_jobs_that_does_not_exist_is_said_in_the_binding() {
    let stage = Stage::new("account");
    let key = RootKey::create();
    stage.apply(&profile(&key));
    let with = |account: &str| {
        let named = format!("staggerSeconds: 1, serviceAccountName: {account}");
        binding().replace("staggerSeconds: 1", &named)
    };
    let refusal = stage.refusal(&with("No_Name"));
    assert!(refusal.contains("name of a service account"), "{refusal}");
    stage.apply(&with("absent"));
    let (reason, message) = stage.wait_condition("storagebinding", "app", "Ready", "False");
    assert_eq!(reason, "ServiceAccountMissing", "{message}");
    stage.kubectl(&["create", "serviceaccount", "absent"]);
    stage.wait_condition("storagebinding", "app", "Ready", "True");
}

#[test]
fn an_unknown_root_key_is_said_in_the_profile() {
    let key = RootKey::create();
    let other = "00000000-0000-4000-8000-000000000000";
    let (reason, message) = broken_profile("unknown-key", &key, |_, yaml| yaml.replace(&key.id, other));
    assert_eq!(reason, "KeyNotFound", "{message}");
    assert!(message.contains(other), "{message}");
}

#[test]
fn a_wrong_api_key_is_said_in_the_profile_and_never_printed() {
    let key = RootKey::create();
    let wrong = "no-such-api-key";
    let (reason, message) =
        broken_profile("wrong-api-key", &key, |_, yaml| yaml.replace(DATA_API_KEY, wrong));
    assert_eq!(reason, "CredentialRejected", "{message}");
    assert!(!message.contains(wrong), "{message}");
}

#[test]
fn a_missing_secret_and_a_half_filled_one_are_said_in_the_profile() {
    let key = RootKey::create();
    let (reason, message) =
        broken_profile("no-secret", &key, |_, yaml| yaml.replace("{name: kms-data}}", "{name: absent}}"));
    assert_eq!(reason, "SecretMissing", "{message}");
    assert!(message.contains("absent"), "{message}");
    let (reason, message) = broken_profile("half-secret", &key, |_, yaml| {
        yaml.replace("apiKey: story-data", "other: story-data")
    });
    assert_eq!(reason, "SecretIncomplete", "{message}");
    assert!(message.contains("apiKey"), "{message}");
}

#[test]
fn a_kms_that_hangs_or_answers_garbage_is_unreachable_not_refusing() {
    for (name, kind, expected) in
        [("hang", Kind::Hang, "KmsTimeout"), ("garbage", Kind::BadJson, "KmsAnswerUnusable")]
    {
        let key = RootKey::create();
        key.kms.add_fault(Fault::new(&["metadata", "token"], kind));
        let (reason, message) = broken_profile(name, &key, |_, yaml| yaml);
        assert_eq!(reason, expected, "{message}");
        key.kms.clear_faults();
    }
}

#[test]
fn a_kms_that_refuses_is_said_in_the_profile() {
    let key = RootKey::create();
    assert!(key.kms.revoke_role("data"));
    let (reason, message) = broken_profile("denied", &key, |_, yaml| yaml);
    assert_eq!(reason, "KeyAccessDenied", "{message}");
}

#[test]
fn a_kms_with_the_wrong_certificate_is_said_in_the_profile() {
    let key = RootKey::create();
    let other = RootKey::create();
    let escaped = |key: &RootKey| key.authority().replace('\n', "\\n");
    let (reason, message) =
        broken_profile("wrong-ca", &key, |_, yaml| yaml.replace(&escaped(&key), &escaped(&other)));
    assert_eq!(reason, "TlsFailed", "{message}");
}

#[test]
fn a_binding_says_what_is_wrong_with_its_profile() {
    let stage = Stage::new("no-profile");
    stage.apply(&binding());
    let (reason, _) = stage.wait_condition("storagebinding", "app", "Ready", "False");
    assert_eq!(reason, "ProfileMissing");

    let key = RootKey::create();
    stage.apply(&profile(&key).replace("{name: kms-data}}", "{name: absent}}"));
    soon("the binding follows its profile", || {
        let (_, reason, _) = stage.condition("storagebinding", "app", "Ready")?;
        wait::expect(reason == "ProfileNotReady", reason)
    });

    let other = Stage::new("foreign");
    other.apply(
        &binding()
            .replace("profile: {name: main}", &format!("profile: {{name: main, namespace: {}}}", stage.name)),
    );
    let (reason, message) = other.wait_condition("storagebinding", "app", "Ready", "False");
    assert_eq!(reason, "NamespaceNotAllowed", "{message}");
}

#[test]
fn a_binding_in_a_namespace_that_is_not_opted_in_says_the_command() {
    let stage = Stage::with_labels("not-opted", "\"pod-security.kubernetes.io/enforce\": restricted");
    let key = RootKey::create();
    stage.apply(&profile(&key));
    stage.apply(&binding());
    let (reason, message) = stage.wait_condition("storagebinding", "app", "Ready", "False");
    assert_eq!(reason, "NamespaceNotOptedIn");
    assert!(message.contains("kubectl label namespace"), "{message}");
}

#[test]
fn two_bindings_for_one_claim_and_a_block_volume_are_said() {
    let stage = Stage::new("conflict");
    let key = RootKey::create();
    protect(&stage, &key);
    stage.claim("files", 48);
    stage.apply(&binding().replace("name: app", "name: twin"));
    stage.wait_condition("storagebinding", "twin", "Ready", "False");
    let refusal = stage.refusal(&pod("app", "files", "sleep infinity"));
    assert!(refusal.contains("app") && refusal.contains("twin"), "{refusal}");
    stage.kubectl(&["delete", "storagebinding", "twin"]);

    let block = pod("block", "files", "sleep infinity").replace(
        "volumeMounts: [{name: data, mountPath: /data}]",
        "volumeDevices: [{name: data, devicePath: /dev/data}]",
    );
    let refusal = soon("the conflict is over", || {
        let refusal =
            format!("{:#}", stage.try_apply(&block).err().ok_or_else(|| anyhow::anyhow!("it was accepted"))?);
        wait::expect(refusal.contains("block"), &refusal).map(|()| refusal)
    });
    assert!(refusal.contains("data"), "{refusal}");
}

#[test]
fn a_claim_that_holds_plaintext_is_refused_and_left_untouched() {
    let stage = Stage::new("plaintext");
    let key = RootKey::create();
    let volume = stage.claim("files", 48);
    let root = stage.cluster.volume_path(&volume).unwrap();
    std::fs::write(root.join("precious"), "plain").unwrap();
    protect(&stage, &key);
    stage.apply(&pod("app", "files", "sleep infinity"));
    soon("the pod says why it waits", || {
        let (status, reason, message) = stage.condition("pod", "app", "cofferdam.io/Served")?;
        wait::expect(status == "False" && reason == "PlaintextFound", format!("{status} {reason} {message}"))
    });
    let names: Vec<_> = std::fs::read_dir(&root).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(!names.iter().any(|name| name == ".cofferdam"), "{names:?}");
    assert_eq!(std::fs::read_to_string(root.join("precious")).unwrap(), "plain");
}

#[test]
fn an_unknown_format_version_and_a_damaged_file_are_said_and_nothing_else_is_lost() {
    let stage = Stage::new("damaged");
    let key = RootKey::create();
    protect(&stage, &key);
    let volume = stage.claim("files", 48);
    let script = "echo one > /data/one; echo two > /data/two; sync; sleep infinity";
    stage.run("app", &pod("app", "files", script));
    stage.exec("app", "until test -s /data/two; do sleep 0.1; done; sync");
    stage.delete("app");
    let root = stage.cluster.volume_path(&volume).unwrap();
    let mut bytes = std::fs::read(root.join("one")).unwrap();
    bytes[40] ^= 1;
    std::fs::write(root.join("one"), &bytes).unwrap();
    stage.run("app", &pod("app", "files", "sleep infinity"));
    let error = stage.try_exec("app", "cat /data/one").unwrap_err().to_string();
    assert!(error.contains("Input/output error"), "{error}");
    assert_eq!(stage.exec("app", "cat /data/two"), "two\n");
    stage.delete("app");

    let marker = root.join(".cofferdam/volume");
    let mut bytes = std::fs::read(&marker).unwrap();
    bytes[8] = 99;
    std::fs::write(&marker, &bytes).unwrap();
    stage.apply(&pod("app", "files", "sleep infinity"));
    soon("the pod says why it waits", || {
        let (status, reason, message) = stage.condition("pod", "app", "cofferdam.io/Served")?;
        wait::expect(
            status == "False" && reason == "UnknownFormatVersion",
            format!("{status} {reason} {message}"),
        )
    });
}

#[test]
fn a_full_disk_is_enospc_and_what_was_there_stays() {
    let stage = Stage::new("full");
    let key = RootKey::create();
    protect(&stage, &key);
    let volume = stage.volume_with("files", 16, &VolumeOptions::default());
    stage.claim_of("files", &volume);
    stage.run("app", &pod("app", "files", "echo precious > /data/precious; sync; sleep infinity"));
    stage.exec("app", "until test -s /data/precious; do sleep 0.1; done");
    let error = stage.try_exec("app", "head -c 64000000 /dev/zero > /data/big").unwrap_err().to_string();
    assert!(error.contains("No space left on device"), "{error}");
    assert_eq!(
        stage
            .exec("app", "cat /data/precious; rm /data/big; echo more >> /data/precious; cat /data/precious"),
        "precious\nprecious\nmore\n"
    );
}

#[test]
fn a_filesystem_with_small_blocks_is_named_by_a_condition() {
    let stage = Stage::new("small-blocks");
    let key = RootKey::create();
    protect(&stage, &key);
    let volume =
        stage.volume_with("files", 48, &VolumeOptions { block_size: 1024, ..VolumeOptions::default() });
    stage.claim_of("files", &volume);
    stage.run("app", &pod("app", "files", "sleep infinity"));
    stage.wait_condition("encryptedvolume", "files", "TornWritesPossible", "True");
}

#[test]
fn a_pod_whose_identity_on_the_volume_cannot_be_known_is_refused() {
    let stage = Stage::new("identity");
    let key = RootKey::create();
    protect(&stage, &key);
    stage.claim("files", 48);
    let app = pod("app", "files", "sleep infinity");
    let mapped = app.replace("spec:\n", "spec:\n  hostUsers: false\n");
    let refusal = soon("the claim is seen", || {
        let refusal = stage.try_apply(&mapped).err().map(|error| format!("{error:#}")).unwrap_or_default();
        wait::expect(refusal.contains("hostUsers"), &refusal).map(|()| refusal)
    });
    assert!(refusal.contains("could not be known"), "{refusal}");
    let refusal = stage.refusal(&app.replace(", fsGroup: 1000", ""));
    assert!(refusal.contains("uid 65532") && refusal.contains("fsGroup"), "{refusal}");
}
