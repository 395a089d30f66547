//! The audit trail: what our programs say of their use of a key is what the KMS says, and none of it is secret.

use std::collections::{BTreeMap, BTreeSet};

use contract::audit::{Record, SCHEMA};
use contract::names::{GATE_CONTAINER, SIDECAR_CONTAINER, SIDECAR_METRICS_PORT};
use stage::manifests::{pod, protect};
use stage::root_key::{ADMIN_API_KEY, DATA_API_KEY, REWRAP_API_KEY};
use stage::{RootKey, Stage, soon, wait};

/// Of a file of the application.
const NAME: &str = "payroll-that-nobody-may-know-of";
const CONTENT: &str = "salaries that nobody may read";

/// The records among the lines of a log.
fn records(log: &str) -> Vec<Record> {
    log.lines().filter(|line| line.contains(SCHEMA)).map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What a container has said, and one before it that was restarted.
fn log(stage: &Stage, pod: &str, container: &str) -> String {
    stage.kubectl(&["logs", pod, "--container", container])
}

/// The logs of all programs of the release.
fn release_logs(stage: &Stage) -> String {
    let all = ["--namespace", "cofferdam-system", "logs", "--tail=-1", "--prefix", "--selector"];
    let of = |selector: &str| stage.try_kubectl(&[&all[..], &[selector]].concat()).unwrap();
    of("app.kubernetes.io/component in (operator, node)")
}

#[test]
fn every_use_of_the_key_is_told_as_the_kms_tells_it_and_nothing_secret_is() {
    let stage = Stage::new("audit");
    let key = RootKey::create();
    protect(&stage, &key);
    stage.claim("files", 64);
    let script = format!("echo '{CONTENT}' > /data/{NAME}; sync; sleep infinity");
    stage.run("app", &pod("app", "files", &script));
    soon("the file is there", || stage.try_exec("app", &format!("test -s /data/{NAME}")));
    // The sidecar's own word: the operator looks at the key at other times.
    let until_told = |operation: &str| {
        soon(&format!("the sidecar's record of {operation}"), || {
            let told = records(&log(&stage, "app", SIDECAR_CONTAINER));
            let said = told.iter().any(|record| record.event.operation == operation);
            wait::expect(said, "no such record").map(|()| told)
        })
    };
    key.set_enabled(false);
    until_told("suspend");
    key.set_enabled(true);
    let told = until_told("resume");
    for operation in ["describe", "wrap", "unwrap", "authenticate", "suspend", "resume"] {
        assert!(told.iter().any(|record| record.event.operation == operation), "{operation}: {told:?}");
    }
    let suspended = told.iter().find(|record| record.event.operation == "suspend").unwrap();
    assert_eq!(suspended.event.outcome, "KeyDisabled");
    for Record { who, event, .. } in &told {
        let profile = format!("{}/main", stage.name);
        let expected = ("sidecar", Some("app"), Some(stage.name.as_str()), Some(profile.as_str()));
        let said = (&*who.program, who.pod.as_deref(), who.namespace.as_deref(), who.profile.as_deref());
        assert_eq!(said, expected);
        assert_eq!((who.binding.as_deref(), who.claim.as_deref()), (Some("app"), Some("files")));
        if ["wrap", "unwrap", "rewrap"].contains(&&*event.operation) {
            let subject = &event.subject;
            assert!(subject.volume.is_some() && subject.object.is_some(), "{event:?}");
            assert_eq!(event.exchange.as_ref().unwrap().root_key.as_deref(), Some(key.id.as_str()));
        }
    }
    joins(&stage, &key, &told);
    nothing_secret(&stage);
}

/// Whatever the KMS carried out with a key for the sidecar, the sidecar or the operator has told, under the same id.
fn joins(stage: &Stage, key: &RootKey, told: &[Record]) {
    let mut by_id = BTreeMap::<String, BTreeSet<String>>::new();
    let operator = release_logs(stage);
    let operator: String = operator
        .lines()
        .filter_map(|line| line.split_once('{'))
        .map(|(_, rest)| format!("{{{rest}\n"))
        .collect();
    for record in told.iter().chain(&records(&operator)) {
        if let Some(exchange) = &record.event.exchange {
            let operations = by_id.entry(exchange.correlation_id.clone()).or_default();
            operations.insert(record.event.operation.clone().into_owned());
        }
    }
    let seen = key.kms.audit();
    let mine = seen.iter().filter(|event| event.initiator.as_deref() == Some("data") && event.key.is_some());
    let mut count = 0;
    for event in mine {
        let operation = if event.operation == "metadata" { "describe" } else { event.operation };
        let operations = by_id.get(&event.correlation_id);
        assert!(operations.is_some_and(|all| all.contains(operation)), "nobody told of {event:?}");
        count += 1;
    }
    assert!(count > 5, "the KMS saw {count} calls only");
}

/// All that a person or a program of the cluster can read, but Secrets.
fn nothing_secret(stage: &Stage) {
    let metrics = format!("/api/v1/namespaces/{}/pods/app:{SIDECAR_METRICS_PORT}/proxy/metrics", stage.name);
    let kinds = "events,pods,configmaps,kmsprofiles,storagebindings,encryptedvolumes,persistentvolumeclaims";
    let texts = [
        ("the sidecar's log", log(stage, "app", SIDECAR_CONTAINER)),
        ("the gate's log", log(stage, "app", GATE_CONTAINER)),
        ("the logs of operator and node driver", release_logs(stage)),
        ("the sidecar's metrics", stage.kubectl(&["get", "--raw", &metrics])),
        ("objects and events", stage.kubectl(&["get", kinds, "--output", "json"])),
    ];
    for (what, text) in &texts {
        assert!(!text.is_empty(), "{what} says nothing");
        for secret in [DATA_API_KEY, REWRAP_API_KEY, ADMIN_API_KEY, CONTENT, "eyJhbGciOi"] {
            // The pod's own command holds the content, because this test wrote it there.
            let own = *what == "objects and events" && secret == CONTENT;
            assert!(own || !text.contains(secret), "{what} tells {secret}");
        }
        assert!(*what == "objects and events" || !text.contains(NAME), "{what} names a file");
    }
}
