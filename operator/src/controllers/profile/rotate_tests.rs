//! The whole controller against devkms, over TLS, with an API server in memory.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use api::condition::types;
use axum::http::Method;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use devkms::{Config, Fault, FaultKind, Grant, Role, Seed, Server};
use k8s_openapi::jiff::SignedDuration;
use serde_json::{Value, json};

use super::*;
use crate::controllers::conditions::find;
use crate::controllers::sample::shared;
use fake_api::FakeApi;

const INSTANCE: &str = "5c6a1f0e-7d0b-4a55-9f3e-2b8d0c9e4a10";
const KEY: &str = "22222222-2222-4222-8222-222222222222";
const PROFILE: &str = "/apis/cofferdam.io/v1alpha1/namespaces/shop/kmsprofiles/main";
const DAY: u32 = 86_400;

/// What the operator may do with each admin credential, by the name of its Secret.
fn seed(age_in_days: i64) -> Seed {
    let mut seed = Seed::one_key(INSTANCE, KEY)
        .api_key("data", "data-key", Grant::role(Role::Reader))
        .api_key("reader", "reader-key", Grant::role(Role::Reader))
        .api_key("rotator", "rotator-key", Grant::actions(&["kms.secrets.rotate"]).on_key(KEY))
        .api_key("policies", "policies-key", Grant::actions(&["kms.policies.write"]).on_key(KEY));
    let made = Timestamp::now() - SignedDuration::from_hours(24 * age_in_days);
    seed.instances[0].keys[0].creation_date = Some(made.to_string());
    seed
}

struct Stage {
    kms: Server,
    fake: FakeApi,
    shared: Arc<Shared>,
    profile: Value,
}

impl Stage {
    /// A key of that age and a profile whose admin credential is the Secret of that name.
    async fn new(age_in_days: i64, admin: Value, rotation: Value) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let kms = Server::start(Config::ephemeral_tls(seed(age_in_days))).unwrap();
        let (fake, client) = FakeApi::start().await;
        for name in ["data", "reader", "rotator", "policies"] {
            let value = STANDARD.encode(format!("{name}-key"));
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": {"apiKey": value}});
            fake.put(&format!("/api/v1/namespaces/shop/secrets/{name}"), secret);
        }
        let ca = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kms-ca"}, "data": {"ca.crt": kms.ca_pem()},
        });
        fake.put("/api/v1/namespaces/shop/configmaps/kms-ca", ca);
        let url = kms.https_url();
        let profile = json!({
            "apiVersion": "cofferdam.io/v1alpha1", "kind": "KmsProfile",
            "metadata": {"name": "main", "namespace": "shop", "generation": 1},
            "spec": {
                "keyProtect": {"endpoint": url, "iamEndpoint": url, "instance": INSTANCE, "rootKey": KEY},
                "caBundle": {"configMap": "kms-ca"},
                "credentials": {"data": secret("data"), "admin": admin},
                "rotation": rotation,
            },
        });
        fake.put(PROFILE, profile.clone());
        Self { kms, fake, shared: Arc::new(shared(client)), profile }
    }

    /// One poll; the profile then has the status that was written, as a merge patch does it.
    async fn poll(&mut self) {
        let before = self.fake.asked(&Method::PATCH, "kmsprofiles/main/status").len();
        let profile: KmsProfile = serde_json::from_value(self.profile.clone()).unwrap();
        super::super::reconcile(Arc::new(profile), self.shared.clone()).await.unwrap();
        for (_, _, patch) in self.fake.asked(&Method::PATCH, "kmsprofiles/main/status").split_off(before) {
            json_patch::merge(&mut self.profile, &patch);
        }
    }

    fn status(&self) -> KmsProfileStatus {
        serde_json::from_value(self.profile["status"].clone()).unwrap()
    }

    /// Status and reason of `RotationManaged`.
    fn managed(&self) -> (String, String) {
        let status = self.status();
        let condition = find(&status.conditions, types::ROTATION_MANAGED).cloned().unwrap();
        (condition.status, condition.reason)
    }

    /// How often the KMS was asked for this, and by whom.
    fn asked(&self, action: &str) -> Vec<String> {
        let events = self.kms.audit().into_iter().filter(|event| event.action == action);
        events.map(|event| event.initiator.unwrap_or_default()).collect()
    }

    fn versions(&self) -> usize {
        self.status().versions.len()
    }

    fn events(&self, reason: &str) -> usize {
        self.fake.event_reasons().iter().filter(|one| *one == reason).count()
    }
}

