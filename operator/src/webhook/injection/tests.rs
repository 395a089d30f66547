//! Pods in, patches out.
#![allow(clippy::unwrap_used, clippy::panic)]

mod refusals;
mod stays_protected;

use std::path::PathBuf;
use std::sync::Arc;

use contract::config::{Credential, Ownership, SidecarConfig};
use contract::names;
use serde::de::DeserializeOwned;

use super::*;

const FIXTURES: [&str; 3] = ["statefulset", "job", "ephemeral"];

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/webhook/injection/tests/fixtures").join(name)
}

fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&std::fs::read_to_string(file(name)).unwrap()).unwrap()
}

fn parsed<T: DeserializeOwned>(list: &Value) -> Vec<Arc<T>> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|one| Arc::new(serde_json::from_value(one.clone()).unwrap()))
        .collect()
}

fn settings() -> InjectionSettings {
    InjectionSettings {
        image: "registry.example/cofferdam@sha256:aa".into(),
        image_pull_policy: "IfNotPresent".into(),
        operator_url: "https://cofferdam-operator.cofferdam-system.svc:8443".into(),
        sidecar_cpu: "500m".into(),
        sidecar_memory: "128Mi".into(),
        mesh_exclusion: true,
    }
}

fn facts() -> Facts {
    let cluster = yaml("cluster.yaml");
    let claims = parsed::<k8s_openapi::api::core::v1::PersistentVolumeClaim>(&cluster["claims"]);
    Facts {
        namespace: "shop".into(),
        claims: claims.into_iter().map(|claim| (claim.name_any(), Some(claim))).collect(),
        bindings: parsed(&cluster["bindings"]),
        profiles: parsed(&cluster["profiles"]),
        ..Facts::default()
    }
}

fn fixture(name: &str) -> Value {
    yaml(&format!("{name}.yaml"))
}

fn injected(pod: &Value) -> Value {
    inject(pod, &facts(), &settings()).unwrap().unwrap()
}

fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let lists = ["initContainers", "containers"];
    let mut all = lists.iter().flat_map(|list| pod["spec"][*list].as_array().into_iter().flatten());
    all.find(|container| container["name"] == name).unwrap()
}

fn config(pod: &Value) -> SidecarConfig {
    let env = container(pod, names::SIDECAR_CONTAINER)["env"].as_array().unwrap();
    let value =
        env.iter().find(|variable| variable["name"] == names::CONFIG_ENV).unwrap()["value"].as_str().unwrap();
    serde_json::from_str(value).unwrap()
}

/// With `COFFERDAM_BLESS` set, the committed patches are written anew instead, to be read before they are committed.
#[test]
fn each_pod_gets_the_committed_patch() {
    for name in FIXTURES {
        let pod = fixture(name);
        let patch = serde_json::to_value(patch::between(&pod, &injected(&pod))).unwrap();
        let committed = format!("{name}.patch.yaml");
        if std::env::var_os("COFFERDAM_BLESS").is_some() {
            std::fs::write(file(&committed), serde_saphyr::to_string(&patch).unwrap()).unwrap();
        }
        assert_eq!(yaml(&committed), patch, "{name}");
    }
}

#[test]
fn the_patch_leads_from_the_request_to_the_injected_pod() {
    for name in FIXTURES {
        let pod = fixture(name);
        let mut patched = pod.clone();
        json_patch::patch(&mut patched, &patch::between(&pod, &injected(&pod))).unwrap();
        assert_eq!(patched, injected(&pod), "{name}");
    }
}

#[test]
fn injecting_an_injected_pod_changes_nothing() {
    for name in FIXTURES {
        let once = injected(&fixture(name));
        assert!(patch::between(&once, &injected(&once)).0.is_empty(), "{name}");
    }
}

