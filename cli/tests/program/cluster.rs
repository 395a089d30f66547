//! With a cluster: profiles, Secrets, tokens and nodes by the kubeconfig.

use std::time::{SystemTime, UNIX_EPOCH};

use devkms::{Grant, Role, Seed, TrustedProfile};
use fake_api::{FakeApi, Method};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::bench::{Bench, Grants, INSTANCE, KEY, api_key};

const SHOP: &str = "/api/v1/namespaces/shop";
pub const PROFILES: &str = "/apis/cofferdam.io/v1alpha1/namespaces/shop/kmsprofiles";

/// A cluster that holds a bench's profile with all that belongs to it.
pub async fn cluster(bench: &Bench, profile: Value) -> FakeApi {
    let (fake, _) = FakeApi::start().await;
    bench.folder.write("kubeconfig", &fake.kubeconfig("shop"));
    fake.put(&format!("{PROFILES}/main"), profile);
    let ca = bench.server.ca_pem().unwrap();
    fake.put(
        &format!("{SHOP}/configmaps/kms-ca"),
        json!({"data": {"ca.crt": ca}, "metadata": {"name": "kms-ca"}}),
    );
    for role in ["data", "rewrap", "admin"] {
        let data = json!({"apiKey": base64(&api_key(role))});
        fake.put(&format!("{SHOP}/secrets/{role}"), json!({"data": data, "metadata": {"name": role}}));
    }
    fake
}

fn base64(text: &str) -> Value {
    let bytes = k8s_openapi::ByteString(text.as_bytes().to_vec());
    serde_json::to_value(bytes).unwrap()
}

