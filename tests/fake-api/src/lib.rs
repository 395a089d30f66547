//! An API server in memory, over HTTP: objects by path, optimistic concurrency, the subresources that our programs use.
//!
//! Invariant: what it does, the real one does too; what it cannot do (selectors, validation, defaults) no test may rest on.
#![allow(clippy::unwrap_used, reason = "only tests use it")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::Bytes;
use axum::extract::State;
pub use axum::http::Method;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::{Json, Router};
use kube::Client;
use serde_json::{Value, json};

/// What was asked: method, path, body.
pub type Request = (Method, String, Value);

#[derive(Default)]
struct Store {
    objects: BTreeMap<String, Value>,
    version: u64,
    requests: Vec<Request>,
    faults: Vec<(Method, String, u16)>,
    reviews: BTreeMap<String, Value>,
    groups: Vec<String>,
    plurals: Vec<String>,
    tokens: BTreeMap<String, String>,
    forbidden: Vec<String>,
    url: String,
}

/// The server.
#[derive(Clone, Default)]
pub struct FakeApi(Arc<Mutex<Store>>);

impl FakeApi {
    /// Starts it; it ends with the test's runtime.
    pub async fn start() -> (Self, Client) {
        let fake = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("http://{address}");
        fake.store().url.clone_from(&url);
        let router = Router::new().fallback(answer).with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let mut config = kube::Config::new(url.parse().unwrap());
        config.default_retry = false;
        (fake, Client::try_from(config).unwrap())
    }

    /// Puts an object at its path, such as `/api/v1/namespaces/shop/pods/app`.
    pub fn put(&self, path: &str, mut object: Value) {
        let mut store = self.store();
        let version = store.next_version();
        object["metadata"]["resourceVersion"] = json!(version);
        let uid = format!("uid-of-{path}");
        object["metadata"]["uid"] = object["metadata"].get("uid").cloned().unwrap_or(json!(uid));
        store.objects.insert(path.into(), object);
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        self.store().url.clone()
    }

    /// A kubeconfig that leads here, with this namespace.
    pub fn kubeconfig(&self, namespace: &str) -> String {
        let named = |kind: &str, content: Value| json!([{"name": "here", kind: content}]);
        let context = json!({"cluster": "here", "user": "here", "namespace": namespace});
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": named("cluster", json!({"server": self.url()})),
            "users": named("user", json!({})),
            "contexts": named("context", context),
        });
        config.to_string()
    }

    /// Gives out this token for the service account at a path.
    pub fn give_token(&self, service_account: &str, token: &str) {
        self.store().tokens.insert(format!("{service_account}/token"), token.into());
    }

    /// Answers every request whose path ends so with 403.
    pub fn forbid(&self, ending: &str) {
        self.store().forbidden.push(ending.into());
    }

    /// What is at a path.
    pub fn get(&self, path: &str) -> Option<Value> {
        self.store().objects.get(path).cloned()
    }

    /// Paths of objects that begin so.
    pub fn paths(&self, beginning: &str) -> Vec<String> {
        self.store().objects.keys().filter(|path| path.starts_with(beginning)).cloned().collect()
    }

    /// Takes an object away.
    pub fn remove(&self, path: &str) {
        self.store().objects.remove(path);
    }

    /// Answers the next request of this kind with an error.
    pub fn fail_once(&self, method: Method, path: &str, code: u16) {
        self.store().faults.push((method, path.into(), code));
    }

    /// Serves an API group that a cluster need not have, with one of its resources, or with none that is asked for.
    pub fn serve(&self, group: &str, plural: Option<&str>) {
        let mut store = self.store();
        store.groups.push(group.into());
        store.plurals.extend(plural.map(str::to_owned));
    }

    /// What a review of this token says.
    pub fn accept_token(&self, token: &str, namespace: &str, pod: &str, uid: &str) {
        let status = json!({
            "authenticated": true, "audiences": ["cofferdam"],
            "user": {
                "username": format!("system:serviceaccount:{namespace}:default"),
                "extra": {"authentication.kubernetes.io/pod-name": [pod], "authentication.kubernetes.io/pod-uid": [uid]},
            },
        });
        self.store().reviews.insert(token.into(), status);
    }

    /// Requests so far with this method whose path ends so.
    pub fn asked(&self, method: &Method, ending: &str) -> Vec<Request> {
        let store = self.store();
        let matches = |request: &&Request| request.0 == *method && request.1.ends_with(ending);
        store.requests.iter().filter(matches).cloned().collect()
    }

    /// Reasons of the events so far.
    pub fn event_reasons(&self) -> Vec<String> {
        let events = self.asked(&Method::POST, "/events");
        events.iter().map(|(_, _, body)| body["reason"].as_str().unwrap().to_owned()).collect()
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap()
    }
}

