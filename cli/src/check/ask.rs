//! Asks the KMS, with each credential of a profile.
//!
//! Invariant: the only keys that are wrapped are made here, for a context that is made here, and are forgotten; nothing is changed.

use std::sync::Arc;

use kms::admin::{Ability, KmsAdmin, Permission};
use kms::{
    CallCtx, EncCtx, ErrorKind, KeyInfo, KeyRef, KeyState, Kms, KmsError, Options, PlainKey, Wrapped,
    connect_admin, connect_with_secret,
};

use super::judge::{self, Way};
use super::plan::{self, Check};
use super::report::{Finding, Line};
use crate::subject::{Held, Place, Role, Subject, identity_elsewhere};

/// A credential at work.
struct Session {
    role: Role,
    kms: Arc<dyn Kms>,
    admin: Arc<dyn KmsAdmin>,
    key: KeyRef,
}

/// A throw-away key, wrapped by the data credential.
struct Sample {
    data: Arc<dyn Kms>,
    plain: PlainKey,
    context: EncCtx,
    wrapped: Wrapped,
}

/// All lines about a profile and its credentials.
pub async fn check(subject: &Subject, options: &Options) -> Vec<Line> {
    let (mut lines, mut sample) = (Vec::new(), None);
    for held in &subject.credentials {
        lines.extend(credential(subject, held, options, &mut sample).await);
    }
    lines.extend(undeclared(subject));
    lines
}

/// Lines about credentials that the profile lacks.
fn undeclared(subject: &Subject) -> Vec<Line> {
    let mut lines = Vec::new();
    if subject.held(Role::Rewrap).is_none() {
        let finding = Finding::warning("the profile has none: rewrap Jobs use data, which can also unwrap");
        lines.push(Line::of(Role::Rewrap, "declared", finding));
    }
    if subject.held(Role::Admin).is_none() && plan::need(&subject.spec) != plan::Need::Nothing {
        let finding =
            Finding::failed("spec.rotation.managed needs credentials.admin, and the profile has none");
        lines.push(Line::of(Role::Admin, "declared", finding));
    }
    lines
}

async fn credential(
    subject: &Subject,
    held: &Held,
    options: &Options,
    sample: &mut Option<Sample>,
) -> Vec<Line> {
    let role = held.role;
    let (config, secret) = match subject.connection(held) {
        Ok(connection) => connection,
        Err(gap) => return given_up(role, Line::of(role, "credential", gap.into())),
    };
    let made = connect_with_secret(&config, secret.clone(), options)
        .and_then(|kms| Ok((kms, connect_admin(&config, Some(secret), options)?)));
    let (kms, admin) = match made {
        Ok(made) => made,
        Err(error) => {
            let finding = Finding::failed(format!("the profile cannot work: {error}"));
            return given_up(role, Line::of(role, "profile", finding));
        }
    };
    let session = Session { role, kms, admin, key: subject.key() };
    let described = session.kms.describe(&session.key, &CallCtx::new()).await;
    let mut lines = session.reach(subject, described.as_ref());
    if described.as_ref().is_err_and(is_the_end) {
        lines.extend(nothing_more(role, "not asked: the root key was not reached"));
        return lines;
    }
    lines.extend(session.key_lines(&described).await);
    lines.extend(session.abilities(subject, &described, sample).await);
    lines
}

/// After such an error nothing else can be found out.
fn is_the_end(error: &KmsError) -> bool {
    error.is_outage()
        || matches!(
            error.kind,
            ErrorKind::CredentialRejected
                | ErrorKind::CredentialUnreadable
                | ErrorKind::Config(_)
                | ErrorKind::KeyNotFound
                | ErrorKind::Invalid
                | ErrorKind::Unsupported
        )
}

fn unknown(role: Role, checks: &[Check], why: &str) -> Vec<Line> {
    checks.iter().map(|check| Line::of(role, check.name(), Finding::unknown(why))).collect()
}

fn nothing_more(role: Role, why: &str) -> Vec<Line> {
    [unknown(role, plan::tried(role), why), unknown(role, plan::asked(role), why)].concat()
}

fn given_up(role: Role, line: Line) -> Vec<Line> {
    [vec![line], nothing_more(role, "not asked: there is no connection")].concat()
}

impl Session {
    fn reach(&self, subject: &Subject, described: Result<&KeyInfo, &KmsError>) -> Vec<Line> {
        let place = Place::of(&subject.provider);
        let endpoint = place.endpoint.as_deref().unwrap_or("the KMS");
        let way = Way {
            endpoint,
            identity_elsewhere: identity_elsewhere(&subject.provider),
            own_authorities: matches!(subject.ca, Ok(Some(_))),
            plain: endpoint.starts_with("http://"),
        };
        let reach = judge::reach(way, described);
        let line = |check, finding| Line::of(self.role, check, finding);
        vec![
            line("endpoint", reach.endpoint),
            line("tls", reach.tls),
            line("identity", reach.identity),
            line("describe", reach.describe),
        ]
    }

    /// State and versions, which are the same for every credential.
    async fn key_lines(&self, described: &Result<KeyInfo, KmsError>) -> Vec<Line> {
        if self.role != Role::Data {
            return Vec::new();
        }
        let mut lines = vec![Line::of(self.role, "key state", judge::state(described.as_ref()))];
        if let Ok(info) = described {
            let listed = self.kms.versions(&self.key, &CallCtx::new()).await;
            lines.push(Line::of(self.role, "key versions", judge::versions(info, &listed)));
        }
        lines
    }