#[test]
fn what_was_changed_or_moved_after_injection_is_put_right() {
    let once = injected(&fixture("statefulset"));
    let mut meddled = once.clone();
    let inits = meddled["spec"]["initContainers"].as_array_mut().unwrap();
    inits[0]["image"] = json!("other");
    inits[0].as_object_mut().unwrap().remove("restartPolicy");
    inits.insert(
        0,
        json!({"name": "mesh", "image": "mesh", "volumeMounts": [{"name": "data", "mountPath": "/x"}]}),
    );
    let again = injected(&meddled);
    let names: Vec<_> = again["spec"]["initContainers"].as_array().unwrap().iter().map(pod::name).collect();
    assert_eq!(names, [names::SIDECAR_CONTAINER, names::GATE_CONTAINER, "mesh", "prepare"]);
    assert_eq!(container(&again, names::SIDECAR_CONTAINER), container(&once, names::SIDECAR_CONTAINER));
    // A container that another webhook added is turned to the plain files too.
    assert_eq!(container(&again, "mesh")["volumeMounts"][0]["name"], "cofferdam-vol-data");
}

#[test]
fn what_the_api_server_adds_to_our_containers_stays() {
    let mut pod = injected(&fixture("statefulset"));
    let token = json!({"name": "kube-api-access-x", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true});
    let sidecar = &mut pod["spec"]["initContainers"][0];
    sidecar["volumeMounts"].as_array_mut().unwrap().push(token);
    sidecar["resources"]["limits"]["ephemeral-storage"] = json!("1Gi");
    assert!(patch::between(&pod, &injected(&pod)).0.is_empty());
}

#[test]
fn fields_that_no_type_of_ours_knows_survive() {
    let mut pod = fixture("statefulset");
    pod["spec"]["tomorrow"] = json!({"deep": [1, 2.5, null]});
    pod["metadata"]["tomorrow"] = json!(1);
    pod["spec"]["containers"][0]["tomorrow"] = json!("x");
    pod["spec"]["containers"][0]["volumeMounts"][0]["tomorrow"] = json!(true);
    pod["spec"]["volumes"][0]["persistentVolumeClaim"]["tomorrow"] = json!("y");
    let injected = injected(&pod);
    for pointer in [
        "/spec/tomorrow",
        "/metadata/tomorrow",
        "/spec/containers/0/tomorrow",
        "/spec/containers/0/volumeMounts/0/tomorrow",
        "/spec/volumes/0/persistentVolumeClaim/tomorrow",
    ] {
        assert_eq!(injected.pointer(pointer), pod.pointer(pointer), "{pointer}");
        assert!(injected.pointer(pointer).is_some(), "{pointer}");
    }
}

#[test]
fn the_users_volumes_stay_first_and_unchanged() {
    for name in FIXTURES {
        let pod = fixture(name);
        let before = pod["spec"]["volumes"].as_array().unwrap().clone();
        assert_eq!(
            injected(&pod)["spec"]["volumes"].as_array().unwrap()[..before.len()],
            before[..],
            "{name}"
        );
    }
}

#[test]
fn only_the_sidecar_mounts_the_raw_volume_and_only_it_and_the_gate_our_own() {
    for name in FIXTURES {
        let pod = injected(&fixture(name));
        let raw: Vec<String> = config(&pod).volumes.into_iter().map(|volume| volume.name).collect();
        assert!(!raw.is_empty());
        for container in pod::containers(&pod["spec"]).unwrap() {
            let own = pod::name(container);
            for mount in container["volumeMounts"].as_array().unwrap() {
                let volume = pod::name(mount).to_owned();
                assert!(
                    !raw.contains(&volume) || own == names::SIDECAR_CONTAINER,
                    "{name}: {own} mounts {volume}"
                );
                let ours = [names::SIDECAR_CONTAINER, names::GATE_CONTAINER].contains(&own);
                assert!(
                    ours || !volume.starts_with(names::SYSTEM_VOLUME_PREFIX),
                    "{name}: {own} mounts {volume}"
                );
                assert!(own != names::SIDECAR_CONTAINER || !volume.starts_with(names::PLAIN_VOLUME_PREFIX));
            }
        }
    }
}