impl Store {
    fn next_version(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    fn list(&self, path: &str) -> Value {
        let below = self.objects.iter().filter(|(key, _)| {
            let collection = key.rsplit_once('/').map_or("", |(collection, _)| collection);
            collection == path || without_namespace(collection).as_deref() == Some(path)
        });
        let items: Vec<_> = below.map(|(_, object)| object.clone()).collect();
        json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": items})
    }

    fn create(&mut self, path: &str, mut object: Value) -> Reply {
        let name = object["metadata"]["name"].as_str().unwrap_or("generated").to_owned();
        let path = format!("{path}/{name}");
        if self.objects.contains_key(&path) && !path.contains("/events/") {
            return error(409, "AlreadyExists");
        }
        object["metadata"]["uid"] = json!(format!("uid-of-{path}"));
        object["metadata"]["resourceVersion"] = json!(self.next_version());
        self.objects.insert(path, object.clone());
        (StatusCode::CREATED, Json(object))
    }

    fn replace_status(&mut self, path: &str, body: &Value) -> Reply {
        let version = self.next_version();
        let Some(object) = self.objects.get_mut(path) else { return error(404, "NotFound") };
        if object["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"] {
            return error(409, "Conflict");
        }
        object["status"] = body["status"].clone();
        object["metadata"]["resourceVersion"] = json!(version);
        (StatusCode::OK, Json(object.clone()))
    }

    fn token(&self, path: &str, body: &Value) -> Reply {
        let Some(token) = self.tokens.get(path) else { return error(404, "NotFound") };
        let status = json!({"token": token, "expirationTimestamp": "2030-01-01T00:00:00Z"});
        (StatusCode::CREATED, Json(json!({"metadata": {}, "spec": body["spec"], "status": status})))
    }

    /// The groups of the API server's own discovery.
    fn discovery(&self) -> Value {
        let group = |name: &str| {
            let version = json!({"groupVersion": format!("{name}/v1"), "version": "v1"});
            json!({"name": name, "versions": [version], "preferredVersion": version})
        };
        let groups: Vec<_> =
            self.groups.iter().map(String::as_str).chain(["apps", "batch"]).map(group).collect();
        json!({"apiVersion": "v1", "kind": "APIGroupList", "groups": groups})
    }

    fn is_collection(&self, path: &str) -> bool {
        let always = [
            "pods",
            "jobs",
            "encryptedvolumes",
            "kmsprofiles",
            "storagebindings",
            "persistentvolumeclaims",
            "nodes",
        ];
        let plural = path.rsplit('/').next().unwrap_or_default();
        always.contains(&plural) || self.plurals.iter().any(|served| served == plural)
    }

    /// A merge patch, in which lists are replaced.
    fn merge(&mut self, path: &str, body: &Value) -> Reply {
        let version = self.next_version();
        let Some(object) = self.objects.get_mut(path) else { return error(404, "NotFound") };
        json_patch::merge(object, body);
        object["metadata"]["resourceVersion"] = json!(version);
        (StatusCode::OK, Json(object.clone()))
    }

    /// A strategic merge of conditions by type, which is all that is patched so.
    fn patch_status(&mut self, path: &str, body: &Value) -> Reply {
        let Some(object) = self.objects.get_mut(path) else { return error(404, "NotFound") };
        let mut conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        for new in body["status"]["conditions"].as_array().cloned().unwrap_or_default() {
            conditions.retain(|old| old["type"] != new["type"]);
            conditions.push(new);
        }
        object["status"]["conditions"] = Value::Array(conditions);
        (StatusCode::OK, Json(object.clone()))
    }
}

type Reply = (StatusCode, Json<Value>);

fn error(code: u16, reason: &str) -> Reply {
    let body = json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "message": reason, "reason": reason,
        "code": code,
    });
    (StatusCode::from_u16(code).unwrap(), Json(body))
}

async fn answer(
    State(fake): State<FakeApi>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Reply {
    let merges = headers.get("content-type").is_some_and(|kind| kind == "application/merge-patch+json");
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let path = uri.path().to_owned();
    let mut store = fake.store();
    store.requests.push((method.clone(), path.clone(), body.clone()));
    let fault = store.faults.iter().position(|(m, end, _)| *m == method && path.ends_with(end.as_str()));
    if let Some(at) = fault {
        let (_, _, code) = store.faults.remove(at);
        let reason = match code {
            403 => "Forbidden",
            409 => "Conflict",
            429 => "TooManyRequests",
            _ => "InternalError",
        };
        return error(code, reason);
    }
    if store.forbidden.iter().any(|ending| path.ends_with(ending.as_str())) {
        return error(403, "Forbidden");
    }
    match (method, path.strip_suffix("/status")) {
        (Method::PUT, Some(object)) => store.replace_status(object, &body),
        (Method::PATCH, object) if merges => store.merge(object.unwrap_or(&path), &body),
        (Method::PATCH, Some(object)) => store.patch_status(object, &body),
        (Method::POST, None) if path.ends_with("/tokenreviews") => {
            let token = body["spec"]["token"].as_str().unwrap_or_default();
            let status = store.reviews.get(token).cloned().unwrap_or(json!({"authenticated": false}));
            (StatusCode::CREATED, Json(json!({"metadata": {}, "spec": {}, "status": status})))
        }
        (Method::POST, None) if path.ends_with("/token") => store.token(&path, &body),
        (Method::POST, None) if path.ends_with("/eviction") => (
            StatusCode::CREATED,
            Json(json!({"apiVersion": "v1", "kind": "Status", "status": "Success", "metadata": {}})),
        ),
        (Method::POST, None) => store.create(&path, body),
        (Method::DELETE, None) => match store.objects.remove(&path) {
            Some(object) => (StatusCode::OK, Json(object)),
            None => error(404, "NotFound"),
        },
        (Method::GET, None) => match store.objects.get(&path) {
            Some(object) => (StatusCode::OK, Json(object.clone())),
            None if path == "/apis" => (StatusCode::OK, Json(store.discovery())),
            None if store.is_collection(&path) => (StatusCode::OK, Json(store.list(&path))),
            None => error(404, "NotFound"),
        },
        _ => error(405, "MethodNotAllowed"),
    }
}

/// `/api/v1/pods` for `/api/v1/namespaces/shop/pods`.
fn without_namespace(collection: &str) -> Option<String> {
    let (group, rest) = collection.split_once("/namespaces/")?;
    let (_, plural) = rest.split_once('/')?;
    Some(format!("{group}/{plural}"))
}
