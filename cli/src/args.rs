//! The command line.
//!
//! Invariant: no secret stands on it, only names of files; an exit code is one of `contract::exit`, and the help text says which.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::failure::Failure;
use crate::subject::Role;

const EXIT_CODES: &str = "Exit codes:
   0  all went well; of `kms check`: every line is ok or a warning
   1  it failed, or was not confirmed; of `kms check`: a line is failed
  64  the command line is wrong
  69  the KMS or the API server does not answer: try again
  75  of `kms check` and `key list --live`: no line is failed, and something is not known
  77  the KMS or the API server refuses
  78  the profile, the kubeconfig or a file is wrong or missing";

/// Root keys of Cofferdam: check how they are reached, look at them, rotate, disable and enable them.
#[derive(Debug, Parser)]
#[command(name = "cofferdam", version, after_long_help = EXIT_CODES, arg_required_else_help = true)]
pub struct Cli {
    /// Where the cluster is, and what is written down.
    #[command(flatten)]
    pub common: CommonArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Common options")]
pub struct CommonArgs {
    /// The kubeconfig [default: as kubectl has it, by KUBECONFIG or ~/.kube/config]
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig [default: its current one]
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// The namespace of the profile [default: the context's]
    #[arg(long, short, global = true, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Write one JSON line for each call to the KMS, to standard error or to the end of a file.
    #[arg(long, global = true, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    pub audit: Option<PathBuf>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// How a KMS is reached.
    #[command(subcommand)]
    Kms(KmsCommand),
    /// Root keys.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Print shell completions.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the man page.
    Man,
}

/// `kms`.
#[derive(Debug, Subcommand)]
pub enum KmsCommand {
    /// Check, line by line, that each credential of a profile reaches its root key, may do what it must, and may not do what it must not.
    #[command(after_long_help = EXIT_CODES)]
    Check(CheckArgs),
}

/// `key`. What brings key material of one's own belongs here as one more.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// List root keys, their versions, and what still needs each version.
    #[command(after_long_help = EXIT_CODES)]
    List(ListArgs),
    /// Make a new version of a root key the current one, with the admin credential.
    #[command(after_long_help = EXIT_CODES)]
    Rotate(ChangeArgs),
    /// Disable a root key, with the admin credential: access to everything that it protects is suspended.
    #[command(after_long_help = EXIT_CODES)]
    Disable(ChangeArgs),
    /// Enable a root key again, with the admin credential.
    #[command(after_long_help = EXIT_CODES)]
    Enable(ChangeArgs),
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For persons.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Where a profile and its secrets come from.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Where the profile and its secrets come from")]
pub struct SourceArgs {
    /// A manifest with the KmsProfile, instead of the one in the cluster.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// A file with the secret or the token of a credential (data, rewrap or admin), instead of the Secret that the profile names.
    #[arg(long, value_name = "CREDENTIAL=FILE")]
    pub secret: Vec<String>,
    /// A service account whose token the API server is asked for, with the audience that the profile names; for the credential
    /// named, or for all that take a token.
    #[arg(long, value_name = "[CREDENTIAL=][NAMESPACE/]NAME")]
    pub service_account: Vec<MaybeChosen>,
    /// PEM file with the certificate authorities of the KMS, instead of the ConfigMap that the profile names.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Take plain http at a loopback address too: for a KMS that is tried out on this machine.
    #[arg(long)]
    pub allow_loopback_http: bool,
}

/// A file for one credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The credential.
    pub of: Role,
    /// The file.
    pub file: PathBuf,
}

impl SourceArgs {
    /// The files of the credentials. Not parsed with the rest of the command line, because a complaint about that repeats what was
    /// given, and somebody may give the secret itself.
    pub fn secrets(&self) -> Result<Vec<Chosen>, Failure> {
        self.secret.iter().map(|text| Chosen::parse(text)).collect()
    }
}

impl Chosen {
    fn parse(text: &str) -> Result<Self, Failure> {
        let parts = text.split_once('=').and_then(|(of, file)| Some((Role::named(of)?, file)));
        match parts {
            Some((of, file)) if !file.is_empty() => Ok(Self { of, file: file.into() }),
            _ => Err(Failure::usage("--secret takes data=FILE, rewrap=FILE or admin=FILE")),
        }
    }
}

/// A value for one credential or for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaybeChosen {
    /// The credential; `None`: all.
    pub of: Option<Role>,
    /// The value.
    pub value: String,
}

impl FromStr for MaybeChosen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((of, value)) = text.split_once('=') else {
            return Ok(Self { of: None, value: text.into() });
        };
        let of = Role::named(of).ok_or("before = stands data, rewrap or admin")?;
        Ok(Self { of: Some(of), value: value.into() })
    }
}

/// `kms check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The profile; with --file it may be left out where the manifest holds one only.
    #[arg(value_name = "[NAMESPACE/]PROFILE", required_unless_present = "file")]
    pub profile: Option<String>,
    /// Its source.
    #[command(flatten)]
    pub source: SourceArgs,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,
}

/// `key list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// The profiles of all namespaces.
    #[arg(long, short = 'A')]
    pub all_namespaces: bool,
    /// Ask the KMS too, with the data credentials.
    #[arg(long)]
    pub live: bool,
    /// With --live: a service account whose token the API server is asked for, where a profile takes one.
    #[arg(long, value_name = "[NAMESPACE/]NAME", requires = "live")]
    pub service_account: Option<String>,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,
}

/// `key rotate`, `key disable`, `key enable`.
#[derive(Debug, Args)]
pub struct ChangeArgs {
    /// The profile; with --file it may be left out where the manifest holds one only.
    #[arg(value_name = "[NAMESPACE/]PROFILE", required_unless_present = "file")]
    pub profile: Option<String>,
    /// Its source.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_secret_that_was_put_in_a_files_place_is_not_repeated() {
        for text in ["my-api-key", "data", "data=", "owner=/k"] {
            let failure = Chosen::parse(text).unwrap_err();
            assert!(!failure.text.contains("my-api-key"), "{}", failure.text);
        }
        let chosen = Chosen::parse("admin=/k=1").unwrap();
        assert_eq!((chosen.of, chosen.file.to_str()), (Role::Admin, Some("/k=1")));
    }
}
