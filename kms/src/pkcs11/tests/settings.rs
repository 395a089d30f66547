//! Configurations that cannot work show before anything is loaded.

use contract::config::{Credential, Pkcs11 as Spec, Provider};

use crate::config::{ConfigError, ProviderConfig};
use crate::connect::{Options, connect};

fn config() -> ProviderConfig {
    let spec = Spec { module: "/opt/hsm/lib.so".into(), token: "token".into(), key: "storage".into() };
    ProviderConfig::new(Provider::Pkcs11(spec), Credential::PinFile { path: "/not/read".into() })
}

fn refused(change: impl FnOnce(&mut Spec)) -> Option<ConfigError> {
    let mut config = config();
    let Provider::Pkcs11(spec) = &mut config.provider else { panic!("not this provider") };
    change(spec);
    connect(&config, &Options::default()).err()
}

#[test]
fn a_library_is_an_absolute_path_that_goes_nowhere_else() {
    assert_eq!(refused(|_| {}), None);
    for path in ["", "lib.so", "hsm/lib.so", "/opt/../lib.so", "/opt//lib.so", "/opt/./lib.so", "/", "/a\0b"]
    {
        let error = refused(|spec| spec.module = path.into());
        assert_eq!(error, Some(ConfigError::Field { field: "module" }), "{path:?}");
    }
}

#[test]
fn labels_are_text_that_a_token_can_hold() {
    for label in ["", " a", "a ", "a\nb", &"x".repeat(129)] {
        let error = refused(|spec| spec.key = label.into());
        assert_eq!(error, Some(ConfigError::Field { field: "key" }), "{label:?}");
        let error = refused(|spec| spec.token = label.into());
        assert_eq!(error, Some(ConfigError::Field { field: "token" }), "{label:?}");
    }
    assert_eq!(refused(|spec| spec.token = "x".repeat(33)), Some(ConfigError::Field { field: "token" }));
    assert_eq!(refused(|spec| spec.key = "Key of storage, 2026".into()), None);
}

#[test]
fn the_credential_of_another_provider_is_refused() {
    let credential = Credential::TokenFile { path: "/not/read".into() };
    let error = connect(&ProviderConfig { credential, ..config() }, &Options::default()).err();
    assert_eq!(error, Some(ConfigError::Credential));
}
