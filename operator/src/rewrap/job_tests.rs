//! The Job of a volume, as the API server will see it.
#![allow(clippy::unwrap_used)]

use contract::config::{KeyProtect, Provider, SidecarConfig};

use super::*;

fn settings() -> Settings {
    Settings {
        image: "registry.example/cofferdam:1".into(),
        image_pull_policy: "Never".into(),
        operator_url: "https://cofferdam-operator.cofferdam-system.svc:8443".into(),
        sidecar_cpu: "500m".into(),
        sidecar_memory: "128Mi".into(),
        mesh_exclusion: true,
    }
}

fn volume(ownership: &str) -> EncryptedVolume {
    serde_json::from_value(json!({
        "apiVersion": "cofferdam.io/v1alpha1", "kind": "EncryptedVolume",
        "metadata": {"name": "files", "namespace": "shop", "uid": "u-1"},
        "spec": {"claimName": "files", "bindingName": "app", "profile": {"name": "main"}},
        "status": {"marker": {
            "volumeId": "aa", "strict": true, "ownership": ownership, "sweepEpoch": 1, "uid": 65532, "gid": 1000,
        }},
    }))
    .unwrap()
}

fn profile(namespace: &str, credentials: &Value) -> KmsProfile {
    serde_json::from_value(json!({
        "apiVersion": "cofferdam.io/v1alpha1", "kind": "KmsProfile", "metadata": {"name": "main", "namespace": namespace},
        "spec": {
            "keyProtect": {"endpoint": "https://kms", "instance": "i", "rootKey": "k"},
            "caBundle": {"configMap": "kms-ca"},
            "credentials": credentials,
            "pollSeconds": 60,
        },
        "status": {"currentVersion": "v2", "conditions": [{
            "type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]},
    }))
    .unwrap()
}

fn two_secrets() -> Value {
    json!({"data": {"apiKeySecret": {"name": "d"}}, "rewrap": {"apiKeySecret": {"name": "r"}}})
}

fn binding() -> StorageBinding {
    serde_json::from_value(json!({
        "apiVersion": "cofferdam.io/v1alpha1", "kind": "StorageBinding", "metadata": {"name": "app", "namespace": "shop"},
        "spec": {
            "profile": {"name": "main"}, "claims": {"names": ["files"]}, "imagePullSecrets": ["pull"],
            "storageEntries": [".snap$shot"], "rewrap": {"backoffLimit": 2},
        },
    }))
    .unwrap()
}

fn start() -> Start {
    Start { target: "v2".into(), attempt: 3 }
}

fn built(ownership: &str, credentials: &Value) -> Value {
    let job =
        build(&volume(ownership), Some(&binding()), &profile("shop", credentials), &start(), &settings());
    serde_json::to_value(job.unwrap()).unwrap()
}

#[test]
fn a_job_names_what_it_is_for_and_goes_with_its_volume() {
    let job = built("Virtual", &two_secrets());
    let parsed: Job = serde_json::from_value(job.clone()).unwrap();
    assert_eq!((target(&parsed), attempt(&parsed)), ("v2", 3));
    assert_eq!(
        job["metadata"]["labels"],
        json!({"cofferdam.io/rewrap": "files", "cofferdam.io/binding": "app"})
    );
    assert_eq!(job["metadata"]["ownerReferences"][0]["uid"], "u-1");
    assert_eq!(job["spec"]["template"]["metadata"]["labels"], job["metadata"]["labels"]);
    assert_eq!(job["spec"]["backoffLimit"], 2);
    assert_eq!(job, built("Virtual", &two_secrets()), "the same from the same");
}

#[test]
fn its_pod_meets_pod_security_restricted() {
    let job = built("Virtual", &two_secrets());
    let pod = &job["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(
        (&pod["securityContext"]["runAsUser"], &pod["securityContext"]["fsGroup"]),
        (&json!(65532), &json!(1000))
    );
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
    assert_eq!(container["securityContext"]["capabilities"], json!({"drop": ["ALL"]}));
    // The kinds of volumes that `restricted` allows.
    let allowed = ["name", "persistentVolumeClaim", "projected", "configMap", "secret", "emptyDir"];
    for volume in pod["volumes"].as_array().unwrap() {
        assert!(volume.as_object().unwrap().keys().all(|key| allowed.contains(&key.as_str())), "{volume}");
    }
    assert_eq!(container["resources"]["requests"], container["resources"]["limits"]);
    assert_eq!(
        (&pod["automountServiceAccountToken"], &pod["restartPolicy"]),
        (&json!(false), &json!("OnFailure"))
    );
    assert_eq!(container["command"], json!(["/usr/bin/cofferdam-sidecar", "job"]));
    let annotations = &job["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(annotations["sidecar.istio.io/inject"], "false");
}

#[test]
fn native_ownership_needs_root_and_only_what_baseline_allows() {
    let job = built("Native", &two_secrets());
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsUser"], 0);
    let added = &pod["containers"][0]["securityContext"]["capabilities"]["add"];
    assert_eq!(added, &json!(["DAC_OVERRIDE", "FOWNER"]));
}

#[test]
fn it_holds_the_rewrap_credential_or_says_that_there_is_none() {
    let secret = |job: &Value| {
        let volumes = job["spec"]["template"]["spec"]["volumes"].as_array().unwrap().clone();
        let of = |volume: &Value| volume["secret"]["secretName"].as_str().map(str::to_owned);
        volumes.iter().find_map(of)
    };
    assert_eq!(secret(&built("Virtual", &two_secrets())).as_deref(), Some("r"));
    assert_eq!(credential_warning(&profile("shop", &two_secrets())), None);
    let only = json!({"data": {"apiKeySecret": {"name": "d"}}});
    assert_eq!(secret(&built("Virtual", &only)).as_deref(), Some("d"));
    assert!(credential_warning(&profile("shop", &only)).unwrap().contains("main"));
    let trusted = json!({"data": {"trustedProfile": {"id": "Profile-1"}}});
    let job = built("Virtual", &trusted).to_string();
    assert!(job.contains(r#""audience":"iam""#), "{job}");
}

#[test]
fn a_secret_of_another_namespace_is_never_used() {
    let build = |credentials: &Value| {
        build(&volume("Virtual"), None, &profile("security", credentials), &start(), &settings())
    };
    assert_eq!(build(&two_secrets()).unwrap_err(), JobError::ForeignSecret);
    assert!(build(&json!({"data": {"trustedProfile": {"id": "Profile-1"}}})).is_ok());
}

#[test]
fn it_runs_as_the_service_account_that_the_binding_names_and_holds_no_token_for_the_api_server() {
    let trusted =
        json!({"data": {"apiKeySecret": {"name": "d"}}, "rewrap": {"trustedProfile": {"id": "Profile-1"}}});
    let build = |binding: Option<&StorageBinding>| {
        let job = build(&volume("Virtual"), binding, &profile("shop", &trusted), &start(), &settings());
        serde_json::to_value(job.unwrap()).unwrap()["spec"]["template"]["spec"].clone()
    };
    let mut binding = binding();
    assert_eq!(build(Some(&binding))["serviceAccountName"], "default");
    assert_eq!(build(None)["serviceAccountName"], "default");
    binding.spec.rewrap.service_account_name = "rewrap".into();
    let pod = build(Some(&binding));
    assert_eq!(pod["serviceAccountName"], "rewrap");
    assert_eq!(pod["automountServiceAccountToken"], false);
    let sources =
        pod["volumes"].as_array().unwrap().iter().filter_map(|one| one["projected"]["sources"].as_array());
    let audiences: Vec<_> =
        sources.flatten().map(|source| &source["serviceAccountToken"]["audience"]).collect();
    assert_eq!(audiences, ["cofferdam", "iam"]);
}

#[test]
fn a_profile_that_was_refused_gets_no_job() {
    let mut refused = profile("shop", &two_secrets());
    refused.metadata.generation = Some(2);
    let error = build(&volume("Virtual"), Some(&binding()), &refused, &start(), &settings()).unwrap_err();
    assert!(error.to_string().contains("has not been looked at yet"), "{error}");
    assert_eq!(reason(&error), reasons::PROFILE_NOT_READY);
}

fn configuration(job: &Value) -> SidecarConfig {
    let environment = job["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap().clone();
    let value = environment.iter().find(|entry| entry["name"] == names::CONFIG_ENV).unwrap()["value"].clone();
    // Kubelet makes one dollar of two.
    let text = value.as_str().unwrap();
    assert!(text.contains(".snap$$shot"), "{text}");
    serde_json::from_str(&text.replace("$$", "$")).unwrap()
}

#[test]
fn its_configuration_is_this_volume_alone() {
    let job = built("Virtual", &two_secrets());
    let config = configuration(&job);
    let [volume] = config.volumes.as_slice() else { unreachable!("one volume") };
    assert_eq!((volume.claim.as_str(), volume.name.as_str(), volume.strict), ("files", "data", true));
    assert_eq!(volume.pinned_volume_id.as_deref(), Some("aa"));
    let [profile] = config.profiles.as_slice() else { unreachable!("one profile") };
    let Provider::KeyProtect(KeyProtect { endpoint, .. }) = &profile.provider else {
        unreachable!("Key Protect")
    };
    assert_eq!((endpoint.as_str(), profile.poll_seconds), ("https://kms", 30));
    assert_eq!(profile.ca_file.as_deref(), Some("/cofferdam/ca/kms-main.crt"));
    let job = serde_json::from_value::<Job>(job).unwrap();
    let mounts = job.spec.unwrap().template.spec.unwrap().containers[0].volume_mounts.clone().unwrap();
    assert!(mounts.iter().any(|mount| mount.mount_path == "/cofferdam/raw/data"));
}

/// The Job of a volume of which nobody has reported a marker.
fn look(namespace: &str) -> Value {
    let mut unseen = volume("Virtual");
    unseen.status = None;
    let profile = profile(namespace, &two_secrets());
    serde_json::to_value(build(&unseen, Some(&binding()), &profile, &start(), &settings()).unwrap()).unwrap()
}

#[test]
fn a_volume_that_nobody_has_seen_gets_a_job_that_can_only_look() {
    let job = look("shop");
    let parsed: Job = serde_json::from_value(job.clone()).unwrap();
    assert_eq!((target(&parsed), attempt(&parsed), uses_data_credential(&parsed)), ("v2", 3, None));
    assert_eq!(job["metadata"]["labels"], built("Virtual", &two_secrets())["metadata"]["labels"]);
    let pod = &job["spec"]["template"]["spec"];
    // A fsGroup would hand the volume over.
    assert_eq!(
        pod["securityContext"],
        json!({
            "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"},
        })
    );
    let container = &pod["containers"][0];
    assert_eq!(container["securityContext"]["capabilities"], json!({"drop": ["ALL"]}));
    let mounts = container["volumeMounts"].as_array().unwrap();
    assert!(mounts.iter().all(|mount| mount["readOnly"] == true), "{mounts:?}");
    let names: Vec<_> = pod["volumes"].as_array().unwrap().iter().map(|volume| &volume["name"]).collect();
    assert_eq!(names, ["data", "cofferdam-sys-token", "cofferdam-sys-ca"], "no credential");
    let config = configuration(&job);
    assert_eq!((config.profiles, config.volumes[0].look_for.as_deref()), (vec![], Some("v2")));
    assert_eq!(config.volumes[0].storage_entries, [".snap$shot"]);
    // So a profile's Secret need not be here.
    look("security");
}

#[test]
fn a_job_that_rewraps_can_write_and_does_not_only_look() {
    let job = built("Virtual", &two_secrets());
    let mounts = &job["spec"]["template"]["spec"]["containers"][0]["volumeMounts"];
    assert_eq!((&mounts[0]["name"], &mounts[0]["readOnly"]), (&json!("data"), &json!(false)));
    assert_eq!(configuration(&job).volumes[0].look_for, None);
}

#[test]
fn long_names_fit_into_labels() {
    let long = "x".repeat(80);
    assert!(label_value(&long).len() <= 63 && label_value(&long) != label_value(&"x".repeat(81)));
    assert_eq!(label_value("files"), "files");
}
