//! The server of `contract::control`: one socket for each pod, in a directory of its own.
//!
//! Invariant: no request is looked at before its sender is proven to be this pod's sidecar; when a control connection ends, its
//! leases end.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use contract::control::{BEAT_SECONDS, Refusal, Reply, Request};
use tokio::task::JoinHandle;

use crate::announce::{Announce, News, tell_ended};
use crate::caller;
use crate::metrics::Metrics;
use crate::pods::PodLookup;
use crate::record::PodName;
use crate::session::{Ended, LeaseId, Refused, Sessions};
use crate::socket::{Connection, Listener};

/// The socket's name in its directory; in the sidecar it is `names::CTL_SOCKET`.
pub const SOCKET_NAME: &str = "s";
/// Control connections that one pod may have at a time: a sidecar needs one, and one more while it restarts.
const MOST_CONNECTIONS: usize = 16;

/// How long the API may take to know a container that has just started; `ANSWER_SECONDS` leaves room for a live look besides.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// All sockets of this node.
pub struct Control {
    shared: Arc<Shared>,
    dir: PathBuf,
    listeners: Mutex<HashMap<String, JoinHandle<()>>>,
}

struct Shared {
    sessions: Arc<Sessions>,
    pods: Arc<dyn PodLookup>,
    announce: Arc<dyn Announce>,
    metrics: Metrics,
    leases: AtomicU64,
    patience: Duration,
}

impl Control {
    /// Sockets live in directories `dir/<pod uid>`; `patience` is normally [`PATIENCE`].
    pub fn new(
        sessions: Arc<Sessions>,
        pods: Arc<dyn PodLookup>,
        announce: Arc<dyn Announce>,
        metrics: Metrics,
        dir: PathBuf,
        patience: Duration,
    ) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        let shared =
            Arc::new(Shared { sessions, pods, announce, metrics, leases: AtomicU64::new(1), patience });
        Ok(Self { shared, dir, listeners: Mutex::default() })
    }

    /// Starts to listen for a pod, unless it is done already, and says in which directory. Must be called within a runtime.
    pub fn listen(&self, pod: &PodName) -> io::Result<PathBuf> {
        let dir = self.dir.join(&pod.uid);
        let mut listeners = self.listeners();
        if !listeners.contains_key(&pod.uid) {
            make_directory(&dir)?;
            let listener = Listener::bind(&dir, SOCKET_NAME)?;
            let task = tokio::spawn(accept(self.shared.clone(), listener, pod.clone()));
            listeners.insert(pod.uid.clone(), task);
        }
        Ok(dir)
    }

    /// Whether somebody listens for a pod.
    pub fn is_listening(&self, pod: &PodName) -> bool {
        self.listeners().get(&pod.uid).is_some_and(|task| !task.is_finished())
    }

    /// Stops listening and removes the directory. Connections end with their peers.
    pub fn stop(&self, pod_uid: &str) -> io::Result<()> {
        if let Some(task) = self.listeners().remove(pod_uid) {
            task.abort();
        }
        match fs::remove_dir_all(self.dir.join(pod_uid)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn listeners(&self) -> MutexGuard<'_, HashMap<String, JoinHandle<()>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sidecar's user must be able to enter, whatever the driver's umask.
fn make_directory(dir: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o755).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o755))
}

