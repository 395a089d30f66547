//! The chart, rendered by Helm, against the names and settings that the programs were built with.
//!
//! Helm is the one in `COFFERDAM_HELM`, in the cache of `cargo xtask`, or on the path. Without one the tests say that they were
//! skipped; where `CI` is set they fail.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use clap::{Args, FromArgMatches};
use contract::names;
use operator::settings::Settings;
use serde_json::Value;

const IMAGE: &str = "registry.example/cofferdam@sha256:aa";

fn helm() -> Option<PathBuf> {
    if let Some(given) = std::env::var_os("COFFERDAM_HELM") {
        return Some(given.into());
    }
    let cache = std::env::var_os("COFFERDAM_CACHE").map(PathBuf::from).or_else(|| {
        let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        base.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
            .map(|base| base.join("cofferdam"))
    });
    let built = std::fs::read_dir(cache?.join("go")).into_iter().flatten().flatten();
    let built = built.map(|entry| entry.path().join("helm")).find(|helm| helm.is_file());
    built.or_else(|| {
        std::env::split_paths(&std::env::var_os("PATH")?)
            .map(|dir| dir.join("helm"))
            .find(|helm| helm.is_file())
    })
}

/// Runs `helm template`; none where there is no Helm.
fn template(values: &[&str]) -> Option<Output> {
    let Some(helm) = helm() else {
        assert!(
            std::env::var_os("CI").is_none(),
            "no helm: set COFFERDAM_HELM, or run cargo xtask cluster up once"
        );
        eprintln!("SKIPPED: no helm: set COFFERDAM_HELM, or run cargo xtask cluster up once");
        return None;
    };
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/cofferdam");
    let mut command = Command::new(helm);
    command.args(["template", "cofferdam"]).arg(chart).args(["--namespace", "cofferdam-system"]);
    for value in values.iter().copied().chain([format!("image.name={IMAGE}").as_str()]) {
        command.args(["--set", value]);
    }
    Some(command.output().unwrap())
}

fn render(values: &[&str]) -> Option<Vec<Value>> {
    let output = template(values)?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let documents = text.split("\n---\n").filter(|document| document.contains("kind:"));
    Some(
        documents
            .map(|document| serde_saphyr::from_str(document).unwrap_or_else(|e| panic!("{e}\n{document}")))
            .collect(),
    )
}

fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let is_it = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    objects.iter().find(is_it).unwrap_or_else(|| panic!("no {kind} {name}"))
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

#[test]
fn names_are_those_of_the_contract() {
    let Some(objects) = render(&[]) else { return };
    let driver = find(&objects, "CSIDriver", names::CSI_DRIVER);
    assert_eq!(driver["spec"]["volumeLifecycleModes"], serde_json::json!(["Ephemeral"]));
    assert_eq!(driver["spec"]["fsGroupPolicy"], "None");

    let service = find(&objects, "Service", "cofferdam-operator");
    let ports: Vec<_> =
        service["spec"]["ports"].as_array().unwrap().iter().map(|port| port["port"].as_u64()).collect();
    assert_eq!(ports, [Some(443), Some(u64::from(names::CHECK_IN_PORT))]);

    let webhook = &find(&objects, "MutatingWebhookConfiguration", "cofferdam")["webhooks"][0];
    assert_eq!(webhook["failurePolicy"], "Fail");
    assert_eq!(webhook["reinvocationPolicy"], "IfNeeded");
    assert_eq!(webhook["namespaceSelector"]["matchLabels"][names::INJECTION_LABEL], names::INJECTION_ENABLED);
    let excluded = webhook["namespaceSelector"]["matchExpressions"][0]["values"].to_string();
    assert!(excluded.contains("cofferdam-system") && excluded.contains("kube-system"), "{excluded}");
    for webhook in
        find(&objects, "ValidatingWebhookConfiguration", "cofferdam")["webhooks"].as_array().unwrap()
    {
        assert_eq!(webhook["failurePolicy"], "Ignore");
    }
}

#[test]
fn policies_speak_of_the_same_names_as_injection() {
    let Some(objects) = render(&[]) else { return };
    let text = |name: &str| find(&objects, "ValidatingAdmissionPolicy", name)["spec"].to_string();
    let pods = text("cofferdam-pods");
    for name in [
        names::SIDECAR_CONTAINER,
        names::GATE_CONTAINER,
        names::JOB_CONTAINER,
        names::PLAIN_VOLUME_PREFIX,
        names::SYSTEM_VOLUME_PREFIX,
        names::CSI_DRIVER,
        names::ATTRIBUTE_VOLUME,
        names::SIDECAR_PROGRAM,
        names::INJECTION_LABEL,
        names::CONFIG_ENV,
        names::POD_UID_ENV,
        names::RUN_VOLUME,
        names::REWRAP_LABEL,
        IMAGE,
    ] {
        assert!(pods.contains(&format!("'{name}'")), "{name}");
    }
    assert!(text("cofferdam-claims").contains(names::ATTRIBUTE_VOLUME));
    assert!(
        text("cofferdam-claims")
            .contains("(has(params.spec.persistentVolume) && params.spec.persistentVolume != null) ||")
    );
    let rewrap = text("cofferdam-rewrap");
    for name in [names::REWRAP_LABEL, names::JOB_CONTAINER, names::REWRAP_JOB_PREFIX, IMAGE] {
        assert!(rewrap.contains(&format!("'{name}'")), "{name}");
    }
    assert!(text("cofferdam-exec").contains(&format!("'{}'", names::REWRAP_JOB_PREFIX)));
    assert!(
        text("cofferdam-rewrap-jobs").contains("system:serviceaccount:cofferdam-system:cofferdam-operator")
    );
}

