//! Runs other programs. Invariant: a program that fails is named with its arguments and the end of what it said.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// How many of the last lines of a failed program are shown.
const TAIL_LINES: usize = 30;

/// Runs `command` with its output in the file `log`; an error ends with the log's last lines.
pub fn logged(command: &mut Command, log: &Path) -> Result<()> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    let file = File::create(log).with_context(|| format!("create {}", log.display()))?;
    let errors = file.try_clone().context("share the log")?;
    let status = command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        .status()
        .with_context(|| format!("start {}", text_of(command)))?;
    if status.success() {
        return Ok(());
    }
    bail!("{}: {status}; the end of {}:\n{}", text_of(command), log.display(), tail(log));
}

/// Runs `command` and returns what it printed; an error carries its error output.
pub fn output(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("start {}", text_of(command)))?;
    checked(command, output)
}

/// Runs `command` with `input` as its standard input and returns what it printed.
pub fn output_with_input(command: &mut Command, input: &str) -> Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {}", text_of(command)))?;
    let mut pipe = child.stdin.take().context("open the program's standard input")?;
    let text = input.to_owned();
    // Fed from a thread: a program that answers before it has read all would otherwise block both sides.
    let feeder = std::thread::spawn(move || pipe.write_all(text.as_bytes()));
    let output = child.wait_with_output().with_context(|| format!("wait for {}", text_of(command)))?;
    let fed = feeder.join();
    let text = checked(command, output)?;
    if !matches!(fed, Ok(Ok(()))) {
        bail!("{} did not read all of its input", text_of(command));
    }
    Ok(text)
}

/// Runs `command` with this program's own output, and fails where it does.
pub fn shown(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start {}", text_of(command)))?;
    if !status.success() {
        bail!("{}: {status}", text_of(command));
    }
    Ok(())
}

/// The last lines of a file, or why they cannot be had.
pub fn tail(log: &Path) -> String {
    match fs::read(log) {
        Ok(bytes) => last_lines(&String::from_utf8_lossy(&bytes), TAIL_LINES),
        Err(error) => format!("({} cannot be read: {error})", log.display()),
    }
}

fn checked(command: &Command, output: Output) -> Result<String> {
    let errors = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{}: {}: {}", text_of(command), output.status, last_lines(errors.trim(), TAIL_LINES));
    }
    String::from_utf8(output.stdout).with_context(|| format!("{} printed no text", text_of(command)))
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

fn text_of(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_failed_program_is_named_with_the_end_of_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("logs/x.log");
        let script = "for i in $(seq 100); do echo line $i; done; exit 3";
        let error = logged(Command::new("sh").args(["-c", script]), &log).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.ends_with("line 100"), "{error}");
        assert!(!error.contains("line 70\n") && error.contains("line 71\n"), "{error}");
    }

    #[test]
    fn input_larger_than_a_pipe_comes_back_whole() {
        let input = "0123456789".repeat(100_000);
        assert_eq!(output_with_input(&mut Command::new("cat"), &input).unwrap(), input);
    }

    #[test]
    fn a_missing_program_is_an_error_that_names_it() {
        let error = output(&mut Command::new("no-such-program-here")).unwrap_err().to_string();
        assert!(error.contains("no-such-program-here"), "{error}");
    }
}