pub fn node(fake: &FakeApi, name: &str, kubelet: &str, swap: Option<i64>) {
    let swap = swap.map(|capacity| json!({"capacity": capacity}));
    let mut info = json!({"kubeletVersion": kubelet, "swap": swap});
    for field in [
        "architecture",
        "bootID",
        "containerRuntimeVersion",
        "kernelVersion",
        "kubeProxyVersion",
        "machineID",
    ] {
        info[field] = "".into();
    }
    for field in ["operatingSystem", "osImage", "systemUUID"] {
        info[field] = "".into();
    }
    fake.put(
        &format!("/api/v1/nodes/{name}"),
        json!({"metadata": {"name": name}, "status": {"nodeInfo": info}}),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_found_by_the_kubeconfig() {
    let bench = Bench::start(Grants::default());
    let fake = cluster(&bench, bench.manifest(|_| {})).await;
    node(&fake, "worker", "v1.35.0", None);
    for name in ["main", "shop/main", "main -n shop"] {
        let ran = bench.folder.run(&format!("kms check {name} --kubeconfig @kubeconfig -o json")).await;
        assert_eq!((ran.code, ran.lines().len()), (0, 27), "{}{}", ran.out, ran.err);
        assert_eq!(ran.verdict("nodes", "swap"), "ok");
    }
    node(&fake, "old", "v1.33.0", Some(1 << 30));
    let ran = bench.folder.run("kms check main --kubeconfig @kubeconfig -o json").await;
    assert_eq!((ran.verdict("nodes", "swap"), ran.code), ("warning".into(), 0));
    fake.forbid("/nodes");
    let ran = bench.folder.run("kms check main --kubeconfig @kubeconfig -o json").await;
    assert_eq!((ran.verdict("nodes", "swap"), ran.code), ("unknown".into(), 75));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_fails_and_what_may_not_be_read_is_unknown() {
    let bench = Bench::start(Grants::default());
    let fake = cluster(&bench, bench.manifest(|_| {})).await;
    node(&fake, "worker", "v1.35.0", None);
    fake.forbid("/secrets/admin");
    fake.remove(&format!("{SHOP}/secrets/rewrap"));
    let ran = bench.folder.run("kms check main --kubeconfig @kubeconfig -o json").await;
    assert_eq!((ran.verdict("rewrap", "credential"), ran.code), ("failed".into(), 1), "{}", ran.out);
    assert_eq!(
        (ran.verdict("admin", "credential"), ran.verdict("data", "wrap")),
        ("unknown".into(), "ok".into())
    );
    assert!(ran.text("admin", "credential").contains("--secret"), "{}", ran.out);
    let ran =
        bench.folder.run("kms check main --kubeconfig @kubeconfig --secret rewrap=@rewrap -o json").await;
    assert_eq!(ran.code, 75, "{}", ran.out);
    fake.remove(&format!("{SHOP}/configmaps/kms-ca"));
    let ran = bench.folder.run("kms check main --kubeconfig @kubeconfig -o json").await;
    assert_eq!((ran.verdict("data", "credential"), ran.code), ("failed".into(), 1), "{}", ran.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_that_cannot_be_had_ends_the_command_with_its_reason() {
    let bench = Bench::start(Grants::default());
    let fake = cluster(&bench, bench.manifest(|_| {})).await;
    let code = async |words: &str| bench.folder.run(words).await.code;
    assert_eq!(code("kms check other --kubeconfig @kubeconfig").await, 78);
    assert_eq!(code("kms check main --kubeconfig @nowhere").await, 78);
    assert_eq!(code("kms check main --kubeconfig @kubeconfig --context other").await, 78);
    assert_eq!(code("kms check").await, 64);
    assert_eq!(code("kms check main --kubeconfig @kubeconfig --secret my-secret").await, 64);
    fake.forbid("/kmsprofiles/main");
    assert_eq!(code("kms check main --kubeconfig @kubeconfig").await, 77);
    bench.folder.write("kubeconfig", &fake.kubeconfig("shop").replace(&fake.url(), "http://127.0.0.1:9"));
    let ran = bench.folder.run("kms check main --kubeconfig @kubeconfig").await;
    assert_eq!((ran.code, ran.err.contains("does not answer")), (69, true), "{}", ran.err);
    let token = r#""user": {"token": ["nobody-may-see-this"}"#;
    bench.folder.write("kubeconfig", &fake.kubeconfig("shop").replace(r#""user":{}"#, token));
    let ran = bench.folder.run("kms check main --kubeconfig @kubeconfig").await;
    assert_eq!((ran.code, ran.err.contains("cannot be parsed")), (78, true), "{}", ran.err);
}

/// What a cluster signs a service account's token with.
struct Issuer(rcgen::KeyPair);

impl Issuer {
    fn token(&self, audience: &str, subject: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({"aud": [audience], "sub": subject, "iat": now, "exp": now + 600});
        let key = EncodingKey::from_ec_pem(self.0.serialize_pem().as_bytes()).unwrap();
        jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &key).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_accounts_token_is_asked_for_with_the_profiles_audience() {
    let issuer = Issuer(rcgen::KeyPair::generate().unwrap());
    let id = "Profile-44444444-4444-4444-8444-444444444444";
    let pods = TrustedProfile {
        id: id.into(),
        name: "pods".into(),
        audiences: vec!["iam-of-shop".into()],
        subjects: vec!["system:serviceaccount:shop:default".into()],
        public_key: Some(issuer.0.public_key_pem()),
        ..TrustedProfile::default()
    };
    let seed = Seed::one_key(INSTANCE, KEY).trusted_profile(pods, Grant::role(Role::Reader));
    let bench = Bench::with(seed);
    let profile = bench.manifest(|profile| {
        let trusted = json!({"trustedProfile": {"id": id, "audience": "iam-of-shop"}});
        profile["spec"]["credentials"] = json!({"data": trusted});
        profile["spec"]["rotation"]["managed"] = false.into();
    });
    let fake = cluster(&bench, profile).await;
    node(&fake, "worker", "v1.35.0", None);
    let token = issuer.token("iam-of-shop", "system:serviceaccount:shop:default");
    fake.give_token(&format!("{SHOP}/serviceaccounts/default"), &token);
    let command = "kms check main --kubeconfig @kubeconfig --service-account default -o json";
    let ran = bench.folder.run(command).await;
    assert_eq!((ran.verdict("data", "unwrap"), ran.code), ("ok".into(), 0), "{}", ran.out);
    let asked = fake.asked(&Method::POST, "/serviceaccounts/default/token");
    assert_eq!(asked[0].2["spec"]["audiences"], json!(["iam-of-shop"]));

    fake.give_token(
        &format!("{SHOP}/serviceaccounts/other"),
        &issuer.token("iam-of-shop", "system:serviceaccount:shop:other"),
    );
    let ran = bench
        .folder
        .run("kms check main --kubeconfig @kubeconfig --service-account data=shop/other -o json")
        .await;
    assert_eq!((ran.verdict("data", "identity"), ran.code), ("failed".into(), 1), "{}", ran.out);
    let ran =
        bench.folder.run("kms check main --kubeconfig @kubeconfig --service-account nobody -o json").await;
    assert_eq!((ran.verdict("data", "credential"), ran.code), ("failed".into(), 1), "{}", ran.out);
}
