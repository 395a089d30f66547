//! Templates in, warnings out.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::*;

fn settings() -> InjectionSettings {
    InjectionSettings {
        image: "i".into(),
        image_pull_policy: "Always".into(),
        operator_url: "https://o".into(),
        sidecar_cpu: "1".into(),
        sidecar_memory: "1Mi".into(),
        mesh_exclusion: false,
    }
}

fn facts() -> Facts {
    let binding = json!({
        "apiVersion": "cofferdam.io/v1alpha1", "kind": "StorageBinding", "metadata": {"name": "app", "namespace": "shop"},
        "spec": {"profile": {"name": "main"}, "claims": {"selector": {"matchLabels": {"protect": "yes"}}}},
    });
    let profile = json!({
        "apiVersion": "cofferdam.io/v1alpha1", "kind": "KmsProfile", "metadata": {"name": "main", "namespace": "shop"},
        "spec": {
            "keyProtect": {"endpoint": "https://k", "instance": "i", "rootKey": "k"},
            "credentials": {"data": {"apiKeySecret": {"name": "s"}}},
        },
        "status": {"currentVersion": "v", "conditions": [
            {"type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        ]},
    });
    let claim = json!({"metadata": {"name": "files", "labels": {"protect": "yes"}}, "spec": {}});
    let labels = [(INJECTION_LABEL.to_owned(), INJECTION_ENABLED.to_owned())];
    Facts {
        namespace: "shop".into(),
        namespace_labels: labels.into(),
        claims: [("files".to_owned(), Some(Arc::new(serde_json::from_value(claim).unwrap())))].into(),
        bindings: vec![Arc::new(serde_json::from_value(binding).unwrap())],
        profiles: vec![Arc::new(serde_json::from_value(profile).unwrap())],
        ..Facts::default()
    }
}

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "a"}}, "spec": {
        "containers": [{"name": "a", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "files"}}],
    }})
}

fn warned(kind: &str, spec: &Value) -> Vec<String> {
    let object = json!({"metadata": {"name": "a"}, "spec": spec});
    let pod = pod_of(kind, &object).unwrap();
    of_template(kind, &object, &pod, &facts(), &settings())
}

#[test]
fn a_deployment_that_would_roll_over_its_own_volume_is_warned() {
    let surging = |surge: Value| json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge}});
    for strategy in [json!(null), surging(json!("25%")), surging(json!(1))] {
        let warnings = warned("Deployment", &json!({"strategy": strategy, "template": template()}));
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("maxSurge") && warnings[0].contains("files"), "{warnings:?}");
    }
    for strategy in [json!({"type": "Recreate"}), json!({"rollingUpdate": {"maxSurge": 0}})] {
        let warnings = warned("Deployment", &json!({"strategy": strategy, "template": template()}));
        assert!(warnings.is_empty(), "{warnings:?}");
    }
}

#[test]
fn many_pods_for_one_claim_are_warned_but_not_claims_of_their_own() {
    let recreate = json!({"type": "Recreate"});
    let many = warned("Deployment", &json!({"replicas": 3, "strategy": recreate, "template": template()}));
    assert!(many.iter().any(|warning| warning.contains("will wait")), "{many:?}");
    let claims = json!([{"metadata": {"name": "data", "labels": {"protect": "yes"}}, "spec": {}}]);
    let set = json!({"replicas": 3, "template": template(), "volumeClaimTemplates": claims});
    assert!(warned("StatefulSet", &set).is_empty());
}

#[test]
fn a_template_whose_pods_would_be_refused_is_warned_with_the_reason() {
    let mut template = template();
    template["spec"]["hostUsers"] = json!(false);
    let warnings = warned("Job", &json!({"template": template}));
    assert!(warnings[0].contains("will refuse pods of this template: hostUsers"), "{warnings:?}");
    let cron = json!({"jobTemplate": {"spec": {"template": template}}});
    assert_eq!(warned("CronJob", &cron).len(), 1);
}

#[test]
fn a_claim_that_comes_later_is_no_reason_to_warn() {
    let object = json!({"spec": {"template": template()}});
    let pod = pod_of("Job", &object).unwrap();
    let mut facts = facts();
    facts.claims.insert("files".into(), None);
    assert!(of_template("Job", &object, &pod, &facts, &settings()).is_empty());
}

#[test]
fn bindings_that_overlap_or_protect_nothing_yet_are_warned() {
    let mut twin = serde_json::to_value(&*facts().bindings[0]).unwrap();
    twin["metadata"]["name"] = json!("twin");
    let warnings = of_declaration("StorageBinding", &twin, &facts());
    assert!(warnings.iter().any(|warning| warning.contains("StorageBinding app")), "{warnings:?}");
    twin["spec"]["claims"] = json!({"names": ["files"]});
    let warnings = of_declaration("StorageBinding", &twin, &facts());
    assert!(warnings.iter().any(|warning| warning.contains("StorageBinding app")), "by name: {warnings:?}");
    twin["spec"]["claims"] = json!({"names": ["others"]});
    assert!(of_declaration("StorageBinding", &twin, &facts()).is_empty());
    let mut other = facts();
    other.namespace_labels.clear();
    other.bindings.clear();
    let warnings = of_declaration("StorageBinding", &twin, &other);
    assert!(
        warnings[0].contains("kubectl label namespace shop cofferdam.io/injection=enabled"),
        "{warnings:?}"
    );
}

#[test]
fn a_shared_profile_with_a_secret_is_warned() {
    let mut profile = serde_json::to_value(&*facts().profiles[0]).unwrap();
    assert!(of_declaration("KmsProfile", &profile, &facts()).is_empty());
    profile["spec"]["allowedNamespaces"] = json!(["other"]);
    assert_eq!(of_declaration("KmsProfile", &profile, &facts()).len(), 1);
}
