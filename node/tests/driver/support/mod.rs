//! What the tests stand on: namespaces, a stand-in API server, a stand-in sidecar in a process of its own.

pub mod api;
pub mod driver;
pub mod fuse;
pub mod sidecar;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Set in the process that runs inside the namespaces.
const INSIDE: &str = "COFFERDAM_TEST_INSIDE";
/// Most seconds that one test takes.
const LIMIT: &str = "90";

/// Runs the calling test in namespaces of its own. `body` must be a closure written in the test itself: its name tells which.
pub fn isolated<F: FnOnce()>(body: F) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    if let Err(missing) = prerequisites() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "cannot run here: {missing}");
        eprintln!("SKIPPED, {missing}");
        return;
    }
    let path = std::any::type_name::<F>();
    let name = path.split("::").skip(1).filter(|part| !part.contains('{')).collect::<Vec<_>>().join("::");
    let output = Command::new("timeout")
        .args([
            "-k",
            "5",
            LIMIT,
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "--pid",
            "--fork",
            "--kill-child",
        ])
        .arg("--mount-proc")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture", "--include-ignored"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "failed inside its namespaces ({}):\n{said}", output.status);
    assert!(
        said.contains("test result: ok. 1 passed"),
        "{name} was not found inside its namespaces:\n{said}"
    );
}

fn prerequisites() -> Result<(), String> {
    std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .map_err(|error| format!("/dev/fuse cannot be opened: {error}"))?;
    let probe = Command::new("unshare").args(["--mount", "--pid", "--fork", "--mount-proc", "true"]).output();
    match probe {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("no namespaces: {}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => Err(format!("unshare cannot be run: {error}")),
    }
}

/// Starts a process that looks at `path`, and so waits for its FUSE server. A thread could not be ended while it waits.
pub fn look_at(path: &Path) -> Child {
    Command::new("stat").arg(path).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for a process to end, and returns whether it succeeded and what it complained about; panics after `limit`.
pub fn outcome(child: Child, limit: Duration) -> (bool, String) {
    let mut child = child;
    wait_for("the process to end", limit, || child.try_wait().unwrap().is_some());
    let output = child.wait_with_output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Waits until something is so; panics after `limit`.
pub fn wait_for(what: &str, limit: Duration, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < limit, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
