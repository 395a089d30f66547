//! What is refused, and that the message says what to do.

use super::*;

fn refusal(change: impl FnOnce(&mut Value, &mut Facts)) -> Refusal {
    let (mut pod, mut facts) = (fixture("statefulset"), facts());
    change(&mut pod, &mut facts);
    inject(&pod, &facts, &settings()).unwrap_err()
}

fn in_pod(pointer: &str, field: &str, value: Value) -> Refusal {
    refusal(|pod, _| pod.pointer_mut(pointer).unwrap()[field] = value)
}

fn profile(facts: &mut Facts, change: impl FnOnce(&mut KmsProfile)) {
    let mut profile = (*facts.profiles[0]).clone();
    change(&mut profile);
    facts.profiles[0] = Arc::new(profile);
}

#[test]
fn a_claim_that_does_not_exist_is_refused_until_it_does() {
    let refusal = refusal(|_, facts| drop(facts.claims.insert("data-db-0".into(), None)));
    assert_eq!(refusal, Refusal::ClaimMissing { claim: "data-db-0".into() });
    assert!(refusal.to_string().contains("data-db-0 does not exist"));
}

#[test]
fn two_bindings_for_a_claim_are_both_named() {
    let refusal = refusal(|_, facts| {
        let mut twin = (*facts.bindings[0]).clone();
        twin.metadata.name = Some("twin".into());
        facts.bindings.push(Arc::new(twin));
    });
    assert!(refusal.to_string().contains("app and twin"), "{refusal}");
}

#[test]
fn a_binding_that_cannot_be_read_or_kept_is_named() {
    let broken = refusal(|_, facts| {
        let mut binding = (*facts.bindings[0]).clone();
        let selector = json!({"matchExpressions": [{"key": "a", "operator": "Near", "values": ["b"]}]});
        binding.spec.claims.selector = Some(serde_json::from_value(selector).unwrap());
        facts.bindings[0] = Arc::new(binding);
    });
    assert!(matches!(broken, Refusal::InvalidBinding { ref binding, .. } if binding == "app"), "{broken}");
    let frozen = refusal(|_, facts| {
        let mut binding = (*facts.bindings[0]).clone();
        binding.spec.suspension.mode = api::binding::SuspensionMode::Freeze;
        facts.bindings[0] = Arc::new(binding);
    });
    assert!(frozen.to_string().contains("Freeze is not supported"), "{frozen}");
}

#[test]
fn a_profile_that_cannot_be_used_is_named_with_what_to_do() {
    let says = |refusal: Refusal, text: &str| assert!(refusal.to_string().contains(text), "{refusal}");
    says(refusal(|_, facts| facts.profiles.clear()), "KmsProfile shop/main, which does not exist");
    says(refusal(|_, facts| profile(facts, |p| p.status = None)), "has not been looked at yet");
    says(refusal(|_, facts| profile(facts, |p| p.spec.key_protect = None)), "names no provider that");
    let foreign = |allowed: Vec<String>| {
        refusal(move |_, facts| {
            profile(facts, |profile| {
                profile.metadata.namespace = Some("security".into());
                profile.spec.allowed_namespaces = allowed;
            });
            let mut binding = (*facts.bindings[0]).clone();
            binding.spec.profile.namespace = Some("security".into());
            facts.bindings[0] = Arc::new(binding);
        })
    };
    says(foreign(vec![]), "does not allow namespace shop");
    says(foreign(vec!["shop".into()]), "a Secret is never copied");
}

#[test]
fn a_kms_that_refuses_or_is_silent_does_not_stop_pods_of_a_profile_that_has_worked() {
    let with = |reason: &str, seen: bool| {
        let mut facts = facts();
        profile(&mut facts, |profile| {
            let status = profile.status.as_mut().unwrap();
            status.conditions[0].status = "False".into();
            status.conditions[0].reason = reason.into();
            if !seen {
                status.current_version = None;
            }
        });
        inject(&fixture("statefulset"), &facts, &settings())
    };
    for reason in ["KeyDisabled", "Unreachable", "Denied"] {
        assert!(with(reason, true).is_ok(), "{reason}: the gate waits");
        assert!(matches!(with(reason, false), Err(Refusal::Profile { .. })), "{reason}: never seen working");
    }
    for reason in ["SecretMissing", "SecretIncomplete", "CaBundleMissing", "InvalidSpec"] {
        let refusal = with(reason, true).unwrap_err();
        assert!(refusal.to_string().contains(reason), "{refusal}");
    }
}

#[test]
fn block_volumes_are_refused_by_claim_and_by_use() {
    let expected = Refusal::BlockVolume { volume: "data".into() };
    let devices = json!([{"name": "data", "devicePath": "/dev/data"}]);
    assert_eq!(in_pod("/spec/containers/0", "volumeDevices", devices), expected);
    let by_claim = refusal(|_, facts| {
        let claim = json!({"metadata": {"name": "data-db-0", "labels": {"protect": "yes"}}, "spec": {"volumeMode": "Block"}});
        facts.claims.insert("data-db-0".into(), Some(Arc::new(serde_json::from_value(claim).unwrap())));
    });
    assert_eq!(by_claim, expected);
}

