//! What a policy allows, and what is none.
#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/k";

fn policy(statements: &Value) -> Policy {
    Policy::parse(&json!({"Version": "2012-10-17", "Statement": statements}).to_string()).unwrap()
}

fn may(policies: &[Policy], action: &str, resource: &str, known: &[(&str, &str)]) -> bool {
    let known = known.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    allows(policies, &Wish { action, resource, federated: None, known: &known })
}

#[test]
fn something_must_allow_it_and_nothing_deny_it() {
    let allow = policy(&json!([{"Effect": "Allow", "Action": ["kms:Decrypt", "kms:Re*"], "Resource": KEY}]));
    let deny = policy(&json!([{"Effect": "Deny", "Action": "*", "Resource": "*"}]));
    assert!(may(std::slice::from_ref(&allow), "kms:Decrypt", KEY, &[]));
    assert!(may(std::slice::from_ref(&allow), "kms:ReEncryptTo", KEY, &[]));
    assert!(!may(std::slice::from_ref(&allow), "kms:Encrypt", KEY, &[]));
    assert!(!may(std::slice::from_ref(&allow), "kms:Decrypt", &format!("{KEY}2"), &[]));
    assert!(!may(&[allow, deny], "kms:Decrypt", KEY, &[]));
    assert!(!may(&[], "kms:Decrypt", KEY, &[]));
}

#[test]
fn a_condition_holds_only_of_what_is_known() {
    let same = policy(&json!([{"Effect": "Allow", "Action": "kms:ReEncryptTo", "Resource": "*",
        "Condition": {"Bool": {"kms:ReEncryptOnSameKey": "true"}}}]));
    let key = "kms:ReEncryptOnSameKey";
    assert!(may(std::slice::from_ref(&same), "kms:ReEncryptTo", KEY, &[(key, "true")]));
    assert!(!may(std::slice::from_ref(&same), "kms:ReEncryptTo", KEY, &[(key, "false")]));
    assert!(!may(std::slice::from_ref(&same), "kms:ReEncryptTo", KEY, &[]));
    let young = policy(&json!([{"Effect": "Allow", "Action": "*", "Resource": "*",
        "Condition": {"DateLessThan": {"aws:TokenIssueTime": "1970-01-01T00:00:01Z"}}}]));
    assert!(may(std::slice::from_ref(&young), "kms:Decrypt", KEY, &[("aws:TokenIssueTime", "999")]));
    assert!(!may(std::slice::from_ref(&young), "kms:Decrypt", KEY, &[("aws:TokenIssueTime", "1000")]));
}

#[test]
fn what_is_not_understood_is_no_policy() {
    let whole = json!({"Version": "2012-10-17", "Statement":
        [{"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*"}]});
    Policy::parse(&whole.to_string()).unwrap();
    for (pointer, name, value) in [
        ("/Statement/0", "NotAction", json!("kms:*")),
        ("/Statement/0", "Condition", json!({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}})),
        ("/Statement/0", "Effect", json!("allow")),
        ("", "Version", json!("2008-10-17")),
        ("", "Rules", json!([])),
    ] {
        let mut other = whole.clone();
        other.pointer_mut(pointer).unwrap()[name] = value;
        assert!(Policy::parse(&other.to_string()).is_err(), "{other}");
    }
}

#[test]
fn stars_and_question_marks() {
    for (pattern, text, holds) in [
        ("*", "", true),
        ("a*c", "abbc", true),
        ("a*c", "abb", false),
        ("a?c", "abc", true),
        ("a?c", "ac", false),
        ("", "a", false),
        ("key/*", "key/1", true),
    ] {
        assert_eq!(like(pattern, text), holds, "{pattern} {text}");
    }
}
