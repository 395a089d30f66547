//! A real OpenBao server on loopback, with a folder of its own.
//!
//! Invariant: it ends with this process, however that ends: the shell that started it waits for the end of its own input, and
//! then ends it by its id.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use xtask::places::Places;

/// Starts the server, and ends it when nobody holds the other end of the input any more.
const KEEPER: &str =
    r#""$0" server -config="$1" >"$2" 2>&1 & server=$!; read -r _; kill "$server"; wait "$server""#;

/// How long a start may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// A running server.
pub struct Server {
    /// Where it listens, for plain http.
    pub at: SocketAddr,
    root: String,
    unseal: String,
    program: PathBuf,
    folder: tempfile::TempDir,
    keeper: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

impl Server {
    /// The one that the tests of this process share; `None` where the program cannot be had, which is said loudly.
    pub async fn shared() -> Option<Arc<Self>> {
        static SHARED: OnceCell<Option<Arc<Server>>> = OnceCell::const_new();
        SHARED.get_or_init(|| async { Self::start().await.map(Arc::new) }).await.clone()
    }

    /// A new one.
    pub async fn start() -> Option<Self> {
        let program = match Places::from_environment().and_then(|places| xtask::openbao::ensure(&places)) {
            Ok(program) => program,
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "CI must have OpenBao: {error:#}");
                println!("SKIPPED: no OpenBao server: {error:#}");
                return None;
            }
        };
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("store")).unwrap();
        let (at, cluster) = (free_address(), free_address());
        std::fs::write(folder.path().join("config.hcl"), config(folder.path(), at, cluster)).unwrap();
        let keeper = keep(&program, &folder);
        let mut server = Self { at, root: String::new(), unseal: String::new(), program, folder, keeper };
        server.initialise().await;
        Some(server)
    }

    async fn initialise(&mut self) {
        self.until("it listens", || self.ask(Method::GET, "", "sys/seal-status", None)).await;
        let shares = json!({"secret_shares": 1, "secret_threshold": 1});
        let (status, made) = self.ask(Method::PUT, "", "sys/init", Some(shares)).await;
        assert_eq!(status, 200, "{made}");
        self.unseal = made["keys"][0].as_str().unwrap().into();
        self.root = made["root_token"].as_str().unwrap().into();
        self.unseal().await;
        let shown = json!({"hmac": false});
        self.done(Method::PUT, "", "sys/config/auditing/request-headers/x-correlation-id", Some(shown)).await;
    }

    /// Makes it serve again after [`Server::seal`] or a restart.
    pub async fn unseal(&self) {
        self.done(Method::PUT, "", "sys/unseal", Some(json!({"key": self.unseal}))).await;
        self.until("it serves", || self.ask(Method::GET, "", "sys/mounts", None)).await;
    }

    /// Makes it forget its keys until it is unsealed.
    pub async fn seal(&self) {
        self.done(Method::PUT, "", "sys/seal", None).await;
    }

    /// Stops it and starts it again with what it keeps.
    pub async fn restart(&mut self) {
        self.end();
        self.keeper = keep(&self.program, &self.folder);
        self.until("it listens again", || self.ask(Method::GET, "", "sys/seal-status", None)).await;
        self.unseal().await;
    }

    /// What it wrote of every request.
    pub fn audit_log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("audit.log")).unwrap()
    }

    /// Asks it, as the one who may do everything.
    pub async fn ask(
        &self,
        method: Method,
        namespace: &str,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let client = reqwest::Client::builder().pool_max_idle_per_host(0).no_proxy().build().unwrap();
        let mut request = client
            .request(method, format!("http://{}/v1/{path}", self.at))
            .header("X-Vault-Token", &self.root)
            .header("X-Vault-Namespace", namespace);
        if let Some(body) = body {
            request = request.json(&body);
        }
        match request.send().await {
            Ok(answer) => (answer.status().as_u16(), answer.json().await.unwrap_or_default()),
            Err(error) => (0, Value::String(error.to_string())),
        }
    }

    /// The same, where it must succeed.
    pub async fn done(&self, method: Method, namespace: &str, path: &str, body: Option<Value>) -> Value {
        let (status, answer) = self.ask(method, namespace, path, body).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    /// Asks until it answers with success.
    pub async fn until<F: Future<Output = (u16, Value)>>(&self, what: &str, ask: impl Fn() -> F) {
        let began = Instant::now();
        loop {
            let (status, answer) = ask().await;
            if status == 200 {
                return;
            }
            let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(began.elapsed() < PATIENCE, "never: {what}: {status} {answer}\n{}", log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn end(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

fn keep(program: &std::path::Path, folder: &tempfile::TempDir) -> Child {
    let mut shell = Command::new("sh");
    shell.args(["-c", KEEPER]).arg(program);
    shell.args([folder.path().join("config.hcl"), folder.path().join("log")]);
    // Nothing of the machine's own configuration.
    shell.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", folder.path());
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

fn config(folder: &std::path::Path, at: SocketAddr, cluster: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        r#"storage "raft" {{
  path = "{folder}/store"
  node_id = "one"
  performance_multiplier = 1
}}
listener "tcp" {{
  address = "{at}"
  cluster_address = "{cluster}"
  tls_disable = true
}}
api_addr = "http://{at}"
cluster_addr = "http://{cluster}"
audit "file" "all" {{
  options = {{
    file_path = "{folder}/audit.log"
  }}
}}
"#
    )
}
