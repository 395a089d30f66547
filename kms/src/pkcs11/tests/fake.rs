//! A token without a library: it keeps keys, counts calls, fails and blocks as it is told.
//!
//! Invariant: like SoftHSM, it finds nothing for a process that is not logged in, and calls a wrong tag a general error.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

use cryptoki::error::RvError;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::connect::Options;
use crate::pkcs11::Pkcs11;
use crate::pkcs11::blob::{IV, SEALED};
use crate::pkcs11::login::{Door, Pin};
use crate::pkcs11::token::{Access, Failure, Library, Outcome, Session, Standing};
use crate::pkcs11::version::{Found, Handle, VersionId};

pub const PIN: &str = "1234";
pub const KEY: &str = "storage";

#[derive(Clone)]
struct Key {
    label: String,
    found: Found,
    material: u8,
}

/// What the token does with IVs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ivs {
    /// It takes the one that is given.
    Taken,
    /// It makes one and says which.
    Told,
    /// It makes one and says nothing.
    Hidden,
    /// It makes one and appends it.
    Appended,
}

pub struct State {
    pub pin: &'static str,
    pub standing: Outcome<Standing>,
    pub calls: HashMap<&'static str, usize>,
    pub open: usize,
    pub most_open: usize,
    pub ivs: Ivs,
    epoch: u64,
    logged_in: bool,
    faults: Vec<(&'static str, RvError, usize)>,
    blocked: Option<&'static str>,
    keys: Vec<Key>,
}

#[derive(Clone)]
pub struct Fake {
    shared: Arc<(Mutex<State>, Condvar)>,
    door: Arc<Door>,
}

struct FakeSession {
    token: Fake,
    epoch: u64,
}

impl Fake {
    /// With one key of one version.
    pub fn new() -> Self {
        let state = State {
            pin: PIN,
            standing: Ok(Standing::default()),
            calls: HashMap::new(),
            open: 0,
            most_open: 0,
            ivs: Ivs::Taken,
            epoch: 1,
            logged_in: false,
            faults: Vec::new(),
            blocked: None,
            keys: Vec::new(),
        };
        let fake = Self { shared: Arc::new((Mutex::new(state), Condvar::new())), door: Arc::default() };
        fake.add(1);
        fake
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap()
    }

    /// Adds a version with this counter.
    pub fn add(&self, counter: u8) -> VersionId {
        let mut id = [counter; 16];
        id[..3].fill(0);
        let handle = Handle(self.state().keys.len() as u64);
        let found =
            Found { handle, id: id.to_vec(), fits: true, encrypts: true, decrypts: true, local: true };
        self.state().keys.push(Key { label: KEY.into(), found, material: counter });
        VersionId::parse(&id).unwrap()
    }

    /// Changes all keys.
    pub fn each(&self, change: impl Fn(&mut Found)) {
        self.state().keys.iter_mut().for_each(|key| change(&mut key.found));
    }

    /// Fails the next calls of this name.
    pub fn fail(&self, call: &'static str, rv: RvError, times: usize) {
        self.state().faults.push((call, rv, times));
    }

    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// Calls of this name do not return.
    pub fn block(&self, call: &'static str) {
        self.state().blocked = Some(call);
    }

    pub fn unblock(&self) {
        self.state().blocked = None;
        self.shared.1.notify_all();
    }

    /// Somebody else in this process does that.
    pub fn log_out_all(&self) {
        self.state().logged_in = false;
    }

    pub fn calls(&self, call: &str) -> usize {
        self.state().calls.get(call).copied().unwrap_or_default()
    }

    pub fn forget_calls(&self) {
        self.state().calls.clear();
    }

