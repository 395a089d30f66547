//! What the offline commands are tried on: a KMS, a volume's directory, a mountpoint, and profiles.
//!
//! Invariant: a mount ends with the test that made it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use contract::config::{Credential, KeyProtect, Provider};
use devkms::{Config, Grant, Role, Rules, Seed, Server};
use kms::admin::KmsAdmin;
use kms::{CallCtx, KeyRef, Options, ProviderConfig, SecretString};
use serde_json::Value;

pub const INSTANCE: &str = "11111111-1111-4111-8111-111111111111";
pub const KEY: &str = "22222222-2222-4222-8222-222222222222";

/// A KMS, a volume's directory, a mountpoint, and a profile for each credential.
pub struct Place {
    pub dir: tempfile::TempDir,
    pub server: Server,
    pub runtime: tokio::runtime::Runtime,
    admin: std::sync::Arc<dyn KmsAdmin>,
}

impl Place {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rewrap = Grant::actions(&["kms.secrets.readmetadata", "kms.secrets.rewrap"]);
        let seed = Seed::one_key(INSTANCE, KEY)
            .api_key("data", "data-key", Grant::role(Role::Reader))
            .api_key("rewrap", "rewrap-key", rewrap)
            .api_key("owner", "owner-key", Grant::role(Role::Manager));
        let rules = Rules { rotation_interval: 0, enable_delay: 0, ..Rules::default() };
        let server = Server::start(Config { rules, ..Config::ephemeral(seed) }).unwrap();
        for name in ["raw", "plain"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        for name in ["data", "rewrap"] {
            let key = dir.path().join(format!("{name}.key"));
            std::fs::write(&key, format!("{name}-key")).unwrap();
            let url = server.url();
            let profile = format!(
                "endpoint: {url}\niamEndpoint: {url}\ninstance: {INSTANCE}\nrootKey: {KEY}\napiKeyFile: {}\npollSeconds: 1\n",
                key.display()
            );
            std::fs::write(dir.path().join(format!("{name}.yaml")), profile).unwrap();
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let config = config(&server);
        let secret = Some(SecretString::from("owner-key".to_owned()));
        let admin = kms::connect_admin(&config, secret, &Options::default()).unwrap();
        Self { dir, server, runtime, admin }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn command(&self, args: &[&str], profile: Option<&str>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam-sidecar"));
        command.current_dir(self.dir.path()).args(args);
        if let Some(profile) = profile {
            command.arg("--profile").arg(self.path(&format!("{profile}.yaml"))).arg("--allow-loopback-http");
        }
        command
    }

    pub fn run(&self, args: &[&str], profile: Option<&str>) -> Output {
        self.command(args, profile).output().unwrap()
    }

    pub fn json(&self, args: &[&str], profile: Option<&str>) -> (i32, Value) {
        let output = self.run(&[args, &["--output", "json"]].concat(), profile);
        let text = String::from_utf8_lossy(&output.stderr);
        let value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{args:?}: {text}"));
        (output.status.code().unwrap(), value)
    }

    pub fn rotate(&self) {
        self.runtime.block_on(self.admin.rotate(&KeyRef(KEY.into()), &CallCtx::new())).unwrap();
    }

    pub fn set_enabled(&self, enabled: bool) {
        self.runtime.block_on(self.admin.set_enabled(&KeyRef(KEY.into()), enabled, &CallCtx::new())).unwrap();
    }

    pub fn mount(&self, more: &[&str]) -> Mount<'_> {
        self.mount_by(&mut self.mount_command(more))
    }

    /// The command that mounts the volume.
    pub fn mount_command(&self, more: &[&str]) -> Command {
        self.command(&[&["mount", "raw", "plain"], more].concat(), Some("data"))
    }

    /// Mounts the volume by a command of [`Self::mount_command`].
    pub fn mount_by(&self, command: &mut Command) -> Mount<'_> {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let said = lines.find(|line| line.as_ref().is_ok_and(|line| line.starts_with("mounted")));
        assert!(said.is_some(), "it did not mount");
        Mount { child, place: self }
    }

    /// A volume with these files.
    pub fn fill(&self, files: &[(&str, &[u8])]) {
        let mount = self.mount(&[]);
        for (name, contents) in files {
            std::fs::write(self.path("plain").join(name), contents).unwrap();
        }
        assert_eq!(mount.end(), Some(0));
    }
}

/// A mounted volume, with its server.
pub struct Mount<'a> {
    pub child: Child,
    place: &'a Place,
}

impl Mount<'_> {
    pub fn end(mut self) -> Option<i32> {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.child.id() as i32), nix::sys::signal::SIGTERM)
            .unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = rustix::mount::unmount(self.place.path("plain"), rustix::mount::UnmountFlags::DETACH);
    }
}

/// Whether real mounts can be made here; says so loudly where not. In CI they must be.
pub fn can_mount() -> bool {
    let able = rustix::process::geteuid().is_root() && Path::new("/dev/fuse").exists();
    assert!(able || std::env::var_os("CI").is_none(), "CI must run the tests that mount");
    if !able {
        eprintln!("SKIPPED: no root or no /dev/fuse, so nothing can be mounted");
    }
    able
}

/// How the KMS is reached, whatever the credential.
pub fn config(server: &Server) -> ProviderConfig {
    {
        let provider = Provider::KeyProtect(KeyProtect::at(&server.url(), INSTANCE, KEY));
        let credential = Credential::ApiKeyFile { path: "/nowhere".into() };
        ProviderConfig::new(provider, credential).at_loopback()
    }
}
