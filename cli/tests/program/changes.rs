//! `key rotate`, `key disable`, `key enable`.

use devkms::{Fault, FaultKind, Grant, Role};
use serde_json::json;

use crate::bench::{Bench, Grants, SOURCE};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_changed_without_a_yes() {
    let bench = Bench::start(Grants::default());
    for verb in ["rotate", "disable"] {
        let ran = bench.folder.run(&format!("key {verb} {SOURCE}")).await;
        assert_eq!((ran.code, ran.err.contains("--yes")), (64, true), "{}", ran.err);
        assert_eq!(bench.server.tally(verb).requests, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_reports_what_the_kms_says_afterwards_and_the_next_one_comes_too_early() {
    let bench = Bench::start(Grants::default());
    let ran = bench.folder.run(&format!("key rotate {SOURCE} --yes -o json")).await;
    let done = ran.json();
    assert_eq!((ran.code, &done["action"], &done["changed"]), (0, &json!("rotate"), &json!(true)), "{done}");
    assert_ne!(done["before"]["currentVersion"], done["after"]["currentVersion"]);
    assert!(done["after"]["rotatedAt"].is_string(), "{done}");

    let ran = bench.folder.run(&format!("key rotate {SOURCE} --yes --audit=@audit.jsonl")).await;
    assert_eq!(ran.code, 1);
    let until = ran.err.split("not before ").nth(1).unwrap().trim().to_owned();
    let rotated: jiff::Timestamp = done["after"]["rotatedAt"].as_str().unwrap().parse().unwrap();
    let until: jiff::Timestamp = until.parse().unwrap();
    assert_eq!(until.as_second() - rotated.as_second(), 3600, "an hour after the last one: {}", ran.err);
    assert!(ran.audit.contains(r#""op":"rotate","#) && ran.audit.contains("KmsTooEarly"), "{}", ran.audit);
    assert_eq!(bench.server.tally("rotate").requests, 2, "it is not tried again by itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_disabled_and_enabled_and_said_to_be_so() {
    let bench = Bench::start(Grants::default());
    let disabled = bench.folder.run(&format!("key disable {SOURCE} --yes")).await;
    assert_eq!(
        (disabled.code, disabled.out.contains("the KMS now says: Disabled")),
        (0, true),
        "{}",
        disabled.out
    );
    let again = bench.folder.run(&format!("key disable {SOURCE} --yes")).await;
    assert_eq!((again.code, again.out.contains("nothing to do")), (0, true), "{}{}", again.out, again.err);
    let early = bench.folder.run(&format!("key enable {SOURCE} --yes")).await;
    assert_eq!((early.code, early.err.contains("not before ")), (1, true), "{}", early.err);
    bench.server.advance(31).unwrap();
    let enabled = bench.folder.run(&format!("key enable {SOURCE} --yes")).await;
    assert_eq!(
        (enabled.code, enabled.out.contains("the KMS now says: Enabled")),
        (0, true),
        "{}",
        enabled.err
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_may_not_is_refused_and_a_lost_answer_is_no_failure() {
    let bench = Bench::start(Grants { admin: Grant::role(Role::Reader), ..Grants::default() });
    let ran = bench.folder.run(&format!("key rotate {SOURCE} --yes")).await;
    assert_eq!((ran.code, ran.err.contains("denied")), (77, true), "{}", ran.err);

    let bench = Bench::start(Grants::default());
    let lost = FaultKind::Reset { after: true };
    bench.server.add_fault(Fault::new(&["rotate"], lost));
    let ran = bench.folder.run(&format!("key rotate {SOURCE} --yes -o json")).await;
    assert_eq!(ran.code, 0, "the KMS did it: {}{}", ran.out, ran.err);
    assert_ne!(ran.json()["before"]["currentVersion"], ran.json()["after"]["currentVersion"]);

    bench.server.clear_faults();
    let down = FaultKind::Status { status: 503, code: None, retry_after: None };
    bench.server.add_fault(Fault::new(&["disable"], down));
    let ran = bench.folder.run(&format!("key disable {SOURCE} --yes")).await;
    assert_eq!((ran.code, ran.err.contains("is not known")), (69, true), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_without_an_admin_credential_changes_nothing() {
    let bench = Bench::start(Grants::default());
    bench.profile(|profile| {
        profile["spec"]["credentials"].as_object_mut().unwrap().remove("admin");
    });
    let ran = bench.folder.run(&format!("key rotate {SOURCE} --yes")).await;
    assert_eq!((ran.code, ran.err.contains("credentials.admin")), (78, true), "{}", ran.err);
}
