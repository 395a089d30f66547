//! What the caller gives: manifests, secrets and authorities in files, and an answer at the terminal.
//!
//! Invariant: the content of a secret's file is in no message.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;

use api::KmsProfile;
use kms::SecretString;
use serde_json::Value;

use crate::failure::Failure;
use crate::subject::Gap;

/// The KmsProfile of a manifest: the one of this name, or the only one.
pub fn profile(path: &Path, name: Option<&str>) -> Result<KmsProfile, Failure> {
    let shown = path.display();
    let text =
        std::fs::read_to_string(path).map_err(|error| Failure::config(format!("read {shown}: {error}")))?;
    let wrong = |why: String| Failure::config(format!("{shown}: {why}"));
    // Other objects of the manifest may be anything: what is wrong with them is not ours to say, and a Secret's content must not
    // stand in a message.
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text)
        .map_err(|_| wrong("it is not YAML, or a key stands in it twice".into()))?;
    let is_profile = |value: &&Value| value["kind"] == "KmsProfile";
    let is_named = |value: &&Value| name.is_none_or(|name| value["metadata"]["name"] == name);
    let found: Vec<&Value> = documents.iter().filter(is_profile).filter(is_named).collect();
    match found.as_slice() {
        [one] => {
            serde_json::from_value((*one).clone()).map_err(|error| wrong(format!("its KmsProfile: {error}")))
        }
        [] => Err(wrong("it holds no such KmsProfile".into())),
        _ => Err(wrong("it holds more than one KmsProfile: name one".into())),
    }
}

/// A secret or a token.
pub fn secret(path: &Path) -> Result<SecretString, Gap> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| Gap::wrong(format!("read {shown}: {error}")))?;
    let text = SecretString::from(text);
    let filled = !kms::ExposeSecret::expose_secret(&text).trim().is_empty();
    if filled { Ok(text) } else { Err(Gap::wrong(format!("{shown} is empty"))) }
}

/// PEM certificates.
pub fn authority(path: &Path) -> Result<String, Gap> {
    std::fs::read_to_string(path).map_err(|error| Gap::wrong(format!("read {}: {error}", path.display())))
}

/// Asks a question at the terminal; only `y` and `yes` are a yes.
pub fn confirmed(question: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("there is no terminal to ask at: say --yes"));
    }
    let mut err = std::io::stderr();
    // Who cannot see the question cannot answer it with yes.
    let _ = write!(err, "{question} [y/N] ");
    let _ = err.flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.map_err(|error| Failure::new(contract::exit::FAILURE, format!("read the answer: {error}")))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PROFILE: &str = "
kind: Secret
metadata: {name: kms-data}
stringData: {apiKey: nobody-may-see-this}
---
kind: KmsProfile
apiVersion: cofferdam.io/v1alpha1
metadata: {name: NAME}
spec:
  transit: {endpoint: https://bao.example, key: storage}
  credentials: {data: {tokenSecret: {name: t}}}
";

    #[test]
    fn a_profile_is_found_among_other_documents_by_its_name_or_because_it_is_the_only_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.yaml");
        std::fs::write(&path, PROFILE.replace("NAME", "one")).unwrap();
        assert_eq!(profile(&path, None).unwrap().metadata.name.as_deref(), Some("one"));
        assert!(profile(&path, Some("two")).unwrap_err().text.contains("no such KmsProfile"));
        let both = format!("{}---{}", PROFILE.replace("NAME", "one"), PROFILE.replace("NAME", "two"));
        std::fs::write(&path, both).unwrap();
        assert!(profile(&path, None).unwrap_err().text.contains("more than one"));
        assert_eq!(profile(&path, Some("two")).unwrap().metadata.name.as_deref(), Some("two"));
    }

    #[test]
    fn what_is_wrong_with_a_manifest_is_said_without_its_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.yaml");
        let duplicate =
            PROFILE.replace("stringData:", "stringData: {apiKey: nobody-may-see-this}\nstringData:");
        for text in [duplicate, PROFILE.replace("{apiKey: ", "{apiKey: [")] {
            std::fs::write(&path, text).unwrap();
            let failure = profile(&path, None).unwrap_err();
            assert!(!failure.text.contains("nobody-may-see"), "{}", failure.text);
            assert_eq!(failure.code, contract::exit::CONFIG);
        }
    }
}
