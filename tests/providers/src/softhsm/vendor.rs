//! The token without the provider that is judged: the vendor's library itself, and blobs as `docs/kms.md` describes them.
//!
//! Invariant: nothing here comes from the provider's own code.

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;

use super::apart::{PIN, TOKEN};
use super::shim::REAL;

/// Where the parts of a blob begin: format, version, check, IV, ciphertext and tag.
const PARTS: [usize; 6] = [0, 1, 17, 25, 37, 85];

/// A session of the user.
pub struct Vendor(pub Session);

impl Vendor {
    /// A new one.
    pub fn new() -> Self {
        let library = Pkcs11::new(REAL).unwrap();
        match library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => panic!("{error}"),
        }
        let slots = library.get_slots_with_initialized_token().unwrap();
        let slot = slots.into_iter().find(|slot| library.get_token_info(*slot).unwrap().label() == TOKEN);
        let session = library.open_rw_session(slot.expect("the token is there")).unwrap();
        match session.login(UserType::User, Some(&AuthPin::from(PIN))) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
            Err(error) => panic!("{error}"),
        }
        Self(session)
    }

    /// The objects of a root key.
    pub fn objects(&self, label: &str) -> Vec<ObjectHandle> {
        self.0.find_objects(&[Attribute::Label(label.into())]).unwrap()
    }

    /// All keys of the token.
    pub fn keys(&self) -> usize {
        self.0.find_objects(&[Attribute::Class(ObjectClass::SECRET_KEY)]).unwrap().len()
    }

    /// An object's attributes.
    pub fn attributes(&self, object: ObjectHandle, of: &[AttributeType]) -> Vec<Attribute> {
        self.0.get_attributes(object, of).unwrap()
    }

    /// The `CKA_ID` of an object.
    pub fn id(&self, object: ObjectHandle) -> Vec<u8> {
        match self.attributes(object, &[AttributeType::Id]).as_slice() {
            [Attribute::Id(id)] => id.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// Opens a blob.
    pub fn open(&self, blob: &[u8], ctx: &[u8]) -> Vec<u8> {
        assert_eq!((blob.len(), blob[0]), (PARTS[5], 1));
        let template = [Attribute::Id(blob[PARTS[1]..PARTS[2]].to_vec())];
        let [object] = self.0.find_objects(&template).unwrap()[..] else { panic!("one object") };
        let mut iv = blob[PARTS[3]..PARTS[4]].to_vec();
        let aad = [&blob[..PARTS[3]], ctx].concat();
        let params = GcmParams::new(&mut iv, &aad, 128.into()).unwrap();
        self.0.decrypt(&Mechanism::AesGcm(params), object, &blob[PARTS[4]..]).unwrap()
    }
}

impl Default for Vendor {
    fn default() -> Self {
        Self::new()
    }
}
