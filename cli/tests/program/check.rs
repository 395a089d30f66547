//! `kms check`, with a manifest and files, against Key Protect as `devkms` plays it.

use devkms::{Config, Fault, FaultKind, Grant, Role, Seed, Server};
use serde_json::json;

use crate::bench::{Bench, Grants, INSTANCE, KEY, SOURCE};

fn lines(about: &str, checks: &[&str], verdict: &str) -> Vec<(String, String, String)> {
    checks.iter().map(|check| (about.into(), (*check).into(), verdict.into())).collect()
}

const WAY: [&str; 4] = ["endpoint", "tls", "identity", "describe"];

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_that_is_right_is_ok_in_every_line() {
    let bench = Bench::start(Grants::default());
    let ran = bench.check().await;
    let expected = [
        lines("data", &WAY, "ok"),
        lines(
            "data",
            &["key state", "key versions", "wrap", "unwrap", "rewrap", "no rotate", "no disable"],
            "ok",
        ),
        lines("rewrap", &WAY, "ok"),
        lines("rewrap", &["rewrap", "no unwrap", "no rotate", "no disable"], "ok"),
        lines("admin", &WAY, "ok"),
        lines("admin", &["rotate", "rotation policy", "disable"], "ok"),
    ]
    .concat();
    assert_eq!(ran.lines(), expected, "{}", ran.out);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let report = ran.json();
    assert_eq!(
        (&report["version"], &report["kind"], &report["verdict"]),
        (&json!(1), &json!("KmsCheck"), &json!("ok"))
    );
    assert_eq!((&report["profile"], &report["rootKey"]), (&json!("shop/main"), &json!(KEY)));

    let ran = bench.folder.run(&format!("kms check main {SOURCE}")).await;
    assert!(ran.out.contains("26 ok, 0 warning, 0 failed, 0 unknown"), "{}", ran.out);
    assert!(!ran.out.contains('\x1b'), "no colours where there is no terminal");
    assert_eq!(bench.server.tally("rotate").statuses.get(&204), None, "nothing was rotated");
    assert_eq!(bench.server.tally("disable").requests, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_credential_that_is_manager_and_a_rewrap_credential_that_is_reader_are_too_much() {
    let all = Grant::role(Role::Manager);
    let bench = Bench::start(Grants { data: all, rewrap: Grant::role(Role::Reader), ..Grants::default() });
    let ran = bench.check().await;
    for (about, check) in [("data", "no rotate"), ("data", "no disable"), ("rewrap", "no unwrap")] {
        assert_eq!(ran.verdict(about, check), "failed", "{}", ran.out);
    }
    assert!(ran.text("data", "no rotate").contains("role Reader on this key"));
    assert_eq!((ran.verdict("rewrap", "no rotate"), ran.code), ("ok".into(), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_service_leaves_open_is_unknown_and_not_ok() {
    let bench = Bench::start(Grants { data: Grant::role(Role::Writer), ..Grants::default() });
    let ran = bench.check().await;
    assert_eq!(
        ran.verdict("data", "no rotate"),
        "unknown",
        "a Writer may rotate, and nothing harmless proves it"
    );
    assert_eq!((ran.verdict("data", "no disable"), ran.code), ("ok".into(), 75));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_that_is_missing_is_a_failed_line_that_says_what_to_give() {
    let rewrap = Grant::actions(&["kms.secrets.readmetadata"]);
    let data = Grant::actions(&["kms.secrets.readmetadata", "kms.secrets.wrap", "kms.secrets.rewrap"]);
    let bench = Bench::start(Grants { data, rewrap, admin: Grant::role(Role::Reader) });
    let ran = bench.check().await;
    assert_eq!((ran.verdict("data", "wrap"), ran.verdict("data", "unwrap")), ("ok".into(), "failed".into()));
    assert!(ran.text("data", "unwrap").contains("role Reader"), "{}", ran.out);
    assert_eq!(ran.verdict("rewrap", "rewrap"), "failed");
    assert!(ran.text("rewrap", "rewrap").contains("kms.secrets.rewrap"), "{}", ran.out);
    assert_eq!(ran.verdict("admin", "rotate"), "failed");
    assert_eq!(ran.verdict("admin", "rotation policy"), "failed");
    assert_eq!(ran.verdict("data", "key versions"), "warning", "they may not be listed");
    assert_eq!(ran.code, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_credential_needs_only_what_the_profile_asks_of_it() {
    let admin = || Grant::actions(&["kms.secrets.readmetadata", "kms.policies.read", "kms.policies.write"]);
    let bench = Bench::start(Grants { admin: admin(), ..Grants::default() });
    let ran = bench.check().await;
    assert_eq!(
        (ran.verdict("admin", "rotate"), ran.verdict("admin", "rotation policy")),
        ("ok".into(), "ok".into())
    );
    bench.profile(|profile| profile["spec"]["rotation"]["by"] = "Operator".into());
    let ran = bench.check().await;
    assert_eq!((ran.verdict("admin", "rotate"), ran.code), ("failed".into(), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_key_is_said_to_be_disabled_and_nobody_to_be_denied() {
    let bench = Bench::start(Grants::default());
    assert_eq!(bench.folder.run(&format!("key disable --yes {SOURCE}")).await.code, 0);
    let ran = bench.check().await;
    assert_eq!((ran.verdict("data", "key state"), ran.code), ("failed".into(), 1));
    assert!(ran.text("data", "key state").contains("until its owner enables it"));
    for (about, check) in
        [("data", "wrap"), ("data", "unwrap"), ("rewrap", "no unwrap"), ("data", "no disable")]
    {
        assert_eq!(ran.verdict(about, check), "unknown", "{about} {check}: {}", ran.out);
    }
    let denials = ["denied", "denies", "may not wrap", "may not unwrap"];
    assert!(denials.iter().all(|text| !ran.out.contains(text)), "{}", ran.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kms_that_is_away_leaves_everything_unknown() {
    let Bench { server, folder } = Bench::start(Grants::default());
    drop(server);
    let ran = folder.run(&format!("kms check {SOURCE} --output json")).await;
    assert!(ran.lines().iter().all(|line| line.2 == "unknown"), "{}", ran.out);
    assert_eq!(ran.code, 69);
    assert!(!ran.out.contains("denied"), "{}", ran.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_in_the_middle_is_no_missing_permission() {
    let bench = Bench::start(Grants::default());
    for operation in ["wrap", "rotate"] {
        let kind = FaultKind::Status { status: 503, code: None, retry_after: None };
        bench.server.add_fault(Fault::new(&[operation], kind));
    }
    let ran = bench.check().await;
    for (about, check) in
        [("data", "wrap"), ("data", "unwrap"), ("data", "no rotate"), ("rewrap", "no unwrap")]
    {
        assert_eq!(ran.verdict(about, check), "unknown", "{about} {check}: {}", ran.out);
    }
    assert_eq!((ran.verdict("data", "describe"), ran.code), ("ok".into(), 69));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_authority_fails_and_no_secret_is_sent() {
    let bench = Bench::start(Grants::default());
    let other = Server::start(Config::ephemeral_tls(Seed::one_key(INSTANCE, KEY))).unwrap();
    bench.folder.write("ca.crt", other.ca_pem().unwrap());
    let ran = bench.check().await;
    assert_eq!(
        (ran.verdict("data", "tls"), ran.verdict("data", "identity")),
        ("failed".into(), "unknown".into())
    );
    assert!(ran.text("data", "tls").contains("spec.caBundle"), "{}", ran.out);
    assert_eq!((ran.code, bench.server.tally("token").requests), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_api_key_fails_at_the_identity() {
    let mut bench = Bench::start(Grants::default());
    bench.folder.secret("data", "another-api-key-that-nobody-may-see");
    let ran = bench.check().await;
    assert_eq!((ran.verdict("data", "tls"), ran.verdict("data", "identity")), ("ok".into(), "failed".into()));
    assert_eq!(
        (ran.verdict("data", "wrap"), ran.verdict("rewrap", "identity")),
        ("unknown".into(), "ok".into())
    );
    assert_eq!((ran.verdict("rewrap", "no unwrap"), ran.code), ("unknown".into(), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_not_declared_are_named() {
    let bench = Bench::start(Grants::default());
    bench.profile(|profile| {
        let credentials = profile["spec"]["credentials"].as_object_mut().unwrap();
        credentials.retain(|name, _| name == "data");
    });
    let ran = bench.check().await;
    assert_eq!(
        (ran.verdict("rewrap", "declared"), ran.verdict("admin", "declared")),
        ("warning".into(), "failed".into())
    );
    bench.profile(|profile| {
        profile["spec"]["rotation"]["managed"] = false.into();
        let credentials = profile["spec"]["credentials"].as_object_mut().unwrap();
        credentials.retain(|name, _| name == "data");
    });
    let ran = bench.check().await;
    assert_eq!(ran.code, 0, "a warning is no failure: {}", ran.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_had_is_said_and_is_not_ok() {
    let bench = Bench::start(Grants::default());
    let ran = bench
        .folder
        .run("kms check --file @profile.yaml --ca-file @ca.crt --secret data=@missing -o json")
        .await;
    assert_eq!(ran.verdict("data", "credential"), "failed", "{}", ran.out);
    assert_eq!(ran.verdict("rewrap", "credential"), "failed", "there is no kubeconfig: {}", ran.out);
    bench.profile(|profile| {
        profile["spec"]["credentials"] = json!({"data": {"trustedProfile": {"id": "Profile-1"}}});
        profile["spec"]["rotation"]["managed"] = false.into();
    });
    let ran = bench.folder.run("kms check --file @profile.yaml --ca-file @ca.crt -o json").await;
    assert!(ran.text("data", "credential").contains("--service-account data=NAME"), "{}", ran.out);
    assert_eq!((ran.verdict("data", "credential"), ran.code), ("unknown".into(), 75));
    for audience in ["cofferdam", "https://kubernetes.default.svc.cluster.local"] {
        bench.profile(|profile| {
            let credential = json!({"trustedProfile": {"id": "Profile-1", "audience": audience}});
            profile["spec"]["credentials"] = json!({"data": credential});
        });
        let ran = bench
            .folder
            .run("kms check --file @profile.yaml --ca-file @ca.crt --service-account a -o json")
            .await;
        assert_eq!((ran.verdict("data", "credential"), ran.code), ("failed".into(), 1), "{audience}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_is_audited_on_request_in_a_sidecars_form() {
    let bench = Bench::start(Grants::default());
    let ran = bench.folder.run(&format!("kms check {SOURCE} --audit=@audit.jsonl")).await;
    assert_eq!(ran.err, "");
    let events: Vec<serde_json::Value> =
        ran.audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let wrap = events.iter().find(|event| event["op"] == "wrap").unwrap();
    for field in [
        "timestamp",
        "level",
        "message",
        "provider",
        "key",
        "outcome",
        "version",
        "latency_ms",
        "correlation_id",
    ] {
        assert!(!wrap[field].is_null(), "{field}: {wrap}");
    }
    assert_eq!((&wrap["target"], &wrap["key"]), (&json!("cofferdam::audit"), &json!(KEY)));
    let id = wrap["correlation_id"].as_str().unwrap();
    let vendors = bench.server.audit();
    let theirs = vendors.iter().find(|event| event.correlation_id == id).unwrap();
    assert_eq!(theirs.operation, "wrap");
    let denied = events.iter().find(|event| event["outcome"] == "KeyAccessDenied").unwrap();
    assert_eq!(denied["op"], "unwrap", "the rewrap credential's");
    assert_eq!(events.iter().filter(|event| event["op"] == "permissions").count(), 7);

    let ran = bench.folder.run(&format!("kms check {SOURCE} --audit")).await;
    assert!(ran.err.lines().count() > 10, "{}", ran.err);
    let ran = bench.folder.run(&format!("kms check {SOURCE}")).await;
    assert_eq!(ran.err, "");
}