/// The expressions of a policy's validations.
fn expressions(objects: &[Value], policy: &str) -> Vec<String> {
    let policy = find(objects, "ValidatingAdmissionPolicy", policy);
    let validations = policy["spec"]["validations"].as_array().unwrap().iter();
    validations.map(|validation| validation["expression"].as_str().unwrap().to_owned()).collect()
}

/// Whether one of them speaks of all of these.
fn one_says(expressions: &[String], words: &[&str]) -> bool {
    expressions.iter().any(|text| words.iter().all(|word| text.contains(word)))
}

#[test]
fn only_the_sidecar_holds_a_token_that_speaks_for_the_pods_volumes() {
    let Some(objects) = render(&[]) else { return };
    let token = format!("v.name == '{}'", names::TOKEN_VOLUME);
    let audience = format!("s.?serviceAccountToken.?audience.orValue('') != '{}'", names::TOKEN_AUDIENCE);
    let words = [token.as_str(), "v.?projected.?sources", &audience];
    assert!(one_says(&expressions(&objects, "cofferdam-pods"), &words));
}

#[test]
fn what_a_volume_of_our_driver_is_follows_from_its_name() {
    let Some(objects) = render(&[]) else { return };
    let is = |name: &str, kind: &str| format!("{name} && v.csi.volumeAttributes[k] == '{kind}'");
    let plain = is(&format!("v.name.startsWith('{}')", names::PLAIN_VOLUME_PREFIX), names::KIND_PLAIN);
    let ctl = is(&format!("v.name == '{}'", names::CTL_VOLUME), names::KIND_CTL);
    let run = is(&format!("v.name == '{}'", names::RUN_VOLUME), names::KIND_RUN);
    let kind = format!("k == '{}'", names::ATTRIBUTE_KIND);
    assert!(one_says(&expressions(&objects, "cofferdam-pods"), &[&plain, &ctl, &run, &kind]));
}

#[test]
fn the_resources_of_our_containers_cannot_be_changed_in_a_live_pod() {
    let Some(objects) = render(&[]) else { return };
    let policy = find(&objects, "ValidatingAdmissionPolicy", "cofferdam-live-pods");
    let resources = policy["spec"]["matchConstraints"]["resourceRules"][0]["resources"].to_string();
    assert!(resources.contains("pods/resize"), "{resources}");
    let words = [
        "c.?resources.?limits",
        "c.?resources.?requests",
        "oldObject.spec.containers",
        "oldObject.spec.?initContainers",
    ];
    assert!(one_says(&expressions(&objects, "cofferdam-live-pods"), &words));
}

#[test]
fn a_release_opens_the_claim_only_while_the_operator_says_that_it_is_of_this_volume() {
    let Some(objects) = render(&[]) else { return };
    let text = find(&objects, "ValidatingAdmissionPolicy", "cofferdam-claims")["spec"].to_string();
    assert!(text.contains("params.?status.?phase.orValue('') == 'Released'"));
    assert!(text.contains("variables.released || variables.rewraps"));
}

