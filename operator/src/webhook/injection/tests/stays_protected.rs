//! Once there is a record, a claim stays protected, and what it was created with counts.

use super::*;

fn record(ownership: Option<(&str, u32, u32)>) -> EncryptedVolume {
    let marker = ownership.map(|(ownership, uid, gid)| {
        json!({"volumeId": "00ff", "strict": true, "seal": true, "ownership": ownership, "sweepEpoch": 3, "uid": uid, "gid": gid})
    });
    serde_json::from_value(json!({
        "apiVersion": "cofferdam.io/v1alpha1", "kind": "EncryptedVolume",
        "metadata": {"name": "data-db-0", "namespace": "shop"},
        "spec": {"claimName": "data-db-0", "bindingName": "app", "profile": {"name": "main"}},
        "status": {"marker": marker},
    }))
    .unwrap()
}

use api::EncryptedVolume;

fn with(record: EncryptedVolume, change: impl FnOnce(&mut Facts)) -> Result<Option<Value>, Refusal> {
    let mut facts = facts();
    facts.volumes = vec![Arc::new(record)];
    change(&mut facts);
    inject(&fixture("statefulset"), &facts, &settings())
}

fn forget_labels(facts: &mut Facts) {
    let claim = json!({"metadata": {"name": "data-db-0"}, "spec": {}});
    facts.claims.insert("data-db-0".into(), Some(Arc::new(serde_json::from_value(claim).unwrap())));
}

#[test]
fn a_claim_stays_protected_without_its_labels_and_without_its_binding() {
    let labels = with(record(None), forget_labels).unwrap().unwrap();
    assert_eq!(
        config(&labels).volumes[0].storage_entries,
        [".snapshot"],
        "the recorded binding still says how"
    );
    let neither = with(record(None), |facts| {
        forget_labels(facts);
        facts.bindings.clear();
    });
    assert_eq!(config(&neither.unwrap().unwrap()).profiles[0].name, "main");
}

#[test]
fn a_released_claim_is_not_protected_any_more() {
    let mut released = record(None);
    released.spec.release = true;
    assert_eq!(with(released, |_| {}), Ok(None));
}

#[test]
fn what_was_released_is_one_volume_and_not_the_claims_name() {
    let bound_to = |name: &'static str| {
        move |facts: &mut Facts| {
            forget_labels(facts);
            let claim = json!({"metadata": {"name": "data-db-0"}, "spec": {"volumeName": name}});
            facts.claims.insert("data-db-0".into(), Some(Arc::new(serde_json::from_value(claim).unwrap())));
        }
    };
    let mut released = record(None);
    released.spec.release = true;
    let status = released.status.as_mut().unwrap();
    (status.persistent_volume, status.released_volume) = (Some("pv-1".into()), Some("pv-1".into()));
    assert_eq!(with(released.clone(), bound_to("pv-1")), Ok(None));
    assert!(with(released.clone(), bound_to("pv-2")).unwrap().is_some(), "the claim was made anew");
    released.status.as_mut().unwrap().persistent_volume = Some("pv-2".into());
    assert!(with(released.clone(), bound_to("pv-2")).unwrap().is_some(), "and the operator has seen it");
    // Nobody has noted yet of which volume it was said: of the one that the record speaks of.
    let status = released.status.as_mut().unwrap();
    (status.persistent_volume, status.released_volume) = (Some("pv-1".into()), None);
    assert_eq!(with(released.clone(), bound_to("pv-1")), Ok(None));
    assert!(with(released, bound_to("pv-2")).unwrap().is_some());
}

#[test]
fn what_the_volume_was_created_with_wins() {
    let pod = with(record(Some(("Native", 0, 0))), |_| {}).unwrap().unwrap();
    let volume = &config(&pod).volumes[0];
    assert_eq!((volume.ownership, volume.strict, volume.seal), (Ownership::Native, true, true));
    assert_eq!(volume.pinned_volume_id.as_deref(), Some("00ff"));
    assert_eq!(container(&pod, names::SIDECAR_CONTAINER)["securityContext"]["runAsUser"], 0);
}

#[test]
fn native_ownership_is_refused_where_the_namespace_refuses_capabilities() {
    let refusal = with(record(Some(("Native", 0, 0))), |facts| {
        facts.namespace_labels.insert(ENFORCE_LABEL.into(), "restricted".into());
    });
    assert_eq!(refusal, Err(Refusal::NativeInRestricted { claim: "data-db-0".into() }));
}

#[test]
fn without_a_group_the_sidecar_takes_the_one_that_the_files_have() {
    let mut facts = facts();
    facts.volumes = vec![Arc::new(record(Some(("Virtual", 65532, 1000))))];
    let mut pod = fixture("statefulset");
    pod["spec"]["securityContext"].as_object_mut().unwrap().remove("fsGroup");
    let injected = inject(&pod, &facts, &settings()).unwrap().unwrap();
    let context = &container(&injected, names::SIDECAR_CONTAINER)["securityContext"];
    assert_eq!((&context["runAsUser"], &context["runAsGroup"]), (&json!(65532), &json!(1000)));
}

#[test]
fn volumes_of_different_ownership_do_not_share_a_pod() {
    let mut other = record(Some(("Virtual", 65532, 65532)));
    other.metadata.name = Some("files".into());
    other.spec.claim_name = "files".into();
    let mut facts = facts();
    facts.volumes = vec![Arc::new(record(Some(("Native", 0, 0)))), Arc::new(other)];
    let mut pod = fixture("statefulset");
    let second = json!({"name": "second", "persistentVolumeClaim": {"claimName": "files"}});
    pod["spec"]["volumes"].as_array_mut().unwrap().push(second);
    assert_eq!(inject(&pod, &facts, &settings()), Err(Refusal::MixedOwnership));
}

#[test]
fn a_written_volume_does_not_change_its_root_key() {
    let mut moved = record(Some(("Virtual", 65532, 1000)));
    moved.spec.profile.name = "old".into();
    let refusal = with(moved.clone(), |_| {}).unwrap_err();
    assert!(refusal.to_string().contains("encrypted under KmsProfile shop/old"), "{refusal}");
    moved.status = None;
    assert!(with(moved, |_| {}).is_ok(), "nothing was written yet");
}

#[test]
fn a_claim_made_anew_stays_protected_but_inherits_nothing_from_the_volume_that_is_gone() {
    let mut old = record(Some(("Native", 0, 0)));
    old.status.as_mut().unwrap().persistent_volume = Some("pv-old".into());
    let restricted = |facts: &mut Facts| {
        facts.namespace_labels.insert(ENFORCE_LABEL.into(), "restricted".into());
        forget_labels(facts);
    };
    let pod = with(old, restricted).unwrap().unwrap();
    let volume = &config(&pod).volumes[0];
    assert_eq!((volume.ownership, volume.strict, volume.seal), (Ownership::Virtual, false, false));
    assert_eq!(volume.pinned_volume_id, None);
}

#[test]
fn the_record_of_a_volume_that_the_claim_has_left_decides_nothing() {
    let mut left = record(Some(("Native", 0, 0)));
    left.spec.persistent_volume = Some("pv-old".into());
    left.spec.release = true;
    left.metadata.name = Some("data-db-0.left-1".into());
    let own = record(Some(("Virtual", 65532, 1000)));
    let both = |facts: &mut Facts| {
        forget_labels(facts);
        facts.volumes.push(Arc::new(own));
    };
    let pod = with(left, both).unwrap().unwrap();
    assert_eq!(config(&pod).volumes[0].ownership, Ownership::Virtual);
}
