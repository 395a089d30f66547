//! Project Wycheproof's AES-GCM vectors against both engines: the one that seals data and the one that wraps keys.
//!
//! The format uses 256-bit keys, 96-bit nonces and 128-bit tags; the vectors of that shape are all run.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, UnboundKey};
use wycheproof::TestResult;
use wycheproof::aead::{Test, TestName, TestSet};

fn vectors() -> Vec<Test> {
    let set = TestSet::load(TestName::AesGcm).unwrap();
    let groups = set.test_groups.into_iter();
    groups
        .filter(|group| (group.key_size, group.nonce_size, group.tag_size) == (256, 96, 128))
        .flat_map(|group| group.tests)
        .collect()
}

fn sealed(test: &Test) -> Vec<u8> {
    [&test.ct[..], &test.tag[..]].concat()
}

fn nonce(test: &Test) -> [u8; 12] {
    test.nonce[..].try_into().unwrap()
}

fn data_engine(test: &Test) -> Option<Vec<u8>> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &test.key).unwrap());
    let nonce = || aws_lc_rs::aead::Nonce::assume_unique_for_key(nonce(test));
    let mut out = vec![0; test.pt.len()];
    let opened = key.open_separate_gather(nonce(), Aad::from(&test.aad[..]), &test.ct, &test.tag, &mut out);
    opened.ok()?;
    let mut again = test.pt.to_vec();
    let tag = key.seal_in_place_separate_tag(nonce(), Aad::from(&test.aad[..]), &mut again).unwrap();
    again.extend_from_slice(tag.as_ref());
    assert_eq!(again, sealed(test), "vector {}", test.tc_id);
    Some(out)
}

fn wrap_engine(test: &Test) -> Option<Vec<u8>> {
    let cipher = Aes256Gcm::new_from_slice(&test.key).unwrap();
    let nonce = Nonce::from(nonce(test));
    let payload = |msg| Payload { msg, aad: &test.aad };
    let whole = sealed(test);
    let out = cipher.decrypt(&nonce, payload(&whole)).ok()?;
    let again = cipher.encrypt(&nonce, payload(&test.pt)).unwrap();
    assert_eq!(again, whole, "vector {}", test.tc_id);
    Some(out)
}

#[test]
fn both_engines_accept_the_valid_vectors_and_refuse_the_others() {
    let vectors = vectors();
    let (mut valid, mut invalid) = (0, 0);
    for test in &vectors {
        let expected = match test.result {
            TestResult::Valid | TestResult::Acceptable => {
                valid += 1;
                Some(test.pt.to_vec())
            }
            TestResult::Invalid => {
                invalid += 1;
                None
            }
        };
        assert_eq!(data_engine(test), expected, "vector {}", test.tc_id);
        assert_eq!(wrap_engine(test), expected, "vector {}", test.tc_id);
    }
    // The set as it is in the crate: a filter that selects nothing must not pass.
    assert!(valid >= 30 && invalid >= 20, "{valid} valid, {invalid} invalid");
}
