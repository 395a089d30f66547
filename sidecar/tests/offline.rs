//! The offline commands, as programs, against a KMS in process.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use devkms::{Config, Fault, FaultKind, Grant, Role, Rules, Seed, Server};
use kms::admin::KmsAdmin;
use kms::{CallCtx, CredentialSource, KeyProtectConfig, KeyRef, Options, ProviderConfig, SecretString};
use serde_json::Value;

const INSTANCE: &str = "11111111-1111-4111-8111-111111111111";
const KEY: &str = "22222222-2222-4222-8222-222222222222";

/// A KMS, a volume's directory, a mountpoint, and a profile for each credential.
struct Place {
    dir: tempfile::TempDir,
    server: Server,
    runtime: tokio::runtime::Runtime,
    admin: std::sync::Arc<dyn KmsAdmin>,
}

impl Place {
    fn new() -> Self {
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
        let config = ProviderConfig::KeyProtect(KeyProtectConfig {
            endpoint: server.url(),
            iam_endpoint: server.url(),
            instance: INSTANCE.into(),
            root_key: KEY.into(),
            key_ring: None,
            credential: CredentialSource::ApiKeyFile { path: "/nowhere".into() },
            ca: None,
            allow_loopback_http: true,
        });
        let secret = Some(SecretString::from("owner-key".to_owned()));
        let admin = kms::connect_admin(&config, secret, &Options::default()).unwrap();
        Self { dir, server, runtime, admin }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, args: &[&str], profile: Option<&str>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam-sidecar"));
        command.current_dir(self.dir.path()).args(args);
        if let Some(profile) = profile {
            command.arg("--profile").arg(self.path(&format!("{profile}.yaml"))).arg("--allow-loopback-http");
        }
        command
    }

    fn run(&self, args: &[&str], profile: Option<&str>) -> Output {
        self.command(args, profile).output().unwrap()
    }

    fn json(&self, args: &[&str], profile: Option<&str>) -> (i32, Value) {
        let output = self.run(&[args, &["--output", "json"]].concat(), profile);
        let text = String::from_utf8_lossy(&output.stderr);
        let value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{args:?}: {text}"));
        (output.status.code().unwrap(), value)
    }

    fn rotate(&self) {
        self.runtime.block_on(self.admin.rotate(&KeyRef(KEY.into()), &CallCtx::new())).unwrap();
    }

    fn set_enabled(&self, enabled: bool) {
        self.runtime.block_on(self.admin.set_enabled(&KeyRef(KEY.into()), enabled, &CallCtx::new())).unwrap();
    }

    fn mount(&self, more: &[&str]) -> Mount<'_> {
        let mut command = self.command(&[&["mount", "raw", "plain"], more].concat(), Some("data"));
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let said = lines.find(|line| line.as_ref().is_ok_and(|line| line.starts_with("mounted")));
        assert!(said.is_some(), "it did not mount");
        Mount { child, place: self }
    }

    /// A volume with these files.
    fn fill(&self, files: &[(&str, &[u8])]) {
        let mount = self.mount(&[]);
        for (name, contents) in files {
            std::fs::write(self.path("plain").join(name), contents).unwrap();
        }
        assert_eq!(mount.end(), Some(0));
    }
}

struct Mount<'a> {
    child: Child,
    place: &'a Place,
}

impl Mount<'_> {
    fn end(mut self) -> Option<i32> {
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
fn can_mount() -> bool {
    let able = rustix::process::geteuid().is_root() && Path::new("/dev/fuse").exists();
    assert!(able || std::env::var_os("CI").is_none(), "CI must run the tests that mount");
    if !able {
        eprintln!("SKIPPED: no root or no /dev/fuse, so nothing can be mounted");
    }
    able
}

fn flip(path: &Path, offset: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

#[test]
fn what_a_mount_writes_is_ciphertext_below_and_comes_back_after_a_remount() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    let secret = b"a sentence that must not be found".repeat(400);
    place.fill(&[("file", &secret)]);
    let raw = std::fs::read(place.path("raw/file")).unwrap();
    assert!(!raw.windows(16).any(|run| run == &secret[..16]));
    let mount = place.mount(&["--read-only"]);
    assert_eq!(std::fs::read(place.path("plain/file")).unwrap(), secret);
    let refused = std::fs::write(place.path("plain/new"), b"x").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
    assert_eq!(mount.end(), Some(0));
}

#[test]
fn inspect_shows_headers_and_volumes_without_any_key() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    place.fill(&[("file", b"contents")]);
    let (code, file) = place.json(&["inspect", "raw/file"], None);
    assert_eq!((code, &file["kind"], &file["blocks"]), (0, &"file".into(), &1.into()));
    let slot = &file["slots"][0];
    assert_eq!((&slot["state"], &slot["verified"]), (&"current".into(), &true.into()));
    assert_eq!((&slot["keys"][0]["rootKey"], &slot["keys"][0]["wrapping"]), (&KEY.into(), &"Grouped".into()));
    let (code, volume) = place.json(&["inspect", "raw"], None);
    assert_eq!((code, &volume["volumeId"]), (0, &file["originVolume"]));
    assert_eq!(volume["lease"]["released"], true);
    assert_eq!(volume["groups"].as_array().unwrap().len(), 2);
    let text = String::from_utf8(place.run(&["inspect", "raw/file"], None).stdout).unwrap();
    assert!(text.lines().any(|line| line.trim() == format!("rootKey: {KEY}")), "{text}");
    std::fs::write(place.path("other"), vec![b'x'; 5000]).unwrap();
    assert_eq!(place.run(&["inspect", "other"], None).status.code(), Some(65));
}

