//! HTTP on loopback. Invariant: requests are carried out one after the other, and an answer bears the emulator's own time.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, Uri};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::clock::moment;
use crate::refusal::{Answer, Refusal, refusal};
use crate::request::Request;
use crate::world::{Event, World};
use crate::{actions, sts};

const TARGET: &str = "TrentService.";

/// A running emulator; it ends when it is dropped.
pub struct Server {
    /// Where it listens, for plain http.
    pub at: SocketAddr,
    world: Arc<Mutex<World>>,
    serving: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Server {
    /// A new one with what is in `world`.
    pub async fn start(world: World) -> std::io::Result<Self> {
        Self::listen(TcpListener::bind("127.0.0.1:0").await?, world)
    }

    fn listen(listener: TcpListener, world: World) -> std::io::Result<Self> {
        let at = listener.local_addr()?;
        let world = Arc::new(Mutex::new(world));
        let app = Router::new().fallback(serve).with_state(Arc::clone(&world));
        let serving = tokio::spawn(async move {
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { at, world, serving })
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    /// All that it holds; nothing is served meanwhile.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that it must not lose.
    pub fn snapshot(&self) -> serde_json::Result<String> {
        serde_json::to_string(&*self.world())
    }

    /// Ends, and starts again at the same address with what was in a snapshot.
    pub async fn restart(&mut self) -> std::io::Result<()> {
        let kept = self.snapshot()?;
        self.serving.abort();
        let _ = (&mut self.serving).await;
        *self = Self::listen(TcpListener::bind(self.at).await?, serde_json::from_str(&kept)?)?;
        Ok(())
    }
}

async fn serve(
    State(world): State<Arc<Mutex<World>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let headers = headers
        .iter()
        .map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect();
    let request = Request {
        method: method.as_str().into(),
        path: uri.path().into(),
        query: uri.query().unwrap_or_default().into(),
        headers,
        body: body.to_vec(),
    };
    let mut world = world.lock().unwrap_or_else(PoisonError::into_inner);
    let (status, kind, text) = match request.header("x-amz-target").map(str::to_owned) {
        Some(target) => kms(&mut world, &request, &target),
        None => match world.sts(&request.body) {
            Ok(text) => (200, "text/xml", text),
            Err(refused) => (refused.status, "text/xml", sts::refused(&refused)),
        },
    };
    let date =
        jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&moment(world.clock.now()));
    Response::builder()
        .status(status)
        .header("Content-Type", kind)
        .header("Date", date.unwrap_or_default())
        .header("x-amzn-RequestId", uuid::Uuid::new_v4().to_string())
        .body(Body::from(text))
        .expect("these headers are text")
}

fn kms(world: &mut World, request: &Request, target: &str) -> (u16, &'static str, String) {
    let action = target.strip_prefix(TARGET).unwrap_or(target);
    let answer = act(world, request, action);
    let event = Event {
        name: action.into(),
        user_agent: request.header("user-agent").unwrap_or_default().into(),
        error: answer.as_ref().err().map(|refused| refused.code.into()),
        encryption_context: serde_json::from_slice::<Value>(&request.body)
            .ok()
            .and_then(|body| body.get("EncryptionContext").cloned()),
    };
    world.trail.push(event);
    let (status, text) = match answer {
        // What has nothing to say says nothing.
        Ok(Value::Null) => (200, String::new()),
        Ok(body) => (200, body.to_string()),
        Err(Refusal { status, code, message }) => {
            (status, json!({"__type": code, "message": message}).to_string())
        }
    };
    (status, "application/x-amz-json-1.1", text)
}

fn act(world: &mut World, request: &Request, action: &str) -> Answer<Value> {
    if (request.method.as_str(), request.path.as_str()) != ("POST", "/") {
        return Err(refusal("UnknownOperationException", "only POST / is known"));
    }
    let caller = world.authenticate(request, "kms")?;
    actions::act(world, &caller, action, &request.body)
}