#[test]
fn every_volume_that_is_mounted_exists() {
    for name in FIXTURES {
        let pod = injected(&fixture(name));
        let volumes: Vec<_> = pod["spec"]["volumes"].as_array().unwrap().iter().map(pod::name).collect();
        for container in pod::containers(&pod["spec"]).unwrap() {
            for mount in container["volumeMounts"].as_array().unwrap() {
                assert!(volumes.contains(&pod::name(mount)), "{name}: {}", pod::name(mount));
            }
        }
        assert!(volumes.iter().all(|volume| volume.len() <= 63), "{volumes:?}");
    }
}

#[test]
fn requests_equal_limits_and_come_from_annotation_binding_or_default() {
    let resources =
        |name: &str| container(&injected(&fixture(name)), names::SIDECAR_CONTAINER)["resources"].clone();
    let expect = |cpu: &str, memory: &str| {
        let amount = json!({"cpu": cpu, "memory": memory});
        json!({"requests": amount, "limits": amount})
    };
    assert_eq!(resources("statefulset"), expect("500m", "128Mi"));
    assert_eq!(resources("job"), expect("1", "256Mi"));
}

#[test]
fn a_pod_without_protected_claims_is_not_touched() {
    let mut pod = fixture("statefulset");
    pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] = json!("open");
    assert_eq!(inject(&pod, &facts(), &settings()), Ok(None));
    pod["spec"].as_object_mut().unwrap().remove("volumes");
    assert_eq!(inject(&pod, &facts(), &settings()), Ok(None));
}

#[test]
fn names_that_would_be_too_long_are_hashed() {
    let long = "v".repeat(63);
    let mut pod = fixture("statefulset");
    pod["spec"]["volumes"][0]["name"] = json!(long);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": long, "mountPath": "/data"}]);
    pod["spec"]["initContainers"][0]["volumeMounts"] = json!([]);
    let injected = injected(&pod);
    let mounted = pod::name(&injected["spec"]["containers"][0]["volumeMounts"][0]);
    assert!(mounted.starts_with(names::PLAIN_VOLUME_PREFIX) && mounted.len() <= 63, "{mounted}");
    assert_eq!(config(&injected).volumes[0].name, long);
    assert_ne!(plain_name(&long), plain_name(&format!("{}w", &long[1..])));
}

#[test]
fn root_gets_native_ownership_and_everybody_else_virtual() {
    let job = injected(&fixture("job"));
    assert!(config(&job).volumes.iter().all(|volume| volume.ownership == Ownership::Native));
    let context = &container(&job, names::SIDECAR_CONTAINER)["securityContext"];
    assert_eq!((&context["runAsUser"], &context["runAsNonRoot"]), (&json!(0), &json!(false)));
    assert_eq!(context["capabilities"]["add"].as_array().unwrap().len(), 6);

    let set = injected(&fixture("statefulset"));
    assert!(config(&set).volumes.iter().all(|volume| volume.ownership == Ownership::Virtual));
    for ours in [names::SIDECAR_CONTAINER, names::GATE_CONTAINER] {
        let context = &container(&set, ours)["securityContext"];
        assert_eq!((&context["runAsUser"], &context["runAsNonRoot"]), (&json!(65532), &json!(true)));
        assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}));
    }
}

#[test]
fn one_root_container_among_others_gets_native_ownership() {
    let mut pod = fixture("statefulset");
    pod["spec"]["initContainers"][0]["securityContext"] = json!({"runAsUser": 0, "runAsNonRoot": false});
    assert_eq!(config(&injected(&pod)).volumes[0].ownership, Ownership::Native);
}

#[test]
fn a_user_that_only_the_image_names_is_served_by_native_ownership() {
    let mut pod = fixture("job");
    let spec = pod["spec"].as_object_mut().unwrap();
    spec.remove("securityContext");
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            container.as_object_mut().unwrap().remove("securityContext");
        }
    }
    assert_eq!(config(&injected(&pod)).volumes[0].ownership, Ownership::Native);
}