async fn accept(shared: Arc<Shared>, listener: Listener, pod: PodName) {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let connection = match listener.accept().await {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!(%error, pod = pod.name, "a control connection was not accepted");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        if open.fetch_add(1, Ordering::Relaxed) >= MOST_CONNECTIONS {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (shared, pod, open) = (shared.clone(), pod.clone(), open.clone());
        tokio::spawn(async move {
            let lease = LeaseId(shared.leases.fetch_add(1, Ordering::Relaxed));
            if let Err(error) = shared.converse(&connection, lease, &pod).await {
                tracing::warn!(%error, pod = pod.name, "a control connection failed");
            }
            // The peer's end is gone, or will learn it now: only then are its volumes given to somebody else.
            drop(connection);
            shared.release(lease).await;
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

impl Shared {
    async fn converse(&self, connection: &Connection, lease: LeaseId, pod: &PodName) -> io::Result<()> {
        let mut proven = false;
        while let Some(message) = connection.receive().await? {
            let request = serde_json::from_slice(&message);
            let is_beat = matches!(request, Ok(Request::Beat { .. }));
            let (reply, descriptor) = match self.answer(connection, lease, pod, request, &mut proven).await {
                Ok((reply, descriptor)) => (reply, descriptor),
                Err(Refused { reason, message, ended }) => {
                    tell_ended(&*self.announce, ended.map(|ended| *ended));
                    (Reply::Refused { reason, message }, None)
                }
            };
            if is_beat {
                continue;
            }
            let json = serde_json::to_vec(&reply)?;
            connection.send(&json, descriptor.as_ref().map(AsFd::as_fd)).await?;
        }
        Ok(())
    }

    async fn answer(
        &self,
        connection: &Connection,
        lease: LeaseId,
        pod: &PodName,
        request: serde_json::Result<Request>,
        proven: &mut bool,
    ) -> Result<(Reply, Option<OwnedFd>), Refused> {
        if !*proven {
            let process = self.prove(connection, pod).await?;
            if let Some(process) = process {
                self.sessions.proven(lease, process);
            }
            *proven = true;
        }
        let request = request.map_err(|error| {
            Refused::new(Refusal::BadRequest, format!("the message is not understood: {error}"))
        })?;
        let name = operation(&request);
        let is_beat = matches!(request, Request::Beat { .. });
        let answer = self.carry_out(lease, pod, request).await;
        let result =
            answer.as_ref().map_or_else(|refused| format!("{:?}", refused.reason), |_| "Done".into());
        self.metrics.control(name, format_args!("{result}"));
        let (pod, namespace) = (&pod.name, &pod.namespace);
        if is_beat {
            tracing::debug!(pod, namespace, operation = name, result, "control request");
        } else {
            tracing::info!(pod, namespace, operation = name, result, "control request");
        }
        answer
    }

    /// Whether the caller is this pod's sidecar; a handle on its process.
    async fn prove(&self, connection: &Connection, pod: &PodName) -> Result<Option<OwnedFd>, Refused> {
        let peer = connection.peer().map_err(|error| {
            Refused::new(
                Refusal::NotTheSidecar,
                format!("the caller is not known to the kernel any more: {error}"),
            )
        })?;
        let proof = caller::verify(&peer, pod, &*self.pods, self.patience).await;
        if let Err(refused) = &proof {
            tracing::warn!(pod = pod.name, namespace = pod.namespace, pid = peer.pid, reason = ?refused.reason, refused.message, "caller refused");
            self.metrics.control("prove", refused.reason);
            if refused.reason == Refusal::NotTheSidecar {
                let note = format!(
                    "a process asked for the pod's encrypted volumes and was refused: {}",
                    refused.message
                );
                let news = News { reason: "EncryptedVolumeCallerRefused", action: "Attach", note };
                self.announce.tell(pod, news);
            }
        }
        proof.map(|()| peer.into_process())
    }

    async fn carry_out(
        &self,
        lease: LeaseId,
        pod: &PodName,
        request: Request,
    ) -> Result<(Reply, Option<OwnedFd>), Refused> {
        let (sessions, uid) = (self.sessions.clone(), pod.uid.clone());
        let act = move || match request {
            Request::Attach { volume } => {
                let (descriptor, connection) = sessions.attach(lease, &uid, &volume)?;
                Ok((Reply::Granted { connection }, Some(descriptor), None))
            }
            Request::Resume { volume, connection } => {
                sessions.resume(lease, &uid, &volume, connection).map(|()| (Reply::Done, None, None))
            }
            Request::Serving { volume, beats } => {
                let reply = if beats { Reply::Counting { seconds: BEAT_SECONDS } } else { Reply::Done };
                sessions.serving(lease, &uid, &volume, beats).map(|()| (reply, None, None))
            }
            Request::Beat { volume } => {
                sessions.beat(lease, &uid, &volume).map(|()| (Reply::Done, None, None))
            }
            Request::Detach { volume } => {
                sessions.detach(lease, &uid, &volume).map(|ended: Option<Ended>| (Reply::Done, None, ended))
            }
        };
        let failed =
            |error| Refused::new(Refusal::Unavailable, format!("the request was cut short: {error}"));
        let (reply, descriptor, ended) = tokio::task::spawn_blocking(act).await.map_err(failed)??;
        tell_ended(&*self.announce, ended);
        Ok((reply, descriptor))
    }

    async fn release(&self, lease: LeaseId) {
        let sessions = self.sessions.clone();
        match tokio::task::spawn_blocking(move || sessions.release(lease)).await {
            Ok(ended) => tell_ended(&*self.announce, ended),
            Err(error) => tracing::error!(%error, "a lease was not released"),
        }
    }
}

fn operation(request: &Request) -> &'static str {
    match request {
        Request::Attach { .. } => "attach",
        Request::Resume { .. } => "resume",
        Request::Serving { .. } => "serving",
        Request::Beat { .. } => "beat",
        Request::Detach { .. } => "detach",
    }
}
