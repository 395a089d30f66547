//! `key list`: root keys and their versions, by the operator's records and on request by the KMS.
//!
//! Invariant: what the operator wrote and what the KMS says now are told apart; what nobody said is `unknown`.

use api::KmsProfile;
use api::profile::VersionStatus;
use contract::exit;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kms::{CallCtx, KeyInfo, VersionInfo, connect_with_secret};
use serde::Serialize;

use crate::args::{CommonArgs, ListArgs, MaybeChosen, Output, SourceArgs};
use crate::check::options;
use crate::failure::{Failure, code_of};
use crate::source::Source;
use crate::subject::{Place, Role};
use crate::table::{self, Cell, Colour};
use crate::time;

/// The version of the form for programs.
const VERSION: u16 = 1;
const UNKNOWN: &str = "unknown";

/// What is printed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listing {
    version: u16,
    kind: &'static str,
    keys: Vec<Listed>,
}

/// A root key, by its profile.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    profile: String,
    #[serde(flatten)]
    place: Place,
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotated_at: Option<String>,
    /// When the operator last heard of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_poll: Option<String>,
    versions: Vec<Version>,
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<Live>,
}

/// A version of a root key, by the operator's record.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
    files: u64,
    unknown_volumes: u64,
    older_snapshots: u64,
    retirable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// What the KMS says now.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Live {
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotated_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    versions: Option<Vec<String>>,
    /// Why it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    #[serde(skip)]
    code: i32,
}

fn shown(at: Option<&Time>) -> Option<String> {
    at.map(|at| time::shown(at.0))
}

/// By the operator's record alone.
fn recorded(profile: &KmsProfile) -> Listed {
    let status = profile.status.clone().unwrap_or_default();
    let name = profile.metadata.name.as_deref().unwrap_or_default();
    let nowhere = || Place { provider: UNKNOWN.into(), endpoint: None, root_key: UNKNOWN.into() };
    Listed {
        profile: format!("{}/{name}", profile.metadata.namespace.as_deref().unwrap_or_default()),
        place: api::connection::provider(&profile.spec).map_or_else(nowhere, |provider| Place::of(&provider)),
        state: status.key_state.unwrap_or_else(|| UNKNOWN.into()),
        current_version: status.current_version,
        rotated_at: shown(status.rotated_at.as_ref()),
        last_poll: shown(status.last_poll.as_ref()),
        versions: status.versions.iter().map(version).collect(),
        live: None,
    }
}

fn version(status: &VersionStatus) -> Version {
    Version {
        id: status.id.clone(),
        created_at: shown(status.created_at.as_ref()),
        files: status.files,
        unknown_volumes: status.unknown_volumes,
        older_snapshots: status.older_snapshots,
        retirable: status.retirable,
        reason: status.reason.clone(),
    }
}

impl Live {
    fn of(info: &KeyInfo, versions: Option<Vec<VersionInfo>>) -> Self {
        Self {
            state: info.state.as_str().into(),
            current_version: info.current.as_ref().map(|version| version.0.clone()),
            rotated_at: info.rotated_at.and_then(time::shown_system),
            versions: versions.map(|all| all.into_iter().map(|version| version.version.0).collect()),
            problem: None,
            code: exit::OK,
        }
    }

    fn missing(failure: Failure) -> Self {
        let Failure { code, text } = failure;
        Self {
            state: UNKNOWN.into(),
            current_version: None,
            rotated_at: None,
            versions: None,
            problem: Some(text),
            code,
        }
    }
}

/// Runs the command; what is printed, and the exit code.
pub async fn list(args: &ListArgs, common: &CommonArgs) -> Result<(String, i32), Failure> {
    let service_account = args.service_account.iter();
    let service_account = service_account.map(|name| MaybeChosen { of: None, value: name.clone() }).collect();
    let from = SourceArgs { service_account, ..SourceArgs::default() };
    let mut source = Source::new(common, &from)?;
    let cluster = source.cluster().await?;
    let namespace = (!args.all_namespaces).then(|| cluster.namespace.clone());
    let profiles = cluster.profiles(namespace.as_deref()).await?;
    let mut keys = Vec::new();
    for profile in profiles {
        let mut listed = recorded(&profile);
        if args.live {
            listed.live = Some(live(&mut source, profile).await.unwrap_or_else(Live::missing));
        }
        keys.push(listed);
    }
    let code = exit_code(&keys);
    let listing = Listing { version: VERSION, kind: "KeyList", keys };
    let text = match args.output {
        Output::Json => serde_json::to_string_pretty(&listing).unwrap_or_default(),
        Output::Text => text(&listing.keys, args.live, table::colours()),
    };
    Ok((text, code))
}

