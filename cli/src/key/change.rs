//! `key rotate`, `key disable`, `key enable`.
//!
//! Invariant: one call changes the key, and it is never repeated; whether it did is what the KMS says afterwards.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use contract::exit;
use kms::admin::KmsAdmin;
use kms::{
    CallCtx, ErrorKind, KeyInfo, KeyRef, KeyState, Kms, KmsError, Options, connect_admin, connect_with_secret,
};
use serde::Serialize;

use super::affected::{self, Affected};
use crate::args::{ChangeArgs, CommonArgs, Output};
use crate::check::options;
use crate::failure::{Failure, code_of};
use crate::given;
use crate::source::Source;
use crate::subject::{Gap, Place, Role, Subject};
use crate::time;

/// The version of the form for programs.
const VERSION: u16 = 1;

/// What is done to a root key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Make a new version the current one.
    Rotate,
    /// Stop all use.
    Disable,
    /// Allow it again.
    Enable,
}

impl Change {
    fn verb(self) -> &'static str {
        match self {
            Self::Rotate => "rotate",
            Self::Disable => "disable",
            Self::Enable => "enable",
        }
    }

    /// What will follow from it.
    fn consequence(self) -> &'static str {
        match self {
            Self::Rotate => {
                "A new version becomes the current one. Files go on opening; their wrapped keys are moved to it when they are \
                 next opened, and by sweeps. Older versions must stay until `key list` calls them retirable."
            }
            Self::Disable => {
                "Within about a minute every read and write fails with ENOKEY, in all clusters that use the key, until it is \
                 enabled again. Nothing is lost."
            }
            Self::Enable => "Access comes back within about a minute, with no restart.",
        }
    }

    /// The key is already as it is wanted.
    fn is_done(self, info: &KeyInfo) -> bool {
        match self {
            Self::Rotate => false,
            Self::Disable => info.state == KeyState::Disabled,
            Self::Enable => info.state == KeyState::Enabled,
        }
    }

    /// The key is another one than before, as the change makes it.
    fn shows(self, before: Option<&KeyInfo>, after: &KeyInfo) -> bool {
        match self {
            Self::Rotate => before.is_some_and(|before| before.current != after.current),
            Self::Disable | Self::Enable => self.is_done(after),
        }
    }
}

/// The key as the KMS says it is.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Key {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotated_at: Option<String>,
}

impl Key {
    fn of(info: &KeyInfo) -> Self {
        Self {
            state: info.state.as_str(),
            current_version: info.current.as_ref().map(|version| version.0.clone()),
            rotated_at: info.rotated_at.and_then(time::shown_system),
        }
    }

    fn sentence(&self) -> String {
        let version = self.current_version.as_deref().unwrap_or("not told");
        let rotated = self.rotated_at.as_ref().map_or_else(String::new, |at| format!(", rotated {at}"));
        format!("{}, current version {version}{rotated}", self.state)
    }
}

/// What was done, for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Done {
    version: u16,
    kind: &'static str,
    action: Change,
    profile: String,
    #[serde(flatten)]
    place: Place,
    changed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Key>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Key>,
    #[serde(skip_serializing_if = "Option::is_none")]
    affected: Option<Affected>,
}

/// The root key, by the admin credential.
struct Owner {
    admin: std::sync::Arc<dyn KmsAdmin>,
    looker: std::sync::Arc<dyn Kms>,
    key: KeyRef,
    limit: Duration,
}

impl Owner {
    fn connect(subject: &Subject) -> Result<Self, Failure> {
        let Some(held) = subject.held(Role::Admin) else {
            return Err(Failure::config(
                "the profile declares no credentials.admin, and no other credential may do this",
            ));
        };
        let (config, secret) = subject.connection(held)?;
        let options: Options = options();
        let wrong = |error: kms::ConfigError| Failure::config(format!("the profile cannot work: {error}"));
        let looker = connect_with_secret(&config, secret.clone(), &options).map_err(wrong)?;
        let admin = connect_admin(&config, Some(secret), &options).map_err(wrong)?;
        Ok(Self { admin, looker, key: subject.key(), limit: options.default_deadline })
    }

    async fn look(&self) -> Result<KeyInfo, KmsError> {
        self.looker.describe(&self.key, &CallCtx::new()).await
    }

    async fn make(&self, change: Change) -> Result<(), KmsError> {
        let call = CallCtx::within(self.limit);
        match change {
            Change::Rotate => self.admin.rotate(&self.key, &call).await,
            Change::Disable => self.admin.set_enabled(&self.key, false, &call).await,
            Change::Enable => self.admin.set_enabled(&self.key, true, &call).await,
        }
    }
}

