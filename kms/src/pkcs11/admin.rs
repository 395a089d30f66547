//! The token's side of [`KmsAdmin`]: objects are made, changed and destroyed, by the user that also wraps.
//!
//! Invariant: nothing that makes or destroys is done twice where the first time may have been carried out; a disabled key is not
//! rotated, because its new version would be enabled.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::pool::Desk;
use super::token::{Access, Failure, Outcome};
use super::version::VersionId;
use super::work::Work;
use super::{LONGEST_KEY, PROVIDER, Pkcs11, check_label};
use crate::admin::{KmsAdmin, NewKey};
use crate::call::{CallCtx, Op};
use crate::error::{ErrorKind, KmsError, Result};
use crate::key::{KeyRef, KeyState};
use crate::place::Place;

impl Work<'_> {
    /// Makes a version that follows `last`.
    fn generate(&mut self, last: Option<VersionId>) -> Outcome<()> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|_| Failure::is(ErrorKind::Integrity("no random numbers")))?;
        let id = VersionId::after(last, SystemTime::now(), random)
            .ok_or(Failure::setup("the counter in the last version's CKA_ID is used up"))?;
        self.session.generate(self.label, &id)
    }

    fn create(&mut self) -> Outcome<()> {
        if self.session.find(self.label, None)?.is_empty() {
            self.believe()?;
            return self.generate(None);
        }
        Err(Failure::setup("a key of this name exists"))
    }

    fn rotate(&mut self) -> Outcome<()> {
        let current = self.current()?;
        if current.state() == KeyState::Disabled {
            return Err(Failure::is(ErrorKind::KeyDisabled));
        }
        self.generate(Some(current.id))
    }

    /// The current version goes first, because it says what the whole key is. Only it wraps again.
    fn set_enabled(&mut self, enabled: bool) -> Outcome<()> {
        for (nth, version) in self.versions()?.iter().enumerate() {
            let encrypt = if enabled { (nth == 0).then_some(true) } else { Some(false) };
            self.session.permit(version.handle, encrypt, enabled)?;
        }
        Ok(())
    }

    /// The oldest goes first: what is left of a deletion that broke off is a key that still says what it is.
    fn delete(&mut self) -> Outcome<()> {
        for version in self.versions()?.iter().rev() {
            self.session.destroy(version.handle)?;
        }
        Ok(())
    }
}

impl Pkcs11 {
    async fn change(
        &self,
        site: (Op, &KeyRef, &CallCtx),
        job: impl Fn(&mut Desk<'_>) -> Outcome<()> + Send + 'static,
    ) -> Result<()> {
        self.run(site, Access::Write, job).await.map_err(KmsError::settled)
    }
}

fn unsupported(op: Op, key: &KeyRef, call: &CallCtx) -> Result<()> {
    Place { provider: PROVIDER, op, key: Some(key), call }.decode(Err(ErrorKind::Unsupported))
}

#[async_trait]
impl KmsAdmin for Pkcs11 {
    async fn create(&self, new: &NewKey, call: &CallCtx) -> Result<KeyRef> {
        let key = KeyRef(new.name.clone());
        let place = Place { provider: PROVIDER, op: Op::Create, key: Some(&key), call };
        let checked = check_label("name", &new.name, LONGEST_KEY);
        place.decode(checked.map_err(|error| ErrorKind::Config(error.to_string())))?;
        self.change((Op::Create, &key, call), |desk| desk.work.create()).await?;
        Ok(key)
    }

    async fn rotate(&self, key: &KeyRef, call: &CallCtx) -> Result<()> {
        self.change((Op::Rotate, key, call), |desk| desk.work.rotate()).await
    }

    async fn set_enabled(&self, key: &KeyRef, enabled: bool, call: &CallCtx) -> Result<()> {
        let op = if enabled { Op::Enable } else { Op::Disable };
        self.change((op, key, call), move |desk| desk.work.set_enabled(enabled)).await
    }

    async fn delete(&self, key: &KeyRef, call: &CallCtx) -> Result<()> {
        self.change((Op::Delete, key, call), |desk| desk.work.delete()).await
    }

    async fn restore(&self, key: &KeyRef, call: &CallCtx) -> Result<()> {
        unsupported(Op::Restore, key, call)
    }

    async fn set_auto_rotation(&self, key: &KeyRef, _: Option<Duration>, call: &CallCtx) -> Result<()> {
        unsupported(Op::SetRotationPolicy, key, call)
    }
}
