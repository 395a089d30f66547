//! The program `devkms`: flags and files become a [`Config`], then the server runs until SIGINT or SIGTERM.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use devkms::config::loopback_names;
use devkms::{Config, Rules, Seed, Server, Tls};
use tokio::signal::unix::{SignalKind, signal};

/// A KMS for development that speaks IBM Key Protect's API (and the IAM token endpoint that goes with it).
///
/// Not for production: root keys lie in memory and in --store in the clear, and the control port asks nobody who they are.
///
/// Endpoints: KMS and IAM (/api/v2/*, /identity/token, /oidc/token) on --http and --https; /healthz, /readyz, /metrics and
/// /_emu/* on --control.
///
/// Control calls, all JSON: POST /_emu/clock/advance {"seconds":30}; GET and PUT /_emu/rules; POST, GET and DELETE
/// /_emu/faults (kinds status, reply, delay, hang, reset, truncate, trickle, bad-json, oversized; per operation, key, probability and
/// count); GET /_emu/identities, PUT /_emu/identities/NAME/grants and /enabled; POST /_emu/roles/revoke and
/// /_emu/roles/restore {"identity":"NAME"}; POST /_emu/tokens/revoke {}; GET and DELETE /_emu/audit and /_emu/counters;
/// POST /_emu/reset {"keys":false}.
#[derive(Debug, Parser)]
#[command(name = "devkms", version)]
struct Args {
    /// Address of the KMS and IAM over http, such as 127.0.0.1:8200
    #[arg(long, env = "DEVKMS_HTTP", value_name = "ADDRESS", required_unless_present = "https")]
    http: Option<SocketAddr>,

    /// Address of the KMS and IAM over https
    #[arg(long, env = "DEVKMS_HTTPS", value_name = "ADDRESS")]
    https: Option<SocketAddr>,

    /// Address of health, metrics and control calls; keep it private
    #[arg(long, env = "DEVKMS_CONTROL", value_name = "ADDRESS", default_value = "127.0.0.1:8299")]
    control: SocketAddr,

    /// Directory that keeps keys over restarts; without it they end with the process
    #[arg(long, env = "DEVKMS_STORE", value_name = "DIR")]
    store: Option<PathBuf>,

    /// YAML or JSON file with instances, keys, API keys and trusted profiles; adds what the store lacks
    #[arg(long, env = "DEVKMS_SEED", value_name = "FILE")]
    seed: Option<PathBuf>,

    /// Certificate chain for https, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key", conflicts_with_all = ["tls_dir", "tls_name"])]
    tls_cert: Option<PathBuf>,

    /// Key of that certificate, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Directory for an own CA and certificate (ca.crt, ca.key, tls.crt, tls.key); a CA that is there is used again
    #[arg(long, env = "DEVKMS_TLS_DIR", value_name = "DIR")]
    tls_dir: Option<PathBuf>,

    /// DNS name or address in the own certificate; may be repeated, localhost is always in it
    #[arg(long, value_name = "NAME")]
    tls_name: Vec<String>,

    /// Least time between two rotations of one key, in seconds (the service says one hour)
    #[arg(long, value_name = "SECONDS", default_value_t = Rules::default().rotation_interval)]
    rotation_interval: i64,

    /// Least time from disabling a key to enabling it, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = Rules::default().enable_delay)]
    enable_delay: i64,

    /// How long an access token is valid, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = Rules::default().token_lifetime)]
    token_lifetime: i64,

    /// Print the addresses in use as one JSON line on standard output once every port answers
    #[arg(long)]
    print_addresses: bool,
}

impl Args {
    fn config(self) -> anyhow::Result<Config> {
        let tls = if let (Some(cert), Some(key)) = (self.tls_cert, self.tls_key) {
            Tls::Files { cert, key }
        } else {
            let names = loopback_names().into_iter().chain(self.tls_name).collect();
            Tls::SelfMade { dir: self.tls_dir, names }
        };
        Ok(Config {
            http: self.http,
            https: self.https,
            control: self.control,
            tls,
            store: self.store,
            seed: self
                .seed
                .map_or_else(|| Ok(Seed::default()), |path| Seed::load(&path))
                .context("load the seed")?,
            rules: Rules {
                rotation_interval: self.rotation_interval,
                enable_delay: self.enable_delay,
                token_lifetime: self.token_lifetime,
                ..Rules::default()
            },
        })
    }
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .json()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()),
        )
        .init();
    let print = args.print_addresses;
    let server = Server::start(args.config()?).context("start")?;
    tracing::info!(
        http = server.url(),
        https = server.https_url(),
        control = server.control_url(),
        "serving"
    );
    if print {
        let addresses = serde_json::json!({
            "http": server.url(),
            "https": server.https_url(),
            "control": server.control_url(),
        });
        println!("{addresses}");
    }
    wait_for_signal().context("wait for a signal")?;
    tracing::info!("stopping");
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn wait_for_signal() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        done = tokio::signal::ctrl_c() => done,
    }
}