#[test]
fn what_cannot_work_in_a_pod_is_refused() {
    let refusal = in_pod("/spec/containers/0/volumeMounts/0", "mountPropagation", json!("Bidirectional"));
    assert_eq!(refusal, Refusal::Bidirectional { container: "db".into(), volume: "data".into() });
    for path in ["/data", "/data/log"] {
        let refusal = in_pod("/spec/containers/0", "terminationMessagePath", json!(path));
        assert_eq!(refusal, Refusal::TerminationMessage { container: "db".into(), volume: "data".into() });
    }
    assert_eq!(in_pod("/spec", "os", json!({"name": "windows"})), Refusal::Windows);
    assert_eq!(in_pod("/spec", "nodeSelector", json!({"kubernetes.io/os": "windows"})), Refusal::Windows);
    assert_eq!(in_pod("/spec", "hostUsers", json!(false)), Refusal::UserNamespace);
    for field in ["shareProcessNamespace", "hostPID"] {
        assert_eq!(in_pod("/spec", field, json!(true)), Refusal::SharedProcesses { field });
    }
    let mirror = json!({"kubernetes.io/config.mirror": "x"});
    assert_eq!(in_pod("/metadata", "annotations", mirror), Refusal::StaticPod);
    assert_eq!(in_pod("/spec", "volumes", json!("none")), Refusal::Malformed { field: "volumes" });
}

#[test]
fn a_path_beside_the_mount_is_no_path_inside_it() {
    let mut pod = fixture("statefulset");
    pod["spec"]["containers"][0]["terminationMessagePath"] = json!("/database/log");
    assert!(inject(&pod, &facts(), &settings()).is_ok());
}

#[test]
fn reserved_names_are_refused_unless_injection_put_them_there() {
    for (pointer, name) in [
        ("/spec/containers/0", names::SIDECAR_CONTAINER),
        ("/spec/initContainers/0", names::GATE_CONTAINER),
        ("/spec/containers/0", names::JOB_CONTAINER),
        ("/spec/volumes/1", "cofferdam-sys-run"),
        ("/spec/volumes/1", "cofferdam-vol-mine"),
    ] {
        assert_eq!(in_pod(pointer, "name", json!(name)), Refusal::ReservedName { name: name.into() });
    }
}

#[test]
fn a_volume_of_our_driver_under_another_name_is_refused_in_injected_pods_too() {
    let csi =
        json!({"driver": names::CSI_DRIVER, "volumeAttributes": {names::ATTRIBUTE_KIND: names::KIND_RUN}});
    let mine = json!({"name": "mine", "csi": csi});
    for mut pod in [fixture("statefulset"), injected(&fixture("statefulset"))] {
        pod["spec"]["volumes"].as_array_mut().unwrap().push(mine.clone());
        let refusal = inject(&pod, &facts(), &settings()).unwrap_err();
        assert_eq!(refusal, Refusal::OurDriver { volume: "mine".into() });
    }
}

#[test]
fn the_annotation_does_not_let_a_container_of_the_users_take_our_name() {
    let mut pod = injected(&fixture("statefulset"));
    pod["spec"]["containers"][0]["name"] = json!(names::SIDECAR_CONTAINER);
    let refusal = inject(&pod, &facts(), &settings()).unwrap_err();
    assert_eq!(refusal, Refusal::ReservedName { name: names::SIDECAR_CONTAINER.into() });
}

#[test]
fn a_copy_of_an_injected_pod_without_protected_claims_is_refused() {
    let copy = injected(&fixture("statefulset"));
    let nothing = Facts { claims: facts().claims, namespace: "shop".into(), ..Facts::default() };
    assert_eq!(inject(&copy, &nothing, &settings()), Err(Refusal::NothingProtected));
}

#[test]
fn a_non_root_pod_without_a_group_for_its_volumes_is_told_to_set_one() {
    let refusal = in_pod("/spec", "securityContext", json!({"runAsNonRoot": true}));
    assert_eq!(refusal, Refusal::NoFsGroup);
    assert!(refusal.to_string().contains("spec.securityContext.fsGroup"));
}

#[test]
fn a_binding_whose_requests_and_limits_differ_is_named() {
    let refusal = refusal(|_, facts| {
        let mut binding = (*facts.bindings[0]).clone();
        let resources = json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}});
        binding.spec.sidecar_resources = Some(serde_json::from_value(resources).unwrap());
        facts.bindings[0] = Arc::new(binding);
    });
    assert_eq!(refusal, Refusal::UnequalResources { place: "StorageBinding app".into() });
}