#[test]
fn identity_tokens_go_to_the_vendors_own_services_unless_told_otherwise() {
    let endpoints = |values: &[&str]| {
        let objects = render(values)?;
        let deployment = find(&objects, "Deployment", "cofferdam-operator");
        let variables = deployment["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
        let it = variables.iter().find(|one| one["name"] == "COFFERDAM_IDENTITY_TOKEN_ENDPOINTS").unwrap();
        Some(it["value"].as_str().unwrap().to_owned())
    };
    let Some(default) = endpoints(&[]) else { return };
    // As the program has them itself.
    let command = Settings::augment_args(clap::Command::new("operator"));
    let given = command.get_matches_from(["operator", "--image", "i", "--operator-url", "https://o"]);
    let settings = Settings::from_arg_matches(&given).unwrap();
    assert_eq!(default, settings.identity_token_endpoints.join(","));
    assert!(default.starts_with("https://iam.cloud.ibm.com,https://sts.*.amazonaws.com,"), "{default}");
    let two = endpoints(&["operator.identityTokenEndpoints={https://a.example,https://b.example}"]).unwrap();
    assert_eq!(two, "https://a.example,https://b.example");
}

#[test]
fn every_policy_is_bound_in_all_namespaces_and_denies() {
    let Some(objects) = render(&[]) else { return };
    let policies: BTreeSet<_> = of_kind(&objects, "ValidatingAdmissionPolicy")
        .iter()
        .map(|policy| {
            assert_eq!(policy["spec"]["failurePolicy"], "Fail");
            policy["metadata"]["name"].as_str().unwrap().to_owned()
        })
        .collect();
    let bound: BTreeSet<_> = of_kind(&objects, "ValidatingAdmissionPolicyBinding")
        .iter()
        .map(|binding| {
            assert_eq!(binding["spec"]["validationActions"], serde_json::json!(["Deny"]));
            assert!(binding["spec"].get("matchResources").is_none(), "bound everywhere");
            binding["spec"]["policyName"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(policies, bound);
    assert_eq!(policies.len(), 6);
}

#[test]
fn an_image_of_an_upgrade_is_accepted_by_policies_and_node_driver() {
    let Some(objects) = render(&["policies.additionalImages={old:1}"]) else { return };
    for policy in ["cofferdam-pods", "cofferdam-rewrap"] {
        let text = find(&objects, "ValidatingAdmissionPolicy", policy)["spec"].to_string();
        assert!(text.contains(&format!("['{IMAGE}', 'old:1']")), "{policy}");
    }
    let node = find(&objects, "DaemonSet", "cofferdam-node")["spec"].to_string();
    assert!(node.contains(&format!("{IMAGE},old:1")));
}

#[test]
fn the_operator_knows_every_setting_that_the_chart_gives_it() {
    let Some(objects) = render(&[]) else { return };
    let command = Settings::augment_args(clap::Command::new("run"));
    let known: BTreeSet<_> = command
        .get_arguments()
        .filter_map(|argument| argument.get_env()?.to_str())
        .map(str::to_owned)
        .collect();
    let container =
        &find(&objects, "Deployment", "cofferdam-operator")["spec"]["template"]["spec"]["containers"][0];
    for variable in container["env"].as_array().unwrap() {
        let name = variable["name"].as_str().unwrap();
        assert!(name == "RUST_LOG" || known.contains(name), "{name} is no setting");
    }
}

#[test]
fn the_operator_is_restricted_and_always_has_a_second_replica() {
    let Some(objects) = render(&[]) else { return };
    let deployment = find(&objects, "Deployment", "cofferdam-operator");
    assert!(deployment["spec"]["replicas"].as_u64().unwrap() >= 2);
    find(&objects, "PodDisruptionBudget", "cofferdam-operator");
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["containers"][0]["securityContext"]["capabilities"]["drop"][0], "ALL");
    // The operator takes up to 8 s for a decision.
    for wrong in [
        "operator.replicas=1",
        "node.kubeletRoot=relative",
        "unknown=1",
        "webhook.timeoutSeconds=8",
        "operator.identityTokenEndpoints={http://iam.example}",
    ] {
        let output = template(&[wrong]).unwrap();
        assert!(!output.status.success(), "{wrong} was accepted");
    }
}

#[test]
fn no_role_has_a_wildcard_and_secrets_are_never_listed() {
    let Some(objects) = render(&[]) else { return };
    for role in of_kind(&objects, "ClusterRole").into_iter().chain(of_kind(&objects, "Role")) {
        for rule in role["rules"].as_array().unwrap() {
            assert!(!rule.to_string().contains('*'), "{rule}");
            let secrets = rule["resources"].to_string().contains("\"secrets\"");
            let verbs = rule["verbs"].to_string();
            assert!(!secrets || !(verbs.contains("list") || verbs.contains("watch")), "{rule}");
        }
    }
}

#[test]
fn the_operator_may_see_snapshots_and_never_change_them() {
    let Some(objects) = render(&[]) else { return };
    let role = find(&objects, "ClusterRole", "cofferdam-operator");
    let of_snapshots = |rule: &&Value| rule.to_string().contains("snapshot");
    let rules: Vec<_> = role["rules"].as_array().unwrap().iter().filter(of_snapshots).collect();
    let [rule] = rules.as_slice() else { panic!("one rule: {rules:?}") };
    assert_eq!(rule["apiGroups"], serde_json::json!(["snapshot.storage.k8s.io"]));
    assert_eq!(rule["resources"], serde_json::json!(["volumesnapshots"]));
    assert_eq!(rule["verbs"], serde_json::json!(["list"]));
}

#[test]
fn the_custom_resources_stay_when_the_release_goes_unless_told_otherwise() {
    let Some(objects) = render(&[]) else { return };
    let crds = of_kind(&objects, "CustomResourceDefinition");
    assert_eq!(crds.len(), 3);
    assert!(crds.iter().all(|crd| crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"));
    assert!(of_kind(&render(&["crds.install=false"]).unwrap(), "CustomResourceDefinition").is_empty());
}
