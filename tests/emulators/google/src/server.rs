//! The service on a port of loopback.
//!
//! Invariant: it ends with its handle; what it knows can be had as text, and another one goes on from there.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::api::{self, Answer, Asked};
use crate::clock::http_date;
use crate::world::World;

/// A running service.
pub struct Server {
    /// Where it listens, for plain http.
    pub at: SocketAddr,
    world: Arc<Mutex<World>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Starts with what `world` knows, in the runtime of whoever calls.
    pub async fn start(world: World) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let world = Arc::new(Mutex::new(world));
        let router = Router::new().fallback(serve).with_state(Arc::clone(&world));
        let task = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Self { at, world, task }
    }

    /// Starts with what another one left.
    pub async fn restore(snapshot: &str) -> Self {
        Self::start(serde_json::from_str(snapshot).unwrap()).await
    }

    /// All that it knows.
    pub fn snapshot(&self) -> String {
        serde_json::to_string(&*self.world()).unwrap()
    }

    /// What it knows, in one's hand.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }
}

async fn serve(
    State(world): State<Arc<Mutex<World>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let token = header(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    let query = uri.query().and_then(|query| serde_urlencoded::from_str(query).ok()).unwrap_or_default();
    let host = header(header::HOST).unwrap_or_default();
    let asked = Asked { method: method.as_str(), path: uri.path(), query, token, host, body: &body };
    let mut world = world.lock().unwrap();
    let Answer { status, body } = api::answer(&mut world, &asked);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = [
        (header::CONTENT_TYPE, "application/json; charset=UTF-8".to_owned()),
        (header::DATE, http_date(world.now())),
    ];
    (status, headers, body.to_string()).into_response()
}
