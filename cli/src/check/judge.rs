//! What an answer of the KMS means for a line.
//!
//! Invariant: pure; only the KMS's own answer makes a line `ok` or `failed`. What nobody answered, or what the answer leaves open, is
//! `unknown`.

use kms::admin::Permission;
use kms::{ContextScheme, ErrorKind, KeyInfo, KeyState, KmsError, Op, Outage, VersionInfo, Wrapped};

use super::plan::{Check, Need};
use super::report::{Finding, Verdict};
use crate::subject::Role;
use crate::time;

/// What the first call, a look at the key, tells of the way to it.
#[derive(Debug)]
pub struct Reach {
    /// The address answers.
    pub endpoint: Finding,
    /// It is who it should be.
    pub tls: Finding,
    /// The credential is somebody.
    pub identity: Finding,
    /// It may look at the key.
    pub describe: Finding,
}

/// Where the calls go.
#[derive(Clone, Copy)]
pub struct Way<'a> {
    /// The KMS.
    pub endpoint: &'a str,
    /// Another server says who somebody is.
    pub identity_elsewhere: bool,
    /// The profile names the authorities.
    pub own_authorities: bool,
    /// Plain http.
    pub plain: bool,
}

/// How far a call came.
enum Came {
    /// Nobody answered.
    Nowhere,
    /// TLS failed.
    ToTls,
    /// The credential was not accepted, or could not be shown.
    ToIdentity,
    /// The KMS answered nothing that could be used.
    ToServer,
    /// The KMS judged the call.
    ToKey,
}

fn came(error: &KmsError) -> Came {
    match &error.kind {
        ErrorKind::Unavailable { why: Outage::TlsFailed | Outage::CaUnreadable, .. } => Came::ToTls,
        ErrorKind::Unavailable { why: Outage::ServerError, .. }
        | ErrorKind::Throttled { .. }
        | ErrorKind::Integrity(_) => Came::ToServer,
        ErrorKind::Unavailable { .. } => Came::Nowhere,
        ErrorKind::CredentialRejected | ErrorKind::CredentialUnreadable => Came::ToIdentity,
        _ => Came::ToKey,
    }
}

/// The lines about the way to the key.
pub fn reach(way: Way<'_>, described: Result<&KeyInfo, &KmsError>) -> Reach {
    let Err(error) = described else {
        return way.whole(Finding::ok("it may look at the root key"));
    };
    match came(error) {
        Came::ToKey => way.whole(undescribed(error)),
        Came::Nowhere => {
            Reach { endpoint: way.silent(error), tls: later(), identity: later(), describe: later() }
        }
        Came::ToTls => {
            let tls = untrusted(way, error);
            Reach { endpoint: way.reached(error, answers(way)), tls, identity: later(), describe: later() }
        }
        Came::ToIdentity => Reach {
            endpoint: way.reached(error, answers(way)),
            tls: way.reached(error, verified(way)),
            identity: rejected(error),
            describe: later(),
        },
        Came::ToServer => {
            let text =
                format!("{} answers with an error or with something strange: try again", way.server(error));
            Reach {
                endpoint: way.reached(error, answers(way)),
                tls: way.reached(error, verified(way)),
                identity: Finding::unknown("not known: the answer tells nothing"),
                describe: Finding::unknown(text).because(error),
            }
        }
    }
}

impl Way<'_> {
    /// The call came to the end of the way.
    fn whole(self, describe: Finding) -> Reach {
        let identity = Finding::ok("the credential is accepted");
        Reach { endpoint: answers(self), tls: verified(self), identity, describe }
    }

    fn stopped_before(self, error: &KmsError) -> bool {
        self.identity_elsewhere && error.context.op == Op::Authenticate
    }

    /// Whose answer an error is.
    fn server(&self, error: &KmsError) -> &str {
        if self.stopped_before(error) { "the identity service" } else { self.endpoint }
    }

    /// What holds of the KMS, if the call came there at all.
    fn reached(self, error: &KmsError, finding: Finding) -> Finding {
        if self.stopped_before(error) {
            return Finding::unknown("not asked: the identity service, another server, comes first");
        }
        finding
    }

    fn silent(self, error: &KmsError) -> Finding {
        let server = self.server(error);
        let text = format!(
            "{server} does not answer: check its address, and that the network lets this machine through"
        );
        Finding::unknown(text).because(error)
    }
}

fn answers(way: Way<'_>) -> Finding {
    Finding::ok(format!("{} answers", way.endpoint))
}

fn later() -> Finding {
    Finding::unknown("not asked: what stands above comes first")
}

fn verified(way: Way<'_>) -> Finding {
    match (way.plain, way.own_authorities) {
        (true, _) => Finding::warning("plain http: for a KMS that is tried out, and nothing else"),
        (false, true) => Finding::ok("its certificate is by an authority that the profile names"),
        (false, false) => Finding::ok(
            "its certificate is by an authority that this machine trusts; the image has its own list",
        ),
    }
}

