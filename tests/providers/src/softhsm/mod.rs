//! The bench of PKCS#11: a real SoftHSM token for each check, in a process of its own, behind a library that counts and troubles.
//!
//! Invariant: what stands for a service's trouble happens in the library, below everything that is judged.

mod apart;
mod shim;
mod vendor;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use contract::config::{Credential, Pkcs11, Provider};
use cryptoki::object::Attribute;
use kms::admin::{KmsAdmin, NewKey};
use kms::{
    CaSource, CallCtx, KeyRef, Kms, Op, Options, ProviderConfig, SecretString, Wrapped, connect,
    connect_admin, connect_with_secret,
};

use crate::bench::{Bench, Caller, Trouble};
use crate::checks::CTX;
use crate::subjects::{SOFTHSM, Subject};
use apart::PIN;
use shim::Shim;

pub use apart::{Scene, TOKEN, apart};
pub use vendor::Vendor;

/// The root key.
pub const KEY: &str = "storage";
const OTHER: &str = "other";
const MISSING: &str = "missing";

/// A token of SoftHSM.
pub struct SoftHsm {
    /// Its folder.
    pub scene: Scene,
    shim: Shim,
}

impl SoftHsm {
    /// The user's PIN.
    pub fn pin(&self) -> SecretString {
        PIN.into()
    }

    /// A configuration that leads here, with the PIN in a file.
    pub fn config(&self, pin: &str) -> ProviderConfig {
        let module = apart::library().to_str().unwrap().into();
        let provider = Provider::Pkcs11(Pkcs11 { module, token: TOKEN.into(), key: KEY.into() });
        ProviderConfig::new(provider, Credential::PinFile { path: pin.into() })
    }

    /// Answers calls of an operation with a return value, so many or until it is healed.
    pub fn answer(&self, op: Op, result: u64, times: Option<u64>) {
        self.shim.answer(op, result, times);
    }

    /// Before the next call, the library is finalised.
    pub fn finalize(&self) {
        self.shim.finalize();
    }
}

#[async_trait]
impl Bench for SoftHsm {
    const SUBJECT: &'static Subject = &SOFTHSM;

    async fn start(_: bool) -> Option<Self> {
        let scene = Scene::of_this_process();
        let shim = Shim::open(&scene.shim_state());
        let bench = Self { scene, shim };
        for name in [KEY, OTHER] {
            let new = NewKey { name: name.into(), description: None };
            bench.owner().create(&new, &CallCtx::new()).await.unwrap();
        }
        Some(bench)
    }
    fn connect(&self, caller: Caller, options: &Options) -> Arc<dyn Kms> {
        let secret = SecretString::from(self.secret(caller));
        connect_with_secret(&self.config("/not/read"), secret, options).unwrap()
    }
    fn connect_at(&self, _: &str, _: Option<CaSource>, _: &Options) -> Arc<dyn Kms> {
        unreachable!("declared absent")
    }
    fn connect_by_file(&self, path: &str, options: &Options) -> Arc<dyn Kms> {
        connect(&self.config(path), options).unwrap()
    }
    fn secret(&self, caller: Caller) -> String {
        if caller == Caller::Data { PIN.into() } else { "wrong-pin".into() }
    }
    fn secrets(&self) -> Vec<String> {
        vec![PIN.into()]
    }
    fn owner(&self) -> Arc<dyn KmsAdmin> {
        connect_admin(&self.config("/not/read"), Some(self.pin()), &Options::default()).unwrap()
    }
    fn owner_as(&self, _: Caller) -> Arc<dyn KmsAdmin> {
        unreachable!("declared absent")
    }
    fn address(&self) -> SocketAddr {
        unreachable!("declared absent")
    }
    fn key(&self) -> KeyRef {
        KeyRef(KEY.into())
    }
    fn other_key(&self) -> KeyRef {
        KeyRef(OTHER.into())
    }
    fn expiring_key(&self) -> KeyRef {
        unreachable!("declared absent")
    }
    fn missing_key(&self) -> KeyRef {
        KeyRef(MISSING.into())
    }
    async fn count_keys(&self) -> usize {
        Vendor::new().keys()
    }
    async fn unwrapped_by_vendor(&self, wrapped: &Wrapped) -> Vec<u8> {
        Vendor::new().open(&wrapped.blob, &CTX)
    }
    async fn advance(&self, _: Duration) {
        // No rule of a token is about time.
    }
    fn requests(&self, op: Op) -> u64 {
        self.shim.requests(op)
    }
    fn reset_requests(&self) {
        self.shim.reset();
    }
    async fn permit(&self, _: Caller, _: bool) {
        unreachable!("declared absent")
    }
    async fn retire_old_versions(&self, retired: bool) {
        let vendor = Vendor::new();
        let mut objects = vendor.objects(KEY);
        objects.sort_by_key(|object| vendor.id(*object));
        let (_, old) = objects.split_last().unwrap();
        assert!(!old.is_empty());
        for object in old {
            vendor.0.update_attributes(*object, &[Attribute::Decrypt(!retired)]).unwrap();
        }
    }
    async fn revoke_tokens(&self) {
        self.shim.log_out();
    }
    fn trouble(&self, op: Op, trouble: Trouble, times: Option<u64>) {
        self.shim.trouble(op, trouble, times);
    }
    fn heal(&self) {
        self.shim.heal();
    }
    async fn restart(&mut self) {
        self.shim.finalize();
    }
}