    async fn abilities(
        &self,
        subject: &Subject,
        described: &Result<KeyInfo, KmsError>,
        sample: &mut Option<Sample>,
    ) -> Vec<Line> {
        let usable = match described {
            Ok(info) => info.state == KeyState::Enabled,
            Err(error) => matches!(error.kind, ErrorKind::Denied { .. }),
        };
        let unusable = "not known as long as the root key is not usable";
        let mut lines = match self.role {
            Role::Admin => return self.admin_lines(subject).await,
            role if !usable => unknown(role, plan::tried(role), unusable),
            Role::Data => self.data_lines(sample).await,
            Role::Rewrap => self.rewrap_lines(sample.as_ref()).await,
        };
        for (check, ability) in [(Check::NoRotate, Ability::Rotate), (Check::NoDisable, Ability::Disable)] {
            let may = self.may(ability).await;
            let provider = self.kms.caps().provider;
            lines.push(Line::of(self.role, check.name(), judge::absent(check, self.role, provider, &may)));
        }
        lines
    }

    async fn may(&self, ability: Ability) -> Result<Permission, KmsError> {
        let limit = super::options().default_deadline;
        self.admin.may(ability, &self.key, &CallCtx::within(limit)).await
    }

    async fn admin_lines(&self, subject: &Subject) -> Vec<Line> {
        let (rotate, policy) = (self.may(Ability::Rotate).await, self.may(Ability::SetRotationPolicy).await);
        let (rotate, policy) = judge::rotation(plan::need(&subject.spec), &rotate, &policy);
        let disable = judge::disable(&self.may(Ability::Disable).await);
        let line = |check: Check, finding| Line::of(self.role, check.name(), finding);
        vec![line(Check::Rotate, rotate), line(Check::RotationPolicy, policy), line(Check::Disable, disable)]
    }

    fn judged(&self, check: Check, done: Result<&Wrapped, Option<&KmsError>>) -> Line {
        let scheme = self.kms.caps().scheme;
        Line::of(self.role, check.name(), judge::round_trip(check, self.role, done, scheme))
    }

    async fn data_lines(&self, sample: &mut Option<Sample>) -> Vec<Line> {
        let Ok((plain, context)) = throw_away() else {
            return unknown(Role::Data, plan::tried(Role::Data), "this machine gives no random numbers");
        };
        let wrapped = match self.kms.wrap(&self.key, &plain, &context, &CallCtx::new()).await {
            Ok(wrapped) => wrapped,
            Err(error) => {
                let rest =
                    unknown(Role::Data, &[Check::Unwrap, Check::Rewrap], "not known: nothing was wrapped");
                return [vec![self.judged(Check::Wrap, Err(Some(&error)))], rest].concat();
            }
        };
        let mut lines = vec![self.judged(Check::Wrap, Ok(&wrapped))];
        let made = Sample { data: Arc::clone(&self.kms), plain, context, wrapped };
        let opened = self.opens_only_in_its_context(&made).await;
        lines.push(
            self.judged(Check::Unwrap, opened.as_ref().map(|()| &made.wrapped).map_err(Option::as_ref)),
        );
        lines.push(self.rewrap(&made).await);
        *sample = Some(made);
        lines
    }

    async fn opens_only_in_its_context(&self, made: &Sample) -> Result<(), Option<KmsError>> {
        let opened =
            self.kms.unwrap(&self.key, &made.wrapped, &made.context, &CallCtx::new()).await.map_err(Some)?;
        if opened.key.expose() != made.plain.expose() {
            return Err(None);
        }
        if made.wrapped.scheme == kms::ContextScheme::None {
            return Ok(());
        }
        let mut other = made.context;
        other[0] ^= 1;
        match self.kms.unwrap(&self.key, &made.wrapped, &other, &CallCtx::new()).await {
            Ok(_) => Err(None),
            Err(error) if error.kind == ErrorKind::CiphertextInvalid => Ok(()),
            Err(error) => Err(Some(error)),
        }
    }

    /// The sample's key must come out of what the rewrap gives, for whom it is data.
    async fn rewrap(&self, made: &Sample) -> Line {
        let moved = match self.kms.rewrap(&self.key, &made.wrapped, &made.context, &CallCtx::new()).await {
            Ok(moved) => moved,
            Err(error) => return self.judged(Check::Rewrap, Err(Some(&error))),
        };
        match made.data.unwrap(&self.key, &moved, &made.context, &CallCtx::new()).await {
            Ok(opened) if opened.key.expose() == made.plain.expose() => {
                self.judged(Check::Rewrap, Ok(&moved))
            }
            Ok(_) => self.judged(Check::Rewrap, Err(None)),
            Err(error) if error.kind == ErrorKind::CiphertextInvalid => self.judged(Check::Rewrap, Err(None)),
            Err(error) => {
                let finding = Finding::unknown(
                    "it was rewrapped, and the data credential could not look at the result",
                );
                Line::of(self.role, Check::Rewrap.name(), finding.because(&error))
            }
        }
    }

    async fn rewrap_lines(&self, sample: Option<&Sample>) -> Vec<Line> {
        let Some(made) = sample else {
            let why = "not known: the data credential wrapped nothing that it could try";
            return unknown(Role::Rewrap, plan::tried(Role::Rewrap), why);
        };
        let unwrapped = self.kms.unwrap(&self.key, &made.wrapped, &made.context, &CallCtx::new()).await;
        let finding = judge::no_unwrap(unwrapped.as_ref().map(|_| ()), self.kms.caps().native_rewrap);
        vec![self.rewrap(made).await, Line::of(Role::Rewrap, Check::NoUnwrap.name(), finding)]
    }
}

/// A key and a context that nothing else has.
fn throw_away() -> Result<(PlainKey, EncCtx), getrandom::Error> {
    let mut context = [0; 32];
    getrandom::fill(&mut context)?;
    Ok((PlainKey::random()?, context))
}