/// It is no outage: as long as nobody acts, the certificate stays what it is.
fn untrusted(way: Way<'_>, error: &KmsError) -> Finding {
    let todo = if way.own_authorities {
        "look whether spec.caBundle holds the authority of its certificate, and whether the certificate is for this name and not \
         expired"
    } else {
        "name its authority in spec.caBundle, or look whether the certificate is for this name and not expired"
    };
    let text = format!("{} is not known to be who it should be: {todo}", way.server(error));
    Finding { verdict: Verdict::Failed, outage: false, ..Finding::failed(text).because(error) }
}

fn rejected(error: &KmsError) -> Finding {
    let text = if error.kind == ErrorKind::CredentialUnreadable {
        "the secret cannot be used as it is: look whether the right thing was put into it"
    } else {
        "the credential is not accepted: it is wrong, revoked or expired; make a new one and put it into its Secret"
    };
    Finding::failed(text).because(error)
}

fn undescribed(error: &KmsError) -> Finding {
    let text = match &error.kind {
        ErrorKind::Denied { .. } => "it may not look at the root key: without that nobody learns its state",
        ErrorKind::KeyNotFound => "there is no such root key, or this credential may not know of it",
        ErrorKind::Config(_) => "the profile cannot work",
        _ if error.is_refusal() => {
            return Finding::ok("it may look at the root key, which the KMS refuses").noted(error);
        }
        _ => "the KMS does not understand the question: look at the fields of the profile",
    };
    Finding::failed(text).because(error)
}

impl Finding {
    /// Names an error that is not this line's.
    fn noted(self, error: &KmsError) -> Self {
        Self { reason: Some(error.reason()), ..self }
    }
}

/// The line about the key's state.
pub fn state(described: Result<&KeyInfo, &KmsError>) -> Finding {
    let info = match described {
        Ok(info) => info,
        Err(error) if error.is_refusal() && !matches!(error.kind, ErrorKind::Denied { .. }) => {
            return Finding::failed("the KMS refuses the root key").because(error);
        }
        Err(error) => {
            return Finding { verdict: Verdict::Unknown, ..Finding::unknown("not known").because(error) };
        }
    };
    match info.state {
        KeyState::Enabled => match info.expires_at.and_then(time::shown_system) {
            Some(at) => Finding::warning(format!(
                "Enabled, until it expires at {at}: from then on nothing new is wrapped"
            )),
            None => Finding::ok("Enabled"),
        },
        KeyState::Disabled => Finding::failed(
            "Disabled: access to everything that it protects is suspended until its owner enables it (key enable)",
        ),
        KeyState::Expired => {
            Finding::failed("Expired: what is wrapped still unwraps, and nothing new is wrapped")
        }
        KeyState::PendingDeletion => Finding::failed(
            "PendingDeletion: everything that it protects will be lost unless its owner takes the deletion back",
        ),
        KeyState::Destroyed => {
            Finding::failed("Destroyed: look at once whether its owner can still restore it")
        }
        KeyState::PendingImport => Finding::failed("PendingImport: it has no key material yet"),
    }
}

/// The line about the key's versions.
pub fn versions(info: &KeyInfo, listed: &Result<Vec<VersionInfo>, KmsError>) -> Finding {
    let current = info.current.as_ref().map_or("not told", |version| version.0.as_str());
    let rotated = info.rotated_at.and_then(time::shown_system);
    let rotated = rotated.map_or_else(|| "never rotated".to_owned(), |at| format!("rotated {at}"));
    let known = format!("current {current}, {rotated}");
    match listed {
        Ok(listed) if listed.len() == 1 => Finding::ok(format!("{known}, 1 version")),
        Ok(listed) => Finding::ok(format!("{known}, {} versions", listed.len())),
        Err(error) if error.is_outage() => Finding::unknown(known).because(error),
        Err(error) if error.kind == ErrorKind::Unsupported => {
            Finding::ok(format!("{known}; this KMS does not list versions"))
        }
        Err(error) => {
            let text =
                format!("{known}; its versions may not be listed, so that none is ever called retirable");
            Finding::warning(text).because(error)
        }
    }
}

/// The line of something that was done with a throw-away key; `Err(None)`: it was done, and the key came back as another one.
pub fn round_trip(
    check: Check,
    role: Role,
    done: Result<&Wrapped, Option<&KmsError>>,
    scheme: ContextScheme,
) -> Finding {
    let error = match done {
        Ok(wrapped)
            if check == Check::Wrap
                && wrapped.scheme == ContextScheme::None
                && scheme != ContextScheme::None =>
        {
            return Finding::warning(
                "a throw-away key was wrapped, but the KMS does not bind its context (Transit: the key was made without \
                 derived=true, which cannot be set later)",
            );
        }
        Ok(_) => {
            return Finding::ok(match check {
                Check::Unwrap => "the throw-away key came back, and with another context it did not",
                Check::Rewrap => "the throw-away key was rewrapped, and is the same",
                _ => "a throw-away key was wrapped",
            });
        }
        Err(None) => {
            return Finding::failed(
                "the throw-away key came back changed, or in a context that is not its own",
            );
        }
        Err(Some(error)) => error,
    };
    let verb = check.name();
    match &error.kind {
        ErrorKind::Denied { .. } => {
            Finding::failed(format!("it may not {verb}: {}", remedy(role, error.context.provider)))
        }
        ErrorKind::KeyExpired => Finding::failed("the root key is expired and wraps nothing new"),
        _ if error.is_refusal() => Finding::failed(format!("the KMS refuses to {verb} with the root key")),
        _ => Finding::failed(format!("cannot {verb}")),
    }
    .because(error)
}

