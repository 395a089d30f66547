//! Key Protect as `devkms` plays it, with TLS, and a profile that leads there.

use devkms::{Config, Grant, Role, Seed, Server};
use serde_json::{Value, json};

use crate::run::{Folder, Ran};

pub const INSTANCE: &str = "8cf0b1d4-0000-4000-8000-0c1d2e3f4a5b";
pub const KEY: &str = "11111111-1111-4111-8111-111111111111";

/// What the three credentials may do.
pub struct Grants {
    pub data: Grant,
    pub rewrap: Grant,
    pub admin: Grant,
}

impl Default for Grants {
    /// As the documentation says.
    fn default() -> Self {
        Self {
            data: Grant::role(Role::Reader).on_key(KEY),
            rewrap: Grant::actions(&["kms.secrets.readmetadata", "kms.secrets.rewrap"]).on_key(KEY),
            admin: Grant::role(Role::Manager).on_key(KEY),
        }
    }
}

/// A service, and a folder with a profile for it.
pub struct Bench {
    pub server: Server,
    pub folder: Folder,
}

pub fn api_key(role: &str) -> String {
    format!("api-key-of-{role}-that-nobody-may-see")
}

impl Bench {
    pub fn start(grants: Grants) -> Self {
        let seed = Seed::one_key(INSTANCE, KEY)
            .api_key("data", &api_key("data"), grants.data)
            .api_key("rewrap", &api_key("rewrap"), grants.rewrap)
            .api_key("admin", &api_key("admin"), grants.admin);
        Self::with(seed)
    }

    pub fn with(seed: Seed) -> Self {
        let server = Server::start(Config::ephemeral_tls(seed)).unwrap();
        let mut folder = Folder::new();
        for role in ["data", "rewrap", "admin"] {
            folder.secret(role, &api_key(role));
        }
        folder.write("ca.crt", server.ca_pem().unwrap());
        let bench = Self { server, folder };
        bench.profile(|_| {});
        bench
    }

    /// The profile, changed.
    pub fn manifest(&self, change: impl FnOnce(&mut Value)) -> Value {
        let url = self.server.https_url();
        let secret = |name: &str| json!({"apiKeySecret": {"name": name}});
        let mut profile = json!({
            "apiVersion": "cofferdam.io/v1alpha1", "kind": "KmsProfile",
            "metadata": {"name": "main", "namespace": "shop"},
            "spec": {
                "keyProtect": {"endpoint": url, "iamEndpoint": url, "instance": INSTANCE, "rootKey": KEY},
                "caBundle": {"configMap": "kms-ca"},
                "credentials": {"data": secret("data"), "rewrap": secret("rewrap"), "admin": secret("admin")},
                "rotation": {"managed": true},
            },
        });
        change(&mut profile);
        profile
    }

    /// Writes the profile, changed.
    pub fn profile(&self, change: impl FnOnce(&mut Value)) {
        self.folder.write("profile.yaml", &self.manifest(change).to_string());
    }

    /// Checks the profile with all of its credentials.
    pub async fn check(&self) -> Ran {
        self.folder.run(&format!("kms check {SOURCE} --output json")).await
    }
}

/// Where the profile and everything of it lies.
pub const SOURCE: &str = "--file @profile.yaml --ca-file @ca.crt --secret data=@data --secret rewrap=@rewrap --secret admin=@admin";