/// One key of which nothing could be learned leaves the list incomplete, whatever the reason.
fn exit_code(keys: &[Listed]) -> i32 {
    let codes: Vec<i32> = keys.iter().filter_map(|key| Some(key.live.as_ref()?.code)).collect();
    match codes.iter().find(|code| **code != exit::OK) {
        None => exit::OK,
        Some(_) if codes.contains(&exit::UNAVAILABLE) => exit::UNAVAILABLE,
        Some(_) => exit::INCOMPLETE,
    }
}

async fn live(source: &mut Source<'_>, profile: KmsProfile) -> Result<Live, Failure> {
    let subject = source.subject_of(profile, &[Role::Data]).await?;
    let Some(held) = subject.held(Role::Data) else {
        return Err(Failure::config("the profile declares no credentials.data"));
    };
    let (config, secret) = subject.connection(held)?;
    let kms = connect_with_secret(&config, secret, &options())
        .map_err(|error| Failure::config(error.to_string()))?;
    let info = kms.describe(&subject.key(), &CallCtx::new()).await;
    let info = info.map_err(|error| Failure::new(code_of(&error), error.to_string()))?;
    let versions = kms.versions(&subject.key(), &CallCtx::new()).await.ok();
    Ok(Live::of(&info, versions))
}

fn text(keys: &[Listed], live: bool, colours: bool) -> String {
    if keys.is_empty() {
        return "no KmsProfile; look in all namespaces with -A".into();
    }
    let known = |text: &Option<String>| Cell::from(text.clone().unwrap_or_else(|| "-".into()));
    let mut heads = vec!["PROFILE", "PROVIDER", "KEY", "STATE", "CURRENT", "ROTATED", "AS OF"];
    heads.extend(live.then_some("KMS NOW"));
    let row = |key: &Listed| {
        let colour = if key.state == "Enabled" { Colour::Green } else { Colour::Yellow };
        let mut row = vec![
            Cell::from(key.profile.as_str()),
            Cell::from(key.place.provider.as_str()),
            Cell::from(key.place.root_key.as_str()),
            Cell::coloured(key.state.as_str(), colour),
            known(&key.current_version),
            known(&key.rotated_at),
            known(&key.last_poll),
        ];
        row.extend(key.live.as_ref().map(|live| Cell::from(sentence(key, live))));
        row
    };
    let mut lines = table::lines(&heads, &keys.iter().map(row).collect::<Vec<_>>(), colours);
    let versions: Vec<_> = keys.iter().flat_map(version_rows).collect();
    if !versions.is_empty() {
        let heads =
            ["PROFILE", "VERSION", "MADE", "FILES", "UNKNOWN VOLUMES", "OLDER SNAPSHOTS", "RETIRABLE", "WHY"];
        lines.push(String::new());
        lines.extend(table::lines(&heads, &versions, colours));
    }
    lines.join("\n")
}

/// What the KMS says, where it differs from the record.
fn sentence(key: &Listed, live: &Live) -> String {
    if let Some(problem) = &live.problem {
        return format!("{UNKNOWN}: {problem}");
    }
    let version = live.current_version.as_deref().unwrap_or("-");
    if live.state == key.state && live.current_version == key.current_version {
        "the same".into()
    } else {
        format!("{}, current {version}", live.state)
    }
}

fn version_rows(key: &Listed) -> Vec<Vec<Cell>> {
    let row = |version: &Version| {
        let (word, colour) = if version.retirable { ("yes", Colour::Green) } else { ("no", Colour::Plain) };
        vec![
            Cell::from(key.profile.as_str()),
            Cell::from(version.id.as_str()),
            Cell::from(version.created_at.as_deref().unwrap_or("-")),
            Cell::from(version.files.to_string()),
            Cell::from(version.unknown_volumes.to_string()),
            Cell::from(version.older_snapshots.to_string()),
            Cell::coloured(word, colour),
            Cell::from(version.reason.as_deref().unwrap_or("-")),
        ]
    };
    key.versions.iter().map(row).collect()
}