#[test]
fn a_claim_of_a_pod_without_a_name_is_named_by_kubelet() {
    let pod = injected(&fixture("ephemeral"));
    let env = container(&pod, names::SIDECAR_CONTAINER)["env"].as_array().unwrap();
    assert!(env[3]["value"].as_str().unwrap().contains(r#""claim":"$(POD_NAME)-cache""#));
    assert_eq!(env[0]["name"], names::POD_NAME_ENV, "a variable must be defined before it is referred to");
}

#[test]
fn other_dollars_reach_the_sidecar_as_they_are() {
    let mut facts = facts();
    let mut binding = (*facts.bindings[0]).clone();
    binding.spec.storage_entries = vec!["$(POD_NAME)".into(), r#""claim":"$(POD_NAME)-"#.into()];
    facts.bindings[0] = Arc::new(binding);
    let pod = inject(&fixture("ephemeral"), &facts, &settings()).unwrap().unwrap();
    let value = container(&pod, names::SIDECAR_CONTAINER)["env"][3]["value"].as_str().unwrap().to_owned();
    // What kubelet makes of it.
    let expanded = value.replace("$$", "\0").replace("$(POD_NAME)", "web-1").replace('\0', "$");
    let config: SidecarConfig = serde_json::from_str(&expanded).unwrap();
    assert_eq!(config.volumes[0].claim, "web-1-cache");
    assert_eq!(config.volumes[0].storage_entries, ["$(POD_NAME)", r#""claim":"$(POD_NAME)-"#]);
}

#[test]
fn each_profile_brings_its_own_credential_and_authorities() {
    let pod = injected(&fixture("job"));
    let config = config(&pod);
    let [shared, main] = config.profiles.as_slice() else { panic!("two profiles") };
    assert!(
        matches!(&shared.credential, Credential::TrustedProfile { token_path, .. } if token_path == "/cofferdam/credentials/0/token")
    );
    assert!(
        matches!(&main.credential, Credential::ApiKeyFile { path } if path == "/cofferdam/credentials/1/apiKey")
    );
    assert_eq!(shared.ca_file.as_deref(), Some("/cofferdam/ca/kms-security_shared.crt"));
    assert_eq!(main.ca_file.as_deref(), Some("/cofferdam/ca/kms-main.crt"));
    assert_eq!((shared.poll_seconds, main.poll_seconds), (10, 30), "a sidecar looks every 30 s at least");
    let no_secret = serde_json::to_string(&pod["spec"]["volumes"]).unwrap();
    assert_eq!(no_secret.matches("secretName").count(), 1);
}

#[test]
fn our_containers_find_everything_where_the_contract_says() {
    for name in FIXTURES {
        let pod = injected(&fixture(name));
        let paths = |name: &str| -> Vec<String> {
            let mounts = container(&pod, name)["volumeMounts"].as_array().unwrap();
            mounts.iter().map(|mount| mount["mountPath"].as_str().unwrap().to_owned()).collect()
        };
        let (sidecar, gate) = (paths(names::SIDECAR_CONTAINER), paths(names::GATE_CONTAINER));
        let parent = |file: &str| file.rsplit_once('/').unwrap().0.to_owned();
        for directory in [names::CTL_DIR, names::RUN_DIR, names::CA_DIR, &parent(names::TOKEN_FILE)] {
            assert!(sidecar.contains(&directory.to_owned()), "{name}: {directory}");
        }
        for volume in config(&pod).volumes {
            assert!(sidecar.contains(&format!("{}/{}", names::RAW_DIR, volume.name)));
            assert!(gate.contains(&format!("{}/{}", names::PLAIN_DIR, volume.name)));
        }
        assert!(gate.contains(&parent(names::GATE_KEY_FILE)));
        for profile in config(&pod).profiles {
            let path = profile.credential.path();
            assert!(sidecar.contains(&parent(path)), "{path}");
        }
    }
}

#[test]
fn a_pod_of_a_rewrap_job_is_left_to_its_policy() {
    let mut pod = fixture("statefulset");
    pod["metadata"]["labels"][REWRAP_LABEL] = json!("files");
    assert_eq!(inject(&pod, &facts(), &settings()), Ok(None));
}