/// The line of a rewrap credential's try to unwrap a throw-away key.
pub fn no_unwrap(unwrapped: Result<(), &KmsError>, native_rewrap: bool) -> Finding {
    match unwrapped {
        Ok(()) if !native_rewrap => Finding::warning(
            "this KMS has no rewrap of its own, so that whoever rewraps also unwraps: keep this credential as the data credential",
        ),
        Ok(()) => Finding::failed(
            "it can unwrap: whoever gets hold of it, or of a rewrap Job, reads the data; take that right away",
        ),
        Err(error) if matches!(error.kind, ErrorKind::Denied { .. }) => Finding::ok("the KMS denies it"),
        Err(error) => Finding::unknown("not known: it was not denied, and it did not work").because(error),
    }
}

/// The line of a right that must be absent.
pub fn absent(check: Check, role: Role, provider: &str, may: &Result<Permission, KmsError>) -> Finding {
    let what = if check == Check::NoRotate { "rotate the root key" } else { "disable the root key" };
    match may {
        Ok(Permission::Withheld) => Finding::ok(format!("it may not {what}")),
        Ok(Permission::Granted) => Finding::failed(format!(
            "it may {what}, and so may whoever gets hold of it: {}",
            remedy(role, provider)
        )),
        other => untold(what, other),
    }
}

fn untold(what: &str, may: &Result<Permission, KmsError>) -> Finding {
    match may {
        Err(error) => Finding::unknown(format!("not known whether it may {what}")).because(error),
        Ok(Permission::NotAsked) => Finding::unknown(format!(
            "this KMS cannot be asked whether it may {what} without doing so: look at its rights there"
        )),
        Ok(_) => Finding::unknown(format!(
            "the KMS's answer leaves open whether it may {what}: look at its rights there"
        )),
    }
}

/// The lines of an admin credential: to rotate, and to set the KMS's own rotation.
pub fn rotation(
    need: Need,
    rotate: &Result<Permission, KmsError>,
    policy: &Result<Permission, KmsError>,
) -> (Finding, Finding) {
    let spare = |other: &Result<Permission, KmsError>, needed: bool| match need {
        Need::Either => matches!(other, Ok(Permission::Granted)),
        Need::Nothing => true,
        Need::Policy | Need::Rotate => !needed,
    };
    let may_rotate = needed("rotate the root key", rotate, spare(policy, need == Need::Rotate));
    let may_set = needed("set how often the KMS rotates it", policy, spare(rotate, need == Need::Policy));
    match need {
        Need::Either => (or_the_other(may_rotate, policy), or_the_other(may_set, rotate)),
        _ => (may_rotate, may_set),
    }
}

fn needed(what: &str, may: &Result<Permission, KmsError>, spare: bool) -> Finding {
    match may {
        Ok(Permission::Granted) => Finding::ok(format!("it may {what}")),
        Ok(Permission::Withheld) if spare => Finding::ok(format!("it may not {what}, and need not")),
        Ok(Permission::Withheld) => Finding::failed(format!(
            "it may not {what}, and spec.rotation needs it: give it that right, or set spec.rotation.by to what it may do"
        )),
        _ => untold(what, may),
    }
}

/// What one of the two lacks is no failure as long as the other is not known to be lacking too.
fn or_the_other(finding: Finding, other: &Result<Permission, KmsError>) -> Finding {
    let lacks_too = matches!(other, Ok(Permission::Withheld));
    if finding.verdict != Verdict::Failed || lacks_too {
        return finding;
    }
    Finding::unknown(format!("{}; nor is it known whether it may do the other", finding.text))
}

/// The line of an admin credential's right to disable, which nothing needs but a person.
pub fn disable(may: &Result<Permission, KmsError>) -> Finding {
    match may {
        Ok(Permission::Granted) => {
            Finding::ok("it may disable and enable the root key (key disable, key enable)")
        }
        Ok(Permission::Withheld) => {
            Finding::ok("it may not disable the root key: that is left to somebody else")
        }
        other => untold("disable the root key", other),
    }
}

/// Where the least rights that work are written down.
fn remedy(role: Role, provider: &str) -> &'static str {
    match (provider, role) {
        ("keyProtect", Role::Data) => "it should have the role Reader on this key, and nothing else",
        ("keyProtect", Role::Rewrap) => {
            "it should have a custom role with kms.secrets.readmetadata and kms.secrets.rewrap on this key, and nothing else"
        }
        ("transit", Role::Data) => "its policy should be the one of examples/openbao/data.hcl",
        ("transit", Role::Rewrap) => "its policy should be the one of examples/openbao/rewrap.hcl",
        _ => "give it the rights that docs/kms.md names for this credential, and nothing else",
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
