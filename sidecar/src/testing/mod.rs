//! What the tests of this crate stand on: a real KMS in process, and volumes in temporary directories.
#![allow(clippy::unwrap_used, clippy::panic)]

pub mod operator;

use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use contract::config::{
    Credential, KeyProtect, Profile, Provider, Suspension, Volume as VolumeConfig, Wrapping,
};
use devkms::{Config, Fault, FaultKind, Grant, Role, Rules, Seed, Server};
use envelope::{BlockCipher, Geometry, HeaderRegion, KeySlot, Ownership, PAGE, PAYLOAD, Preamble};
use kms::admin::KmsAdmin;
use kms::{CallCtx, KeyRef, Options, ProviderConfig, RetryPolicy, SecretString};

use crate::keys::{KeySetup, KeyWatch, RootKey, VolumeKeys};
use crate::profile::Lifetimes;
use crate::volume::{self, Purpose, Request, Volume, names, open_dir};

pub const INSTANCE: &str = "11111111-1111-4111-8111-111111111111";
pub const KEY: &str = "22222222-2222-4222-8222-222222222222";

/// Short enough for a test, long enough not to end by accident.
pub const LIFETIMES: Lifetimes =
    Lifetimes { poll: Duration::from_millis(200), ttl: Duration::from_secs(60), grace: Duration::ZERO };

/// A KMS with one root key, and its owner's hand on it.
pub struct TestKms {
    pub server: Server,
    admin: Arc<dyn KmsAdmin>,
}

impl TestKms {
    pub fn start() -> Self {
        let rewrap = Grant::actions(&["kms.secrets.readmetadata", "kms.secrets.rewrap"]);
        let seed = Seed::one_key(INSTANCE, KEY)
            .api_key("data", "data-key", Grant::role(Role::Reader))
            .api_key("rewrap", "rewrap-key", rewrap)
            .api_key("owner", "owner-key", Grant::role(Role::Manager));
        let rules = Rules { rotation_interval: 0, enable_delay: 0, restore_delay: 0, ..Rules::default() };
        let server = Server::start(Config { rules, ..Config::ephemeral_tls(seed) }).unwrap();
        let config = config(&server);
        let secret = Some(SecretString::from("owner-key".to_owned()));
        let admin = kms::connect_admin(&config, secret, &Options::default()).unwrap();
        Self { server, admin }
    }

    /// The root key with the data credential, as a sidecar has it.
    pub fn data(&self) -> Arc<RootKey> {
        self.connect("data-key", Duration::from_secs(60))
    }

    /// The root key with a credential that may rewrap and nothing else, as a Job has it.
    pub fn rewrap_only(&self) -> Arc<RootKey> {
        self.connect("rewrap-key", Duration::ZERO)
    }

    /// As [`TestKms::data`], and one call may take as long as a real one.
    pub fn patient(&self) -> Arc<RootKey> {
        self.connect_with("data-key", Duration::from_secs(60), Duration::from_secs(10))
    }

    /// The profile with which programs reach it, and its certificate authority and `api_key` as files in `dir`.
    pub fn profile(&self, dir: &Path, api_key: &str) -> Profile {
        let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        std::fs::write(dir.join("key"), api_key).unwrap();
        std::fs::write(dir.join("kms-ca.crt"), self.server.ca_pem().unwrap()).unwrap();
        let url = self.server.https_url();
        Profile {
            namespace: "security".into(),
            name: "root".into(),
            provider: Provider::KeyProtect(KeyProtect::at(&url, INSTANCE, KEY)),
            credential: Credential::ApiKeyFile { path: path("key") },
            ca_file: Some(path("kms-ca.crt")),
            proxy: None,
            poll_seconds: 30,
            key_ttl_seconds: 300,
            outage_grace_seconds: 0,
        }
    }

    fn connect(&self, key: &str, cache_ttl: Duration) -> Arc<RootKey> {
        self.connect_with(key, cache_ttl, Duration::from_millis(700))
    }

    fn connect_with(&self, key: &str, cache_ttl: Duration, attempt_timeout: Duration) -> Arc<RootKey> {
        let options = Options {
            cache_ttl,
            denial_window: Duration::from_millis(20),
            attempt_timeout,
            default_deadline: Duration::from_secs(3),
            retry: RetryPolicy { attempts: 2, base: Duration::from_millis(5), ..RetryPolicy::default() },
            breaker: kms::BreakerPolicy { failures: 1000, open_for: Duration::from_millis(10) },
            ..Options::default()
        };
        let secret = SecretString::from(key.to_owned());
        let kms = kms::connect_with_secret(&config(&self.server), secret, &options).unwrap();
        Arc::new(RootKey::new(kms, KeyRef(KEY.into()), envelope::Provider::KeyProtect))
    }

    pub async fn rotate(&self) -> String {
        self.admin.rotate(&KeyRef(KEY.into()), &CallCtx::new()).await.unwrap();
        self.current().await
    }

