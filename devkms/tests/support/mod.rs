//! A client for the tests: blocking calls with a token, as plain as they can be, so that the server is what is tested.
#![allow(dead_code, clippy::unwrap_used)]

pub mod issuer;

use devkms::{Config, Grant, Role, Seed, Server};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};

pub const INSTANCE: &str = "0f0f0f0f-1111-4111-8111-111111111111";
pub const KEY: &str = "22222222-2222-4222-8222-222222222222";

/// One instance with one root key, and an API key named after each role, with the role's name as its secret.
pub fn seed() -> Seed {
    Seed::one_key(INSTANCE, KEY)
        .api_key("reader", "reader", Grant::role(Role::Reader))
        .api_key("writer", "writer", Grant::role(Role::Writer))
        .api_key("manager", "manager", Grant::role(Role::Manager))
        .api_key("other-manager", "other-manager", Grant::role(Role::Manager))
        .api_key("purger", "purger", Grant::role(Role::KeyPurge))
        .api_key(
            "job",
            "job",
            Grant::actions(&["kms.secrets.rewrap", "kms.secrets.readmetadata"]).on_key(KEY),
        )
}

pub fn start() -> Server {
    Server::start(Config::ephemeral(seed())).unwrap()
}

/// Calls as one identity.
#[derive(Clone)]
pub struct Caller {
    pub client: Client,
    pub base: String,
    pub token: String,
}

/// Status and body; null where the body is empty or no JSON.
pub struct Got {
    pub status: u16,
    pub body: Value,
}

impl Got {
    pub async fn of(response: Response) -> Self {
        let status = response.status().as_u16();
        let body = response.bytes().await.unwrap();
        Self { status, body: serde_json::from_slice(&body).unwrap_or(Value::Null) }
    }

    /// The code word of a refusal.
    pub fn code(&self) -> &str {
        self.body["resources"][0]["reasons"][0]["code"].as_str().unwrap_or_default()
    }

    /// Status and code word.
    pub fn refusal(&self) -> (u16, &str) {
        (self.status, self.code())
    }

    pub fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "{} {}", self.status, self.body);
        self.body
    }
}

pub async fn token(client: &Client, base: &str, api_key: &str) -> Got {
    let form = [("grant_type", "urn:ibm:params:oauth:grant-type:apikey"), ("apikey", api_key)];
    Got::of(client.post(format!("{base}/identity/token")).form(&form).send().await.unwrap()).await
}

impl Caller {
    pub async fn new(server: &Server, api_key: &str) -> Self {
        Self::at(Client::new(), &server.url(), api_key).await
    }

    pub async fn at(client: Client, base: &str, api_key: &str) -> Self {
        let token = token(&client, base, api_key).await.ok()["access_token"].as_str().unwrap().to_owned();
        Self { client, base: base.to_owned(), token }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("{}/api/v2/{path}", self.base))
            .bearer_auth(&self.token)
            .header("Bluemix-Instance", INSTANCE)
    }

    pub async fn get(&self, path: &str) -> Got {
        Got::of(self.request(Method::GET, path).send().await.unwrap()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Got {
        Got::of(self.request(Method::POST, path).json(body).send().await.unwrap()).await
    }

    pub async fn delete(&self, path: &str) -> Got {
        Got::of(self.request(Method::DELETE, path).send().await.unwrap()).await
    }

    /// An action on the seeded key.
    pub async fn action(&self, name: &str, body: &Value) -> Got {
        self.post(&format!("keys/{KEY}/actions/{name}"), body).await
    }

    pub async fn wrap(&self, aad: &[&str]) -> Value {
        self.action("wrap", &json!({"aad": aad})).await.ok()
    }

    pub async fn metadata(&self) -> Value {
        self.get(&format!("keys/{KEY}/metadata")).await.ok()["resources"][0].clone()
    }
}

/// A call to the control port.
pub async fn control(server: &Server, method: Method, path: &str, body: Option<Value>) -> Got {
    let request = Client::new().request(method, format!("{}{path}", server.control_url()));
    let request = match body {
        Some(body) => request.json(&body),
        None => request,
    };
    Got::of(request.send().await.unwrap()).await
}
