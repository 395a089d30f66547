//! Counts tests by the closing lines of their runner, and keeps what the failed ones said. Invariant: a line that is no
//! closing line counts nothing.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// How many lines of a panic are kept: where it was, and what it said.
const PANIC_LINES: usize = 4;

/// How many tests passed, failed and were skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
    /// The first lines of every panic of a failed test; long logs may stand between them and the end.
    pub panics: Vec<String>,
}

impl Tally {
    /// Runs `command`, shows what it prints as it comes, and counts its tests.
    pub fn stream(&mut self, command: &mut Command) -> Result<()> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {name}"))?;
        let output = child.stdout.take().with_context(|| format!("read from {name}"))?;
        let mut panics = Panics::default();
        for line in BufReader::new(output).split(b'\n') {
            let line = line.with_context(|| format!("read from {name}"))?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            self.count(&line);
            panics.see(&line);
        }
        let status = child.wait().with_context(|| format!("wait for {name}"))?;
        if !status.success() {
            self.panics.append(&mut panics.seen);
            bail!("{name}: {status}");
        }
        Ok(())
    }

    /// Counts a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; …` of the Rust test harness.
    fn count(&mut self, line: &str) {
        let Some((_, counts)) =
            line.trim().strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for count in counts.split(';') {
            let Some((number, what)) = count.trim().split_once(' ') else { continue };
            let Ok(number) = number.parse::<usize>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }
}

/// Picks the panics out of a runner's output.
#[derive(Default)]
struct Panics {
    seen: Vec<String>,
    /// Lines of the newest panic that are still to come.
    wanted: usize,
}

impl Panics {
    fn see(&mut self, line: &str) {
        if line.starts_with("thread '") && line.contains("panicked at") {
            self.wanted = PANIC_LINES;
        }
        if self.wanted > 0 {
            self.seen.push(line.to_owned());
            self.wanted -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn closing_lines_are_counted_and_others_are_not() {
        let mut tally = Tally::default();
        let script = "echo 'test a ... ok'; echo 'running 4 tests'; \
            echo 'test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 9 filtered out; finished in 0.1s'; \
            echo 'test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out'";
        tally.stream(Command::new("sh").args(["-c", script])).unwrap();
        assert_eq!(tally, Tally { passed: 8, failed: 1, skipped: 2, panics: vec![] });
    }

    #[test]
    fn a_failed_test_is_quoted_and_a_panic_of_a_passed_one_is_not() {
        let script = "echo 'log'; echo \"thread 'a' (7) panicked at x.rs:1:2:\"; echo because; exit";
        let mut tally = Tally::default();
        tally.stream(Command::new("sh").args(["-c", &format!("{script} 0")])).unwrap();
        assert!(tally.panics.is_empty());
        tally.stream(Command::new("sh").args(["-c", &format!("{script} 1")])).unwrap_err();
        assert_eq!(tally.panics, ["thread 'a' (7) panicked at x.rs:1:2:", "because"]);
    }

    #[test]
    fn a_program_that_fails_is_an_error() {
        assert!(Tally::default().stream(Command::new("sh").args(["-c", "exit 1"])).is_err());
    }
}