    pub async fn current(&self) -> String {
        self.data().describe(&CallCtx::new()).await.unwrap().current.unwrap().0
    }

    pub async fn set_enabled(&self, enabled: bool) {
        self.admin.set_enabled(&KeyRef(KEY.into()), enabled, &CallCtx::new()).await.unwrap();
    }

    /// From now on the KMS answers nothing but server errors.
    pub fn fail(&self) {
        let kind = FaultKind::Status { status: 503, code: None, retry_after: None };
        self.server.add_fault(Fault::new(&[], kind));
    }

    /// It answers again.
    pub fn recover(&self) {
        self.server.clear_faults();
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

fn config(server: &Server) -> ProviderConfig {
    {
        let provider = Provider::KeyProtect(KeyProtect::at(&server.url(), INSTANCE, KEY));
        let credential = Credential::ApiKeyFile { path: "/nowhere".into() };
        ProviderConfig::new(provider, credential).at_loopback()
    }
}

/// How a sidecar is told to serve a volume.
pub fn volume_config() -> VolumeConfig {
    VolumeConfig {
        name: "data".into(),
        binding: None,
        claim: "data-0".into(),
        profile: 0,
        wrapping: Wrapping::Grouped,
        ownership: contract::config::Ownership::Virtual,
        strict: false,
        seal: false,
        read_only: false,
        suspension: Suspension::Error,
        storage_entries: vec![],
        accepted_origins: vec![],
        pinned_volume_id: None,
        sweep_files_per_second: 0,
        look_for: None,
    }
}

/// What a sidecar asks for.
pub fn request(path: &Path) -> Request {
    Request {
        path: path.into(),
        purpose: Purpose::Write,
        holder: "pod test/writer".into(),
        storage_entries: vec![],
        pinned: None,
        ownership: Ownership::Virtual,
        strict: false,
        seal: false,
    }
}

/// An open volume with its keys, as a sidecar has them.
pub struct Opened {
    pub volume: Volume,
    pub root: Arc<RootKey>,
    pub watch: Arc<KeyWatch>,
    pub keys: Arc<VolumeKeys>,
    pub path: PathBuf,
}

/// Opens the volume at `path` and proves its key.
pub async fn open(kms: &TestKms, path: &Path, wrapping: Wrapping) -> Opened {
    open_with(kms, path, wrapping, LIFETIMES).await
}

pub async fn open_with(kms: &TestKms, path: &Path, wrapping: Wrapping, lifetimes: Lifetimes) -> Opened {
    let root = kms.data();
    let volume = volume::open(&request(path), &root).await.unwrap();
    let watch = Arc::new(KeyWatch::new(Arc::clone(&root), lifetimes));
    watch.set_marker(volume.region.clone());
    watch.look_once().await;
    let keys = Arc::new(VolumeKeys::new(KeySetup {
        root: Arc::clone(&root),
        watch: Arc::clone(&watch),
        volume: volume.region.marker().volume_id(),
        accepted: vec![],
        wrapping,
        groups: open_dir(volume.dir().as_fd(), names::GROUPS).unwrap(),
    }));
    Opened { volume, root, watch, keys, path: path.into() }
}

impl Opened {
    /// Writes a file of `data`, as the filesystem would.
    pub async fn write(&self, name: &str, data: &[u8]) {
        let new = self.keys.create().await.unwrap();
        let geometry = Geometry::new(1).unwrap();
        let preamble = Preamble::create(&new.dek, new.file, self.keys.volume(), geometry);
        let cipher = BlockCipher::new(&new.dek, &preamble).unwrap();
        let slot = KeySlot::first(vec![new.wrapped], true).unwrap();
        let mut bytes = HeaderRegion::create(preamble, slot).encode().unwrap();
        for (index, block) in data.chunks(PAYLOAD).enumerate() {
            let mut page = [0; PAGE];
            cipher.seal_block(index as u64, block, &mut page).unwrap();
            bytes.extend_from_slice(&page);
        }
        std::fs::write(self.path.join(name), bytes).unwrap();
    }

    /// The header of a file.
    pub fn header(&self, name: &str) -> HeaderRegion {
        header(&self.path.join(name))
    }

    /// The version that a file's current slot names.
    pub fn version(&self, name: &str) -> String {
        version(&self.path.join(name))
    }
}

pub fn header(path: &Path) -> HeaderRegion {
    HeaderRegion::parse(&std::fs::read(path).unwrap()).unwrap().unwrap()
}

pub fn version(path: &Path) -> String {
    header(path).current().unwrap().1.keys()[0].version.clone()
}

/// Everything behind the header: what no rewrap may change.
pub fn data_pages(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap().split_off(PAGE)
}

/// Changes one byte of a file.
pub fn damage(path: &Path, offset: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], offset).unwrap();
}
