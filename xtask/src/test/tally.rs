//! Counts tests by the closing lines of their runner. Invariant: a line that is no closing line counts nothing.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// How many tests passed, failed and were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
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
        for line in BufReader::new(output).split(b'\n') {
            let line = line.with_context(|| format!("read from {name}"))?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            self.count(&line);
        }
        let status = child.wait().with_context(|| format!("wait for {name}"))?;
        if !status.success() {
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
        assert_eq!(tally, Tally { passed: 8, failed: 1, skipped: 2 });
    }

    #[test]
    fn a_program_that_fails_is_an_error() {
        assert!(Tally::default().stream(Command::new("sh").args(["-c", "exit 1"])).is_err());
    }
}
