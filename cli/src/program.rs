//! From the arguments to an exit code.
//!
//! Invariant: results go to standard output, everything else to standard error; what ends badly says why in one line.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

use clap::{Command as Clap, CommandFactory, FromArgMatches};
use contract::exit;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use crate::args::{Cli, Command, CommonArgs, KeyCommand, KmsCommand};
use crate::failure::Failure;
use crate::{audit, check, key};

/// The name under which kubectl finds the program as `kubectl cofferdam`.
const PLUGIN: &str = "kubectl-cofferdam";

/// The command line, as the program of this path is called.
pub fn command(program: &Path) -> Clap {
    let plugin = program.file_name().is_some_and(|name| name == PLUGIN);
    let command = Cli::command();
    if plugin { command.bin_name("kubectl cofferdam") } else { command }
}

/// Runs the program; the exit code.
pub fn run(arguments: Vec<OsString>) -> i32 {
    let program = arguments.first().cloned().unwrap_or_default();
    let parsed = command(Path::new(&program)).try_get_matches_from(arguments);
    let parsed = parsed.and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // Help that nobody can read is no failure of its own.
            let _ = error.print();
            return if error.use_stderr() { exit::USAGE } else { exit::OK };
        }
    };
    match carry_out(&cli, Path::new(&program)) {
        Ok((text, code)) => printed(&text, code),
        Err(Failure { code, text }) => {
            let _ = writeln!(std::io::stderr(), "cofferdam: {text}");
            code
        }
    }
}

/// A result that could not be written is not delivered.
fn printed(text: &str, code: i32) -> i32 {
    let mut out = std::io::stdout().lock();
    let written = out
        .write_all(text.as_bytes())
        .and_then(|()| if text.is_empty() || text.ends_with('\n') { Ok(()) } else { out.write_all(b"\n") });
    match written.and_then(|()| out.flush()) {
        Err(_) if code == exit::OK => exit::FAILURE,
        _ => code,
    }
}

fn carry_out(cli: &Cli, program: &Path) -> Result<(String, i32), Failure> {
    match &cli.command {
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "cofferdam", &mut text);
            Ok((String::from_utf8_lossy(&text).into_owned(), exit::OK))
        }
        Command::Man => manual(program).map(|text| (text, exit::OK)),
        Command::Kms(KmsCommand::Check(args)) => within(&cli.common, check::run(args, &cli.common)),
        Command::Key(KeyCommand::List(args)) => within(&cli.common, key::list(args, &cli.common)),
        Command::Key(KeyCommand::Rotate(args)) => {
            within(&cli.common, key::change(key::Change::Rotate, args, &cli.common))
        }
        Command::Key(KeyCommand::Disable(args)) => {
            within(&cli.common, key::change(key::Change::Disable, args, &cli.common))
        }
        Command::Key(KeyCommand::Enable(args)) => {
            within(&cli.common, key::change(key::Change::Enable, args, &cli.common))
        }
    }
}

/// The page of the program, and one section for each of its commands.
fn manual(program: &Path) -> Result<String, Failure> {
    let mut root = command(program);
    root.build();
    let mut text = Vec::new();
    let written = pages(&root, &mut text);
    written.map_err(|error| Failure::new(exit::FAILURE, format!("write the man page: {error}")))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn pages(root: &Clap, out: &mut Vec<u8>) -> std::io::Result<()> {
    clap_mangen::Man::new(root.clone()).render(out)?;
    let leaves = root.get_subcommands().flat_map(|group| {
        let below: Vec<&Clap> = group.get_subcommands().filter(|leaf| leaf.get_name() != "help").collect();
        below
    });
    for leaf in leaves {
        let name = leaf.get_bin_name().unwrap_or_else(|| leaf.get_name());
        writeln!(out, ".SH \"COMMAND {}\"", name.to_uppercase())?;
        let page = clap_mangen::Man::new(leaf.clone());
        page.render_description_section(out)?;
        page.render_synopsis_section(out)?;
        page.render_options_section(out)?;
    }
    Ok(())
}

fn within(
    common: &CommonArgs,
    command: impl Future<Output = Result<(String, i32), Failure>>,
) -> Result<(String, i32), Failure> {
    keep_to_itself();
    audit::begin(common.audit.as_deref())?;
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::new(exit::FAILURE, format!("start the runtime: {error}")))?;
    runtime.block_on(command)
}

/// Secrets pass through this process: no core dump, and no look at its memory by its equals. Where that is not allowed it goes on.
fn keep_to_itself() {
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_a_plugin_of_kubectl_it_says_so_in_its_usage() {
        let usage = |program: &str| {
            let error = command(Path::new(program)).try_get_matches_from([program, "kms", "check"]);
            error.map(|_| ()).map_err(|error| error.to_string())
        };
        let alone = usage("/usr/bin/cofferdam");
        assert!(alone.as_ref().is_err_and(|text| text.contains("Usage: cofferdam kms check")), "{alone:?}");
        let plugin = usage("/usr/bin/kubectl-cofferdam");
        assert!(
            plugin.as_ref().is_err_and(|text| text.contains("Usage: kubectl cofferdam kms check")),
            "{plugin:?}"
        );
    }
}
