#![allow(clippy::unwrap_used)]
use std::collections::HashMap;

use super::iam::{IamError, Terms, grant};
use super::roles::Role;
use super::*;
use crate::keys::Material;

fn key_in(ring: &str, id: &str) -> Key {
    serde_json::from_value(serde_json::json!({
        "id": id, "name": id, "description": null, "tags": [], "aliases": [], "extractable": false, "imported": false,
        "ring": ring, "created": {"at": 0, "by": "x"}, "expires": null, "suspended": null, "deleted": null, "updated": 0,
        "rotated": null, "rotation": null, "dual_auth": null, "dualAuth": null, "scheduledDeletion": null, "versions": [],
    }))
    .unwrap()
}

fn form(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

const TERMS: Terms = Terms { now: 1000, lifetime: 3600 };

#[test]
fn a_custom_role_has_the_actions_it_lists_and_no_other() {
    let mut access = Access::default();
    let actions = ["kms.secrets.rewrap", "kms.secrets-metadata.read"];
    access.add_api_key("job", "s", vec![Grant::actions(&actions)]);
    let job = access.by_api_key("s").unwrap();
    let key = key_in("default", "k");
    let on = Resource::Key("i", &key);
    assert!(job.may("kms.secrets.rewrap", &on));
    assert!(job.may("kms.secrets.readmetadata", &on));
    assert!(!job.may("kms.secrets.unwrap", &on));
    assert!(!job.may("kms.secrets.wrap", &on));
}

#[test]
fn a_grant_on_one_key_reaches_no_other_key_ring_or_instance() {
    let key = key_in("blue", "k1");
    let other = key_in("blue", "k2");
    let mut access = Access::default();
    access.add_api_key("one", "s", vec![Grant::role(Role::Manager).on_key("k1")]);
    let in_ring =
        Grant { key_rings: vec!["blue".into()], instance: Some("i".into()), ..Grant::role(Role::Writer) };
    access.add_api_key("ring", "r", vec![in_ring]);

    let one = access.by_api_key("s").unwrap();
    assert!(one.may("kms.secrets.wrap", &Resource::Key("i", &key)));
    assert!(!one.may("kms.secrets.wrap", &Resource::Key("i", &other)));
    assert!(!one.may("kms.secrets.create", &Resource::Ring("i", "blue")));
    assert!(!one.may("kms.importtoken.create", &Resource::Instance("i")));

    let ring = access.by_api_key("r").unwrap();
    assert!(ring.may("kms.secrets.wrap", &Resource::Key("i", &other)));
    assert!(!ring.may("kms.secrets.wrap", &Resource::Key("other", &other)));
    assert!(!ring.may("kms.secrets.wrap", &Resource::Key("i", &key_in("red", "k3"))));
    assert!(ring.may("kms.secrets.create", &Resource::Ring("i", "blue")));
    assert!(!ring.may("kms.secrets.create", &Resource::Ring("i", "red")));
}

#[test]
fn a_revoked_token_is_refused_and_a_new_one_works() {
    let secret = Material::random().unwrap();
    let mut access = Access::default();
    access.add_api_key("data", "s", vec![Grant::role(Role::Reader)]);
    let request = form(&[("grant_type", "urn:ibm:params:oauth:grant-type:apikey"), ("apikey", "s")]);
    let next = |access: &mut Access| {
        let (_, body) = grant(access, &secret, &request, TERMS).unwrap();
        token::read(&secret, body["access_token"].as_str().unwrap()).unwrap()
    };
    let first = next(&mut access);
    assert!(access.bearer(&first, 1000).is_some());
    assert!(access.bearer(&first, 4600).is_none(), "expired");
    assert_eq!(access.revoke_issued(Some("data")), 1);
    assert!(access.bearer(&first, 1000).is_none(), "revoked with all before it");
    let second = next(&mut access);
    assert!(access.bearer(&second, 1000).is_some());
    access.revoke_token(&second.jti);
    assert!(access.bearer(&second, 1000).is_none(), "revoked alone");
}

#[test]
fn a_token_of_another_server_has_no_subject() {
    let mut access = Access::default();
    access.add_api_key("data", "s", vec![]);
    let request = form(&[("grant_type", "urn:ibm:params:oauth:grant-type:apikey"), ("apikey", "s")]);
    let (_, body) = grant(&mut access, &Material::random().unwrap(), &request, TERMS).unwrap();
    assert!(token::read(&Material::random().unwrap(), body["access_token"].as_str().unwrap()).is_err());
}

#[test]
fn an_unknown_api_key_and_an_incomplete_form_are_told_apart() {
    let secret = Material::random().unwrap();
    let mut access = Access::default();
    let kind = ("grant_type", "urn:ibm:params:oauth:grant-type:apikey");
    let wrong = grant(&mut access, &secret, &form(&[kind, ("apikey", "x")]), TERMS).unwrap_err();
    assert_eq!((wrong, wrong.status(), wrong.code()), (IamError::UnknownApiKey, 400, "BXNIM0415E"));
    let incomplete = grant(&mut access, &secret, &form(&[kind]), TERMS).unwrap_err();
    assert_eq!(incomplete, IamError::Missing("apikey"));
}

#[test]
fn an_access_token_is_no_refresh_token() {
    let secret = Material::random().unwrap();
    let mut access = Access::default();
    access.add_api_key("data", "s", vec![]);
    let request = form(&[("grant_type", "urn:ibm:params:oauth:grant-type:apikey"), ("apikey", "s")]);
    let (_, body) = grant(&mut access, &secret, &request, TERMS).unwrap();
    let refresh = |token: &str| form(&[("grant_type", "refresh_token"), ("refresh_token", token)]);
    let wrong = grant(&mut access, &secret, &refresh(body["access_token"].as_str().unwrap()), TERMS);
    assert_eq!(wrong.unwrap_err(), IamError::BadRefreshToken);
    assert!(grant(&mut access, &secret, &refresh(body["refresh_token"].as_str().unwrap()), TERMS).is_ok());
}
