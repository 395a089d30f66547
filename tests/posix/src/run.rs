//! Runs programs of others on a volume.
//!
//! Invariant: a program that fails, or does not end in time, is named with the end of what it said.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// How much of a failed program's output is shown.
const TAIL: usize = 6000;

/// How a script is run.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// Where.
    pub directory: &'a Path,
    /// As which user; root if none.
    pub user: Option<&'a str>,
    /// For at most how many seconds.
    pub seconds: u32,
}

impl<'a> Run<'a> {
    /// In `directory`, as root, for ten minutes at most.
    pub fn within(directory: &'a Path) -> Self {
        Self { directory, user: None, seconds: 600 }
    }

    /// As a user of the system.
    #[must_use]
    pub fn as_user(self, user: &'a str) -> Self {
        Self { user: Some(user), ..self }
    }

    /// The program that runs `script` in bash, where the first failure ends it.
    pub fn command(&self, script: &str) -> Command {
        let mut command = Command::new("timeout");
        command.arg("--kill-after=10").arg(self.seconds.to_string());
        if let Some(user) = self.user {
            command.args(["setpriv", "--reuid", user, "--regid", user, "--init-groups"]);
        }
        command.args(["bash", "-euo", "pipefail", "-c", script]).current_dir(self.directory);
        command.env("LC_ALL", "C.UTF-8").env("GIT_CONFIG_GLOBAL", "/dev/null").env("HOME", "/nonexistent");
        command
    }

    /// Runs a script; what it printed, if it succeeded.
    pub fn attempt(&self, script: &str) -> Result<String, String> {
        let output = self.command(script).output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(said);
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        Err(format!("{}\n{script}\n{}\n{}", output.status, end(&said), end(&errors)))
    }

    /// Runs a script that must succeed; what it printed.
    #[track_caller]
    pub fn shell(&self, script: &str) -> String {
        self.attempt(script).unwrap_or_else(|error| panic!("{error}"))
    }
}

fn end(text: &str) -> &str {
    let from = text.char_indices().map(|(at, _)| at).find(|at| text.len() - at <= TAIL);
    &text[from.unwrap_or(0)..]
}

/// Runs a suite, and prints its one line: name, what it says of itself, and how long it took.
pub fn report(name: &str, suite: impl FnOnce() -> String) {
    let started = Instant::now();
    let summary = suite();
    println!("suite {name}: {summary} ({:.0} s)", started.elapsed().as_secs_f32());
}
