//! Microsoft's own Python clients against the emulator, over https: what shows that it speaks the real protocol and not only ours.
#![allow(clippy::unwrap_used, clippy::panic)]

use emulator_azure::{Application, Config, Emulator, FederatedCredential, Issuer, Permission, Product};

const TENANT: &str = "72f988bf-0000-4000-8000-0c1d2e3f4a5b";
const SUBJECT: &str = "system:serviceaccount:shop:default";
const ISSUER: &str = "https://cluster.example";

fn applications(cluster: &Issuer) -> Vec<Application> {
    let mut federated = Application::new("federated", "unused", &Permission::SERVICE_ENCRYPTION);
    federated.federated =
        vec![FederatedCredential { issuer: ISSUER.into(), subject: SUBJECT.into(), jwks: cluster.jwks() }];
    vec![
        Application::new("owner", "of-owner", &Permission::ALL),
        Application::new("user", "of-user", &[Permission::Wrap, Permission::Unwrap]),
        Application::new("reader", "of-reader", &[Permission::Read, Permission::Unwrap]),
        Application::new("nobody", "of-nobody", &[]),
        federated,
    ]
}

fn start(product: Product, cluster: &Issuer) -> Emulator {
    let (tenant, applications) = (TENANT.into(), applications(cluster));
    Emulator::start(Config {
        tenant,
        product,
        any_audience: false,
        applications,
        keys: Vec::new(),
        snapshot: None,
    })
}

#[test]
fn microsoft_s_python_clients_pass_the_whole_scenario() {
    let cluster = Issuer::new(ISSUER);
    let (vault, hsm) = (start(Product::KeyVault, &cluster), start(Product::ManagedHsm, &cluster));
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        std::fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name)
    };
    let ca = write("ca.crt", format!("{}{}", vault.ca_pem(), hsm.ca_pem()));
    let token = write("token", cluster.sign("api://AzureADTokenExchange", SUBJECT, 600));
    let wrong = write("wrong", cluster.sign("sts.amazonaws.com", SUBJECT, 600));
    let secrets = ["OWNER", "USER", "READER", "NOBODY"]
        .map(|name| (format!("SECRET_{name}"), format!("of-{}", name.to_ascii_lowercase())));
    conformance::scenario("azure", env!("CARGO_TARGET_TMPDIR"), 17, |command| {
        command.args(["--vault", &vault.https_url(), "--hsm", &hsm.https_url(), "--tenant", TENANT]);
        command.arg("--token").arg(&token).arg("--wrong-token").arg(&wrong);
        command.env("REQUESTS_CA_BUNDLE", &ca).envs(secrets);
    });
}