#[test]
fn verify_names_each_damaged_file_and_no_other() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    let long = vec![9; 20_000];
    place.fill(&[("good", &long), ("block", &long), ("header", &long), ("empty", b"")]);
    let (code, found) = place.json(&["verify", "raw"], Some("data"));
    assert_eq!((code, &found["damaged"], &found["files"]), (0, &Value::Array(vec![]), &4.into()));
    assert_eq!((&found["empty"], &found["blocks"]), (&1.into(), &15.into()));
    flip(&place.path("raw/block"), 4096 * 3 + 100);
    flip(&place.path("raw/header"), 50);
    let (code, found) = place.json(&["verify", "raw"], Some("data"));
    let mut names: Vec<_> =
        found["damaged"].as_array().unwrap().iter().map(|found| found["path"].clone()).collect();
    names.sort_by_key(ToString::to_string);
    assert_eq!((code, names), (65, vec!["block".into(), "header".into()]));
}

#[test]
fn verify_calls_an_outage_an_outage_and_a_disabled_key_disabled() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    place.fill(&[("file", b"contents")]);
    place.set_enabled(false);
    let output = place.run(&["verify", "raw"], Some("data"));
    assert_eq!(output.status.code(), Some(77), "{}", String::from_utf8_lossy(&output.stderr));
    place.set_enabled(true);
    place.server.add_fault(Fault::new(&[], FaultKind::Status { status: 503, code: None, retry_after: None }));
    let output = place.run(&["verify", "raw"], Some("data"));
    assert_eq!(output.status.code(), Some(69), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn rewrap_needs_no_right_to_unwrap_and_leaves_every_block_as_it_was() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    let long = vec![3; 50_000];
    place.fill(&[("one", &long), ("two", &long)]);
    let blocks = |name: &str| std::fs::read(place.path("raw").join(name)).unwrap().split_off(4096);
    let before = (blocks("one"), blocks("two"));
    let (_, old) = place.json(&["inspect", "raw/one"], None);
    place.rotate();
    let (code, report) = place.json(&["rewrap", "raw"], Some("rewrap"));
    assert_eq!((code, &report["complete"], &report["rewrapped"]), (0, &true.into(), &5.into()));
    let (_, new) = place.json(&["inspect", "raw/one"], None);
    assert_ne!(old["slots"][0]["keys"][0]["version"], new["slots"][1]["keys"][0]["version"]);
    assert_eq!(new["slots"][1]["keys"][0]["version"], report["targetVersion"]);
    assert_eq!((blocks("one"), blocks("two")), before);
    let (code, _) = place.json(&["verify", "raw"], Some("data"));
    assert_eq!(code, 0);
    // One that cannot be rewrapped is counted, and the exit code says that something is left.
    place.rotate();
    flip(&place.path("raw/two"), 50);
    let (code, report) = place.json(&["rewrap", "raw"], Some("rewrap"));
    assert_eq!((code, &report["unknown"]), (75, &1.into()));
}

#[test]
fn a_volume_in_use_is_left_to_its_user() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    let mount = place.mount(&[]);
    let output = place.run(&["rewrap", "raw"], Some("rewrap"));
    assert_eq!(output.status.code(), Some(69));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains(&format!("process {}", mount.child.id())), "{text}");
}

#[test]
fn plaintext_and_wrong_use_have_codes_of_their_own() {
    let place = Place::new();
    std::fs::write(place.path("raw/plain.txt"), b"somebody's").unwrap();
    let refused = place.run(&["mount", "raw", "plain"], Some("data"));
    assert_eq!(refused.status.code(), Some(65), "{}", String::from_utf8_lossy(&refused.stderr));
    assert_eq!(std::fs::read_dir(place.path("raw")).unwrap().count(), 1);
    assert_eq!(place.run(&["mount", "raw"], None).status.code(), Some(64));
    assert_eq!(place.run(&["verify", "raw"], None).status.code(), Some(78));
    assert_eq!(place.run(&["serve"], None).status.code(), Some(78));
    assert_eq!(place.run(&["completions", "bash"], None).status.code(), Some(0));
    assert_eq!(place.run(&["ready"], None).status.code(), Some(1));
}

#[test]
fn a_killed_rewrap_leaves_every_file_readable_and_the_next_one_ends_the_work() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    let names: Vec<_> = (0..200).map(|number| format!("file-{number}")).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), name.as_bytes())).collect();
    place.fill(&files);
    place.rotate();
    let mut command = place.command(&["rewrap", "raw", "--files-per-second", "200"], Some("rewrap"));
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(600));
    child.kill().unwrap();
    child.wait().unwrap();
    let (code, found) = place.json(&["verify", "raw"], Some("data"));
    assert_eq!((code, &found["files"]), (0, &200.into()));
    let (code, report) = place.json(&["rewrap", "raw"], Some("rewrap"));
    assert_eq!((code, &report["unknown"]), (0, &0.into()));
    let versions = report["filesPerVersion"].as_object().unwrap();
    assert_eq!(versions.values().collect::<Vec<_>>(), [&Value::from(203)]);
}
