//! Against a real OpenBao server, with the policies that people are told to use, and with others.

use providers::{Bench, OpenBao};
use serde_json::json;

use crate::run::Folder;

const SOURCE: &str = "--file @profile.yaml --allow-loopback-http --secret data=@data --secret rewrap=@rewrap --secret admin=@admin";

/// A folder with a profile, and a token for each of its credentials.
async fn folder(bao: &OpenBao) -> Folder {
    let admin = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/openbao/admin.hcl");
    bao.set_policy("admin", &std::fs::read_to_string(admin).unwrap()).await;
    let mut folder = Folder::new();
    for role in ["data", "rewrap", "admin"] {
        folder.secret(role, &bao.token(role, "1h", true).await);
    }
    let secret = |name: &str| json!({"tokenSecret": {"name": name}});
    let transit = json!({"endpoint": format!("http://{}", bao.server.at), "namespace": bao.namespace, "key": "storage"});
    let profile = json!({
        "apiVersion": "cofferdam.io/v1alpha1", "kind": "KmsProfile", "metadata": {"name": "main", "namespace": "shop"},
        "spec": {
            "transit": transit,
            "credentials": {"data": secret("data"), "rewrap": secret("rewrap"), "admin": secret("admin")},
            "rotation": {"managed": true},
        },
    });
    folder.write("profile.yaml", &profile.to_string());
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policies_of_the_examples_pass_and_wider_ones_do_not() {
    let Some(bao) = OpenBao::start(false).await else { return };
    let folder = folder(&bao).await;
    let ran = folder.run(&format!("kms check {SOURCE} -o json")).await;
    let plain = ran.lines().into_iter().filter(|line| line.1 != "tls");
    for (about, check, verdict) in plain {
        assert_eq!(verdict, "ok", "{about} {check}: {}", ran.out);
    }
    assert_eq!((ran.verdict("data", "tls"), ran.code), ("warning".into(), 0), "it is plain http");
    assert!(ran.text("data", "key versions").contains("current 1, never rotated, 1 version"), "{}", ran.out);
    assert!(ran.text("admin", "disable").contains("may not"), "{}", ran.out);

    let all = r#"path "transit/*" { capabilities = ["create", "read", "update", "delete", "list"] }"#;
    bao.set_policy("data", all).await;
    bao.set_policy("rewrap", all).await;
    let ran = folder.run(&format!("kms check {SOURCE} -o json")).await;
    for (about, check) in
        [("data", "no rotate"), ("data", "no disable"), ("rewrap", "no unwrap"), ("rewrap", "no rotate")]
    {
        assert_eq!(ran.verdict(about, check), "failed", "{about} {check}: {}", ran.out);
    }
    assert!(ran.text("data", "no rotate").contains("examples/openbao/data.hcl"));
    assert_eq!(ran.code, 1);
    assert!(ran.text("data", "key versions").contains("current 1,"), "nothing was rotated: {}", ran.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_rotated_disabled_and_enabled() {
    let Some(bao) = OpenBao::start(false).await else { return };
    let folder = folder(&bao).await;
    let ran = folder.run(&format!("key rotate {SOURCE} --yes -o json")).await;
    assert_eq!((ran.code, &ran.json()["after"]["currentVersion"]), (0, &json!("2")), "{}", ran.err);
    let ran = folder.run(&format!("key disable {SOURCE} --yes")).await;
    assert_eq!((ran.code, ran.err.contains("denied")), (77, true), "that policy only rotates: {}", ran.err);
    bao.set_policy("admin", r#"path "transit/keys/*" { capabilities = ["read", "update", "delete"] }"#).await;
    let ran = folder.run(&format!("key disable {SOURCE} --yes")).await;
    assert_eq!((ran.code, ran.out.contains("Disabled")), (0, true), "{}{}", ran.out, ran.err);
    let checked = folder.run(&format!("kms check {SOURCE} -o json")).await;
    assert_eq!((checked.verdict("data", "key state"), checked.code), ("failed".into(), 1));
    assert_eq!(checked.verdict("data", "no rotate"), "ok", "{}", checked.out);
    let ran = folder.run(&format!("key enable {SOURCE} --yes")).await;
    assert_eq!((ran.code, ran.out.contains("Enabled")), (0, true), "{}{}", ran.out, ran.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_does_not_bind_its_context_is_a_warning() {
    let Some(bao) = OpenBao::start(false).await else { return };
    let folder = folder(&bao).await;
    bao.write("transit/keys/flat", json!({})).await;
    let text = std::fs::read_to_string(folder.path().join("profile.yaml")).unwrap();
    folder.write("profile.yaml", &text.replace(r#""storage""#, r#""flat""#));
    bao.set_policy("data", r#"path "transit/*" { capabilities = ["read", "update"] }"#).await;
    let ran = folder.run(&format!("kms check {SOURCE} -o json")).await;
    assert_eq!(
        (ran.verdict("data", "wrap"), ran.verdict("data", "unwrap")),
        ("warning".into(), "ok".into()),
        "{}",
        ran.out
    );
    assert!(ran.text("data", "wrap").contains("derived=true"));
}