/// Runs the command; what is printed, and the exit code.
pub async fn change(
    change: Change,
    args: &ChangeArgs,
    common: &CommonArgs,
) -> Result<(String, i32), Failure> {
    let mut source = Source::new(common, &args.source)?;
    let subject = source.subject(args.profile.as_deref(), &[Role::Admin]).await?;
    let owner = Owner::connect(&subject)?;
    let before = match owner.look().await {
        Ok(info) => Some(info),
        // The key may be refused because of its state, which is what is to be changed, or the credential may change and not look.
        Err(error) if error.is_refusal() => None,
        Err(error) => return Err(failed(change, &error, None)),
    };
    if let Some(before) = before.as_ref().filter(|before| change.is_done(before)) {
        return Ok((report(change, args, &subject, Some(before), Some(before), None), exit::OK));
    }
    let affected = affected(&mut source, &subject).await;
    if !args.yes && !given::confirmed(&question(change, &subject, before.as_ref(), &affected))? {
        return Err(Failure::new(exit::FAILURE, "not confirmed: nothing was changed"));
    }
    let made = owner.make(change).await;
    let after = owner.look().await;
    let shown = after.as_ref().is_ok_and(|after| change.shows(before.as_ref(), after));
    match made {
        // An answer that was lost on its way back says nothing of what was done.
        Err(error) if !(error.is_outage() && shown) => Err(failed(change, &error, before.as_ref())),
        _ => Ok((
            report(change, args, &subject, before.as_ref(), after.as_ref().ok(), affected.ok()),
            exit::OK,
        )),
    }
}

async fn affected(source: &mut Source<'_>, subject: &Subject) -> Result<Affected, Gap> {
    let volumes = source.cluster().await?.volumes().await?;
    Ok(affected::count(&volumes, &subject.namespace, &subject.name))
}

fn question(
    change: Change,
    subject: &Subject,
    before: Option<&KeyInfo>,
    affected: &Result<Affected, Gap>,
) -> String {
    let Place { provider, root_key, .. } = Place::of(&subject.provider);
    let now = before.map_or_else(|| "the KMS refuses it".to_owned(), |info| Key::of(info).sentence());
    let (title, verb) = (subject.title(), change.verb());
    format!(
        "{title}: root key {root_key}, {provider}: {now}.\n{}\n{}\nSure to {verb} it?",
        affected::sentence(affected),
        change.consequence()
    )
}

/// Why it failed, and what is known then.
fn failed(change: Change, error: &KmsError, before: Option<&KeyInfo>) -> Failure {
    let verb = change.verb();
    let mut text = format!("cannot {verb} the root key: {error}");
    if let ErrorKind::TooEarly { retry_after } = error.kind {
        let until = not_before(change, before, retry_after).and_then(time::shown_system);
        let _ = write!(text, "; the KMS wants more time to pass: not before {}", until.unwrap_or_default());
    }
    if error.is_outage() {
        let _ = write!(text, "; whether it did is not known: `key list --live` tells");
    }
    if error.kind == ErrorKind::Unsupported {
        let _ =
            write!(text, "; this KMS has no such state, so take the credentials' rights away there instead");
    }
    Failure::new(code_of(error), text)
}

/// Where the KMS says when it rotated last, the pause counts from then.
fn not_before(change: Change, before: Option<&KeyInfo>, pause: Duration) -> Option<SystemTime> {
    let now = SystemTime::now();
    let rotated = before.and_then(|info| info.rotated_at).filter(|_| change == Change::Rotate);
    let by_rotation = rotated.and_then(|at| at.checked_add(pause)).filter(|until| *until > now);
    by_rotation.or_else(|| now.checked_add(pause))
}

fn report(
    change: Change,
    args: &ChangeArgs,
    subject: &Subject,
    before: Option<&KeyInfo>,
    after: Option<&KeyInfo>,
    affected: Option<Affected>,
) -> String {
    let changed = !before.is_some_and(|before| change.is_done(before));
    let after = after.map(Key::of);
    if args.output == Output::Text {
        let done = if changed { "done" } else { "nothing to do" };
        let now = after
            .as_ref()
            .map_or_else(|| "nothing: look again with `key list --live`".to_owned(), Key::sentence);
        return format!("{}: {done}, and the KMS now says: {now}", subject.title());
    }
    let done = Done {
        version: VERSION,
        kind: "KeyChange",
        action: change,
        profile: subject.title(),
        place: Place::of(&subject.provider),
        changed,
        before: before.map(Key::of),
        after,
        affected,
    };
    serde_json::to_string_pretty(&done).unwrap_or_default()
}
