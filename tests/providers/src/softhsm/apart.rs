//! A process for each check, with a token of its own.
//!
//! SoftHSM reads `SOFTHSM2_CONF` from the environment when it is initialised, and who is logged in is a matter of the process.
//! Invariant: nothing outside the folder of a check is read or written, and a check that did not run is a failure.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use super::shim::{self, Shim};

/// Names the folder of a check to the process that runs it.
const FOLDER: &str = "COFFERDAM_TOKEN_FOLDER";
/// Names the shim to it.
const SHIM: &str = "COFFERDAM_SHIM";
const UTIL: &str = "/usr/bin/softhsm2-util";

/// The label of the token.
pub const TOKEN: &str = "checks";
pub(super) const PIN: &str = "4711-that-nobody-may-see";
const SO_PIN: &str = "0815-that-nobody-may-see";

/// The shim, compiled once in a process, beside its program.
static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| shim::build(&std::env::current_exe().unwrap()));

/// The folder of a check.
#[derive(Clone, Debug)]
pub struct Scene(PathBuf);

impl Scene {
    /// The one that this process was started for.
    pub(super) fn of_this_process() -> Self {
        Self(PathBuf::from(std::env::var_os(FOLDER).expect("a check that runs by `apart`")))
    }

    /// Where the tokens lie.
    pub fn tokens(&self) -> PathBuf {
        self.0.join("tokens")
    }

    /// Where the tokens lie while they are lost.
    pub fn elsewhere(&self) -> PathBuf {
        self.0.join("elsewhere")
    }

    pub(super) fn shim_state(&self) -> PathBuf {
        self.0.join("shim")
    }

    fn conf(&self) -> PathBuf {
        self.0.join("softhsm2.conf")
    }

    fn ran(&self) -> PathBuf {
        self.0.join("ran")
    }

    /// Makes another token, by the vendor's own tool.
    pub fn make_token(&self, label: &str) {
        let mut util = Command::new(UTIL);
        util.env_clear().env("SOFTHSM2_CONF", self.conf());
        util.args(["--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", SO_PIN]);
        let done = util.output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    fn prepare(&self) {
        std::fs::create_dir(self.tokens()).unwrap();
        let tokens = self.tokens();
        let conf = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            tokens.display()
        );
        std::fs::write(self.conf(), conf).unwrap();
        Shim::create(&self.shim_state());
        self.make_token(TOKEN);
    }
}

/// The shim, which all processes use.
pub(super) fn library() -> PathBuf {
    PathBuf::from(std::env::var_os(SHIM).expect("a check that runs by `apart`"))
}

/// Runs the test of this name in a process of its own, where `check` does the work.
pub fn apart(test: &str, check: impl Future<Output = ()>) {
    if std::env::var_os(FOLDER).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check);
        until_all_calls_returned();
        std::fs::write(Scene::of_this_process().ran(), "").unwrap();
        return;
    }
    if !Path::new(UTIL).exists() || !Path::new(shim::REAL).exists() {
        assert!(std::env::var_os("CI").is_none(), "CI must have softhsm2");
        println!("SKIPPED: the Debian package softhsm2 is missing");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene(folder.path().into());
    scene.prepare();
    let mut process = Command::new(std::env::current_exe().unwrap());
    process.args([test, "--exact", "--nocapture", "--test-threads=1"]);
    process.env(FOLDER, folder.path()).env("SOFTHSM2_CONF", scene.conf());
    process.env(SHIM, &*LIBRARY).env("COFFERDAM_SHIM_REAL", shim::REAL);
    let done = process.env("COFFERDAM_SHIM_STATE", scene.shim_state()).output().unwrap();
    println!("{}", String::from_utf8_lossy(&done.stdout));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(scene.ran().exists(), "no test of this name ran: {test}");
}

/// A library may crash where a process ends while a call is under way in it. None stays behind for long.
fn until_all_calls_returned() {
    // The names that the provider gives its threads.
    let calls = ["pkcs11", "pkcs11-close"];
    let name = |task: &Path| std::fs::read_to_string(task.join("comm")).unwrap_or_default();
    let under_way = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        tasks.map(|task| name(&task.unwrap().path())).any(|name| calls.contains(&name.trim()))
    };
    let began = Instant::now();
    while under_way() {
        assert!(began.elapsed() < Duration::from_secs(20), "a call stays behind");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Makes a test of each check over the bench of SoftHSM, each in a process of its own.
#[macro_export]
macro_rules! conformance_tests_apart {
    (; $($check:ident)*) => {
        $(
            #[test]
            fn $check() {
                let name = stringify!($check);
                $crate::softhsm::apart(name, $crate::run::<$crate::SoftHsm>(name, $crate::checks::$check));
            }
        )*
    };
}
