//! The access token: kept, renewed before it ends, and renewed by one caller for all.
//!
//! Invariant: life is measured from the moment of receipt on the monotonic clock, so that a wrong wall clock does
//! not matter. However many calls wait, one login is under way.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio::time::Instant;

use super::{Identity, Issued, LoginError, ReadSecret};
use crate::call::{CallCtx, Op};
use crate::connect::Options;
use crate::error::{ErrorKind, KmsError};
use crate::http::watched::Stamp;
use crate::observe::{Auditor, Ended, Observer};

/// A credential that was rejected is shown to its service again only after this time, unless it changed.
const REJECTION_PAUSE: Duration = Duration::from_secs(5);
/// A renewal that failed while the old token still serves is repeated no sooner.
const RENEWAL_PAUSE: Duration = Duration::from_secs(5);

/// A token in use.
pub(crate) struct Token {
    pub(crate) value: SecretString,
    /// How long it was to live when it was had.
    pub(crate) lifetime: Duration,
    /// The service may prolong it.
    pub(crate) renewable: bool,
    renew_at: Instant,
    unusable_at: Instant,
    stamp: Mutex<Option<Stamp>>,
    fingerprint: [u8; 32],
}

/// The tokens of one credential.
pub(crate) struct Tokens {
    identity: Box<dyn Identity>,
    observer: Arc<dyn Observer>,
    auditor: Arc<dyn Auditor>,
    current: Mutex<Option<Arc<Token>>>,
    login: Arc<AsyncMutex<Logins>>,
}

/// What the next to log in must know of the last.
#[derive(Default)]
struct Logins {
    last_failure: Option<Failure>,
}

struct Failure {
    at: Instant,
    fingerprint: [u8; 32],
    error: KmsError,
}

impl Tokens {
    pub(crate) fn new(identity: Box<dyn Identity>, options: &Options) -> Self {
        let (observer, auditor) = (Arc::clone(&options.observer), Arc::clone(&options.auditor));
        let login = Arc::new(AsyncMutex::new(Logins::default()));
        Self { identity, observer, auditor, current: Mutex::new(None), login }
    }

    /// A token that is good now.
    pub(crate) async fn get(self: &Arc<Self>, call: &CallCtx) -> Result<Arc<Token>, KmsError> {
        let now = Instant::now();
        let old = self.current();
        let Some(token) = old.clone().filter(|token| now < token.unusable_at) else {
            return self.replace(old.as_ref(), call).await;
        };
        let stamp = token.stamp.lock().expect("no holder of this lock panics").clone();
        if now >= token.renew_at || self.identity.changed_since(stamp.as_ref()).await {
            self.renew_in_background(&token);
        }
        Ok(token)
    }

    /// Another token than `used`, which ended or which the KMS did not accept.
    pub(crate) async fn replace(
        &self,
        used: Option<&Arc<Token>>,
        call: &CallCtx,
    ) -> Result<Arc<Token>, KmsError> {
        let asked = Instant::now();
        let mut logins = self.login.lock().await;
        if let Some(token) = self.current().filter(|token| used.is_none_or(|used| !Arc::ptr_eq(used, token)))
        {
            return Ok(token);
        }
        if let Some(failure) = logins.last_failure.as_ref().filter(|failure| failure.at >= asked) {
            return Err(failure.error.clone());
        }
        let secret = self.read_secret(call).await?;
        self.log_in(&mut logins, &secret, None, call).await
    }

    /// The old token goes on serving until the new one is there.
    fn renew_in_background(self: &Arc<Self>, old: &Arc<Token>) {
        let Ok(logins) = Arc::clone(&self.login).try_lock_owned() else { return };
        if logins.last_failure.as_ref().is_some_and(|failure| failure.at.elapsed() < RENEWAL_PAUSE) {
            return;
        }
        let (tokens, old) = (Arc::clone(self), Arc::clone(old));
        tokio::spawn(async move { tokens.renew(logins, &old).await });
    }

    async fn renew(&self, mut logins: OwnedMutexGuard<Logins>, old: &Arc<Token>) {
        let call = CallCtx::new();
        let Ok(secret) = self.read_secret(&call).await else { return };
        if secret.fingerprint == old.fingerprint && Instant::now() < old.renew_at {
            // Written again with the same content.
            old.stamp.lock().expect("no holder of this lock panics").clone_from(&secret.stamp);
            return;
        }
        let same = (secret.fingerprint == old.fingerprint).then_some(&**old);
        // A failure is recorded for the next try, and shows in the audit stream.
        let _ = self.log_in(&mut logins, &secret, same, &call).await;
    }

    async fn read_secret(&self, call: &CallCtx) -> Result<ReadSecret, KmsError> {
        self.identity.read().await.map_err(|kind| self.error(kind.into(), call))
    }

    /// Gets a token: the `old` one with a longer life where the service gives that, else a new one.
    async fn log_in(
        &self,
        logins: &mut Logins,
        secret: &ReadSecret,
        old: Option<&Token>,
        call: &CallCtx,
    ) -> Result<Arc<Token>, KmsError> {
        if let Some(failure) = &logins.last_failure
            && failure.error.kind == ErrorKind::CredentialRejected
            && failure.fingerprint == secret.fingerprint
            && failure.at.elapsed() < REJECTION_PAUSE
        {
            return Err(failure.error.clone());
        }
        let began = Instant::now();
        let prolonged = match old.filter(|old| old.renewable) {
            Some(old) => self.identity.prolong(old, call).await,
            None => None,
        };
        let issued = match prolonged {
            Some(issued) => Ok(issued),
            None => self.identity.log_in(secret, call).await,
        };
        let result = issued.map_err(|failed| self.error(failed, call));
        self.report(began, result.as_ref().err(), call);
        match result {
            Ok(issued) => {
                logins.last_failure = None;
                let token = Arc::new(Token::new(issued, secret));
                *self.current.lock().expect("no holder of this lock panics") = Some(Arc::clone(&token));
                Ok(token)
            }
            Err(error) => {
                let (at, fingerprint) = (Instant::now(), secret.fingerprint);
                logins.last_failure = Some(Failure { at, fingerprint, error: error.clone() });
                Err(error)
            }
        }
    }

    fn report(&self, began: Instant, failed: Option<&KmsError>, call: &CallCtx) {
        let ended = Ended::authentication(self.identity.provider(), call, began.elapsed(), failed);
        self.auditor.record(ended.event());
        ended.count(&*self.observer);
    }

    fn error(&self, failed: LoginError, call: &CallCtx) -> KmsError {
        let LoginError { kind, status, code } = failed;
        let mut error = KmsError::new(kind, self.identity.provider(), Op::Authenticate);
        error.context.http_status = status;
        error.context.code = code;
        error.context.correlation_id = Some(call.correlation_id);
        error
    }

    fn current(&self) -> Option<Arc<Token>> {
        self.current.lock().expect("no holder of this lock panics").clone()
    }
}

impl Token {
    fn new(issued: Issued, secret: &ReadSecret) -> Self {
        let Issued { token, lifetime, renewable } = issued;
        let now = Instant::now();
        // A minute before its end, or a tenth of a short life.
        let margin = Duration::from_mins(1).min(lifetime / 10);
        Self {
            value: token,
            lifetime,
            renewable,
            renew_at: now + lifetime * 4 / 5,
            unusable_at: now + lifetime - margin,
            stamp: Mutex::new(secret.stamp.clone()),
            fingerprint: secret.fingerprint,
        }
    }
}