    fn enter(&self, call: &'static str) -> Outcome<MutexGuard<'_, State>> {
        let mut state = self.state();
        *state.calls.entry(call).or_default() += 1;
        while state.blocked == Some(call) {
            state = self.shared.1.wait(state).unwrap();
        }
        if let Some((_, rv, times)) = state.faults.iter_mut().find(|(of, _, times)| *of == call && *times > 0)
        {
            *times = times.saturating_sub(1);
            return Err(Failure::Returned(*rv));
        }
        Ok(state)
    }

    /// A connection with this PIN.
    pub fn connect(&self, pin: &str, options: &Options) -> Pkcs11 {
        Pkcs11::with(Arc::new(self.clone()), "token", Pin::new("/not/read", Some(pin.into())), options)
    }

    /// A connection whose PIN lies in a file.
    pub fn connect_by_file(&self, path: &str, options: &Options) -> Pkcs11 {
        Pkcs11::with(Arc::new(self.clone()), "token", Pin::new(path, None), options)
    }
}

impl Library for Fake {
    fn epoch(&self) -> u64 {
        self.state().epoch
    }
    fn restart(&self, seen: u64, _: Instant) -> Outcome<()> {
        let mut state = self.enter("restart")?;
        if state.epoch == seen {
            state.epoch += 1;
            state.open = 0;
            state.logged_in = false;
        }
        Ok(())
    }
    fn open(&self, _: &str, _: Access, _: Instant) -> Outcome<Box<dyn Session>> {
        let mut state = self.enter("open")?;
        state.open += 1;
        state.most_open = state.most_open.max(state.open);
        let epoch = state.epoch;
        drop(state);
        Ok(Box::new(FakeSession { token: self.clone(), epoch }))
    }
    fn door(&self, _: &str) -> Arc<Door> {
        Arc::clone(&self.door)
    }
}

impl Drop for FakeSession {
    fn drop(&mut self) {
        let mut state = self.token.state();
        if state.epoch == self.epoch {
            state.open -= 1;
        }
    }
}

impl FakeSession {
    fn enter(&self, call: &'static str) -> Outcome<MutexGuard<'_, State>> {
        let state = self.token.enter(call)?;
        if state.epoch == self.epoch {
            Ok(state)
        } else {
            Err(Failure::Returned(RvError::SessionHandleInvalid))
        }
    }

    /// The key, for whoever is logged in.
    fn key(&self, call: &'static str, handle: Handle) -> Outcome<Key> {
        let state = self.enter(call)?;
        let found = state.keys.iter().find(|key| key.found.handle == handle && state.logged_in);
        found.cloned().ok_or(Failure::Returned(RvError::ObjectHandleInvalid))
    }
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

fn crypt(key: &Key, iv: &[u8], aad: &[u8], text: &[u8]) -> Vec<u8> {
    text.iter().zip(hash(&[&[key.material], iv, aad])).map(|(byte, with)| byte ^ with).collect()
}

impl Session for FakeSession {
    fn standing(&mut self) -> Outcome<Standing> {
        self.enter("standing")?.standing.clone()
    }
    fn logged_in(&mut self) -> Outcome<bool> {
        Ok(self.enter("logged_in")?.logged_in)
    }
    fn log_in(&mut self, pin: &str) -> Outcome<()> {
        let mut state = self.enter("log_in")?;
        if state.logged_in {
            return Err(Failure::Returned(RvError::UserAlreadyLoggedIn));
        }
        if pin != state.pin {
            return Err(Failure::Returned(RvError::PinIncorrect));
        }
        state.logged_in = true;
        Ok(())
    }
    fn log_out(&mut self) -> Outcome<()> {
        self.enter("log_out")?.logged_in = false;
        Ok(())
    }
    fn find(&mut self, label: &str, id: Option<&VersionId>) -> Outcome<Vec<Found>> {
        let state = self.enter("find")?;
        if !state.logged_in {
            return Ok(Vec::new());
        }
        let is = |key: &&Key| key.label == label && id.is_none_or(|id| id.bytes() == key.found.id.as_slice());
        Ok(state.keys.iter().filter(is).map(|key| key.found.clone()).collect())
    }
    fn encrypt(&mut self, key: Handle, iv: &mut [u8; IV], aad: &[u8], plain: &[u8]) -> Outcome<Vec<u8>> {
        let key = self.key("encrypt", key)?;
        let ivs = self.token.state().ivs;
        let used = if ivs == Ivs::Taken { *iv } else { [0x77; IV] };
        if ivs == Ivs::Told {
            *iv = used;
        }
        let tag = hash(&[&[key.material], &used, aad, plain]);
        let mut sealed = [crypt(&key, &used, aad, plain), tag[..16].to_vec()].concat();
        if ivs == Ivs::Appended {
            sealed.extend(used);
        }
        Ok(sealed)
    }
    fn decrypt(
        &mut self,
        key: Handle,
        iv: &[u8; IV],
        aad: &[u8],
        sealed: &[u8],
    ) -> Outcome<Zeroizing<Vec<u8>>> {
        let key = self.key("decrypt", key)?;
        assert_eq!(sealed.len(), SEALED);
        if !key.found.decrypts {
            return Err(Failure::Returned(RvError::KeyFunctionNotPermitted));
        }
        let (text, tag) = sealed.split_at(32);
        let plain = crypt(&key, iv, aad, text);
        if hash(&[&[key.material], iv, aad, &plain])[..16] != *tag {
            return Err(Failure::Returned(RvError::GeneralError));
        }
        Ok(Zeroizing::new(plain))
    }
    fn generate(&mut self, label: &str, id: &VersionId) -> Outcome<()> {
        let mut state = self.enter("generate")?;
        let handle = Handle(state.keys.len() as u64);
        let found = Found {
            handle,
            id: id.bytes().to_vec(),
            fits: true,
            encrypts: true,
            decrypts: true,
            local: true,
        };
        let material = state.keys.len() as u8;
        state.keys.push(Key { label: label.into(), found, material });
        Ok(())
    }
    fn permit(&mut self, key: Handle, encrypt: Option<bool>, decrypt: bool) -> Outcome<()> {
        let mut state = self.enter("permit")?;
        let found = &mut state.keys.iter_mut().find(|of| of.found.handle == key).unwrap().found;
        found.decrypts = decrypt;
        found.encrypts = encrypt.unwrap_or(found.encrypts);
        Ok(())
    }
    fn destroy(&mut self, key: Handle) -> Outcome<()> {
        self.enter("destroy")?.keys.retain(|of| of.found.handle != key);
        Ok(())
    }
}
