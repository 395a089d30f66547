//! Runs the program, and looks through everything that it prints.
//!
//! Invariant: no test sees an output in which a secret stands.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;

/// What one run printed, and how it ended.
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
    /// What was written by `--audit=`.
    pub audit: String,
}

impl Ran {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }

    /// About, check and verdict of each line.
    pub fn lines(&self) -> Vec<(String, String, String)> {
        let text = |line: &Value, field: &str| line[field].as_str().unwrap().to_owned();
        let all = self.json()["lines"].as_array().unwrap().clone();
        all.iter().map(|line| (text(line, "about"), text(line, "check"), text(line, "verdict"))).collect()
    }

    /// The verdict of a line.
    pub fn verdict(&self, about: &str, check: &str) -> String {
        let found =
            self.lines().into_iter().find(|line| (line.0.as_str(), line.1.as_str()) == (about, check));
        found.unwrap_or_else(|| panic!("no line {about} {check}: {}", self.out)).2
    }

    /// The text of a line.
    pub fn text(&self, about: &str, check: &str) -> String {
        let all = self.json()["lines"].as_array().unwrap().clone();
        let found = all.iter().find(|line| line["about"] == about && line["check"] == check).unwrap();
        found["text"].as_str().unwrap().to_owned()
    }
}

/// A folder for a test's files, and the secrets that lie in them.
pub struct Folder {
    dir: TempDir,
    secrets: Vec<String>,
}

impl Folder {
    pub fn new() -> Self {
        // How a JSON web token begins, and the token of a server: nobody gave them to the program, so that they are no file's.
        let secrets = ["eyJ", "hvs.", "nobody-may-see"].map(str::to_owned).to_vec();
        Self { dir: tempfile::tempdir().unwrap(), secrets }
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A file with a secret, which from now on is looked for in all that is printed.
    pub fn secret(&mut self, name: &str, text: &str) -> PathBuf {
        self.secrets.push(text.to_owned());
        self.write(name, text)
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Runs the program with these words, as nobody in particular.
    pub async fn run(&self, words: &str) -> Ran {
        let audit = self.dir.path().join("audit.jsonl");
        let _ = std::fs::remove_file(&audit);
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command.args(words.split_whitespace().map(|word| self.placed(word)));
        command.env_clear().env("HOME", self.dir.path()).env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
        let output = command.current_dir(self.dir.path()).output().await.unwrap();
        let ran = Ran {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
            audit: std::fs::read_to_string(&audit).unwrap_or_default(),
        };
        for secret in &self.secrets {
            for text in [&ran.out, &ran.err, &ran.audit] {
                assert!(!text.contains(secret.as_str()), "a secret got out: {text}");
            }
        }
        ran
    }

    /// `@name` is a file of this folder.
    fn placed(&self, word: &str) -> String {
        word.replace('@', &format!("{}/", self.dir.path().display()))
    }
}