fn secret(name: &str) -> Value {
    json!({"apiKeySecret": {"name": name}})
}

fn operator_monthly() -> Value {
    json!({"managed": true, "by": "Operator", "intervalMonths": 1})
}

fn pair(status: &str, reason: &str) -> (String, String) {
    (status.into(), reason.into())
}

#[tokio::test]
async fn an_old_key_is_rotated_once_with_the_admin_credential_alone() {
    let mut stage = Stage::new(31, secret("rotator"), operator_monthly()).await;
    stage.poll().await;
    assert_eq!(stage.managed(), pair("True", "RotationScheduled"));
    assert_eq!(stage.asked("kms.secrets.rotate"), ["rotator"]);
    assert_eq!((stage.events("RotatedByOperator"), stage.events("Rotated")), (1, 0));
    for _ in 0..3 {
        stage.poll().await;
    }
    assert_eq!((stage.events("RotatedByOperator"), stage.events("Rotated")), (1, 1));
    assert_eq!((stage.versions(), stage.asked("kms.secrets.rotate").len()), (2, 1));
    let rotation = stage.status().rotation.unwrap();
    assert_eq!(rotation.by, api::profile::RotatedBy::Operator);
    let in_a_month = Timestamp::now() + SignedDuration::from_hours(30 * 24);
    let next = rotation.next_rotation.unwrap().0;
    assert!(next.duration_since(in_a_month).abs() < SignedDuration::from_mins(1), "{next}");
}

#[tokio::test]
async fn a_young_key_is_left_alone() {
    let mut stage = Stage::new(29, secret("rotator"), operator_monthly()).await;
    stage.poll().await;
    assert_eq!(stage.managed(), pair("True", "RotationScheduled"));
    assert_eq!(stage.asked("kms.secrets.rotate"), [] as [&str; 0]);
}

#[tokio::test]
async fn a_reader_as_admin_is_refused_and_that_is_said_once() {
    let mut stage = Stage::new(31, secret("reader"), operator_monthly()).await;
    stage.poll().await;
    stage.poll().await;
    assert_eq!(stage.managed(), pair("False", "KeyAccessDenied"));
    assert_eq!((stage.versions(), stage.events("KeyAccessDenied")), (1, 1));
    let tries = stage.asked("kms.secrets.rotate").len();
    stage.poll().await;
    assert_eq!(stage.asked("kms.secrets.rotate").len(), tries, "no second try within minutes");

    // Another credential is another spec.
    stage.profile["spec"]["credentials"]["admin"] = secret("rotator");
    stage.profile["metadata"]["generation"] = json!(2);
    stage.poll().await;
    stage.poll().await;
    assert_eq!((stage.managed(), stage.versions()), (pair("True", "RotationScheduled"), 2));
    assert_eq!(stage.status().rotation.unwrap().retry_after, None);
}

#[tokio::test]
async fn without_an_admin_credential_or_its_secret_the_kms_is_never_asked() {
    for (admin, reason) in [(Value::Null, "AdminCredentialMissing"), (secret("absent"), "SecretMissing")] {
        let mut stage = Stage::new(31, admin, operator_monthly()).await;
        stage.poll().await;
        stage.poll().await;
        assert_eq!(stage.managed(), pair("False", reason));
        assert_eq!((stage.asked("kms.secrets.rotate").len(), stage.events(reason)), (0, 1));
    }
}

#[tokio::test]
async fn nothing_is_changed_on_a_look_that_failed() {
    for rotation in [operator_monthly(), json!({"managed": true})] {
        let mut stage = Stage::new(400, secret("rotator"), rotation).await;
        assert!(stage.kms.revoke_role("data"));
        stage.poll().await;
        assert_eq!(stage.managed(), pair("Unknown", "KeyUnknown"));
        assert!(stage.asked("kms.secrets.rotate").is_empty() && stage.asked("kms.policies.write").is_empty());
    }
}

#[tokio::test]
async fn a_kms_that_wants_more_time_is_waited_for() {
    let mut stage = Stage::new(31, secret("rotator"), operator_monthly()).await;
    let code = Some("KEY_ROTATION_NOT_PERMITTED".into());
    stage.kms.add_fault(Fault::new(&["rotate"], FaultKind::Status { status: 409, code, retry_after: None }));
    stage.poll().await;
    assert_eq!(stage.managed(), pair("True", "RotationWaits"));
    let wait = stage.status().rotation.unwrap().retry_after.unwrap().0.duration_since(Timestamp::now());
    assert!(wait > SignedDuration::from_mins(58) && wait <= SignedDuration::from_hours(1), "{wait}");
    stage.kms.clear_faults();
    stage.poll().await;
    assert_eq!((stage.managed(), stage.versions()), (pair("True", "RotationWaits"), 1));
    assert_eq!(stage.asked("kms.secrets.rotate").len(), 1);
}

#[tokio::test]
async fn a_rotation_whose_answer_is_lost_is_not_repeated() {
    let mut stage = Stage::new(31, secret("rotator"), operator_monthly()).await;
    stage.kms.add_fault(Fault::new(&["rotate"], FaultKind::Reset { after: true }));
    stage.poll().await;
    assert_eq!(stage.managed().0, "Unknown");
    stage.kms.clear_faults();
    stage.poll().await;
    assert_eq!((stage.managed(), stage.versions()), (pair("True", "RotationScheduled"), 2));
    assert_eq!(stage.asked("kms.secrets.rotate").len(), 1);
}

#[tokio::test]
async fn what_has_changed_since_the_first_look_counts() {
    let stage = Stage::new(31, secret("rotator"), operator_monthly()).await;
    let profile: KmsProfile = serde_json::from_value(stage.profile.clone()).unwrap();
    let stale = look::look(&stage.shared, &profile).await;
    let admin = stage.shared.connections.admin(&stage.shared.client, &profile).await.unwrap();
    admin.rotate(&kms::KeyRef(KEY.into()), &CallCtx::default()).await.unwrap();
    manage(&stage.shared, &profile, &stale, &KmsProfileStatus::default()).await.unwrap();
    assert_eq!(stage.asked("kms.secrets.rotate").len(), 1, "somebody else has rotated it");
}

#[tokio::test]
async fn the_kms_gets_a_policy_and_rotates_by_it() {
    let rotation = json!({"managed": true, "intervalMonths": 2});
    let mut stage = Stage::new(1, secret("policies"), rotation).await;
    for _ in 0..3 {
        stage.poll().await;
    }
    assert_eq!(stage.managed(), pair("True", "RotationPolicySet"));
    assert_eq!(stage.asked("kms.policies.write"), ["policies"], "set once");
    assert_eq!(stage.events("RotationPolicySet"), 1);
    stage.kms.advance(61 * DAY).unwrap();
    stage.poll().await;
    assert_eq!(stage.versions(), 2);
    assert_eq!(stage.asked("kms.secrets.rotate"), [] as [&str; 0], "the KMS did it itself");
}

#[tokio::test]
async fn a_credential_that_may_only_rotate_cannot_set_the_policy() {
    let mut stage = Stage::new(400, secret("rotator"), json!({"managed": true})).await;
    stage.poll().await;
    assert_eq!(stage.managed(), pair("False", "KeyAccessDenied"));
    assert_eq!((stage.asked("kms.secrets.rotate").len(), stage.events("KeyAccessDenied")), (0, 1));
}

#[tokio::test]
async fn what_was_said_goes_when_rotation_is_managed_no_more() {
    let mut stage = Stage::new(1, secret("rotator"), operator_monthly()).await;
    stage.poll().await;
    assert!(stage.status().rotation.is_some());
    stage.profile["spec"]["rotation"]["managed"] = json!(false);
    stage.poll().await;
    let status = stage.status();
    assert_eq!((status.rotation, find(&status.conditions, types::ROTATION_MANAGED)), (None, None));
}

#[tokio::test]
async fn a_status_that_says_it_already_is_not_written_again() {
    let mut stage = Stage::new(1, secret("rotator"), operator_monthly()).await;
    stage.poll().await;
    let patches = |stage: &Stage| stage.fake.asked(&Method::PATCH, "kmsprofiles/main/status").len();
    let before = patches(&stage);
    stage.poll().await;
    assert_eq!(patches(&stage), before + 1, "the poll's own, and none for the rotation");
}
