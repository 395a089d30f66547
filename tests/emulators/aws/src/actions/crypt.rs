//! Keys in use: generate, encrypt, decrypt, re-encrypt.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Call, blob, bytes, conditions, usable};
use crate::keys::Context;
use crate::refusal::{Answer, refuse};
use crate::signature::hex;

const LONGEST_BLOB: usize = 6144;
const ALGORITHM: &str = "SYMMETRIC_DEFAULT";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Generate {
    key_id: String,
    key_spec: Option<String>,
    number_of_bytes: Option<usize>,
    #[serde(default)]
    encryption_context: Context,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Encrypt {
    key_id: String,
    plaintext: String,
    #[serde(default)]
    encryption_context: Context,
    encryption_algorithm: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Decrypt {
    key_id: Option<String>,
    ciphertext_blob: String,
    #[serde(default)]
    encryption_context: Context,
    encryption_algorithm: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct ReEncrypt {
    ciphertext_blob: String,
    source_key_id: Option<String>,
    #[serde(default)]
    source_encryption_context: Context,
    destination_key_id: String,
    #[serde(default)]
    destination_encryption_context: Context,
}

fn check_algorithm(given: Option<&String>) -> Answer<()> {
    if given.is_none_or(|given| given == ALGORITHM) {
        return Ok(());
    }
    refuse("InvalidKeyUsageException", "The algorithm is not one of this key.")
}

impl Call<'_> {
    pub(super) fn generate_data_key(&mut self) -> Answer<Value> {
        let Generate { key_id, key_spec, number_of_bytes, encryption_context } = self.read()?;
        let len = match (key_spec.as_deref(), number_of_bytes) {
            (Some("AES_256"), None) => 32,
            (Some("AES_128"), None) => 16,
            (None, Some(len)) if (1..=1024).contains(&len) => len,
            _ => return refuse("ValidationException", "Please specify either number of bytes or key spec."),
        };
        let arn = self.permitted(&key_id, "GenerateDataKey", true, &conditions(&encryption_context))?;
        let key = self.key(&arn)?;
        usable(key)?;
        let mut plain = vec![0; len];
        getrandom::fill(&mut plain).expect("the system has random numbers");
        let sealed = key.seal(&plain, &encryption_context);
        Ok(json!({
            "CiphertextBlob": blob(&sealed),
            "Plaintext": blob(&plain),
            "KeyId": arn,
            "KeyMaterialId": hex(&key.current().id),
        }))
    }

    pub(super) fn encrypt(&mut self) -> Answer<Value> {
        let Encrypt { key_id, plaintext, encryption_context, encryption_algorithm } = self.read()?;
        let plain = bytes(&plaintext, "plaintext", 4096)?;
        check_algorithm(encryption_algorithm.as_ref())?;
        let arn = self.permitted(&key_id, "Encrypt", true, &conditions(&encryption_context))?;
        let key = self.key(&arn)?;
        usable(key)?;
        let sealed = key.seal(&plain, &encryption_context);
        // As in AWS: nothing is said of the material.
        Ok(json!({"CiphertextBlob": blob(&sealed), "KeyId": arn, "EncryptionAlgorithm": ALGORITHM}))
    }

    pub(super) fn decrypt(&mut self) -> Answer<Value> {
        let Decrypt { key_id, ciphertext_blob, encryption_context, encryption_algorithm } = self.read()?;
        check_algorithm(encryption_algorithm.as_ref())?;
        let sealed = bytes(&ciphertext_blob, "ciphertextBlob", LONGEST_BLOB)?;
        let (arn, plain, material) = self.open(
            key_id.as_deref(),
            "Decrypt",
            &sealed,
            &encryption_context,
            &conditions(&encryption_context),
        )?;
        Ok(json!({
            "KeyId": arn,
            "Plaintext": blob(&plain),
            "EncryptionAlgorithm": ALGORITHM,
            "KeyMaterialId": material,
        }))
    }

    pub(super) fn re_encrypt(&mut self) -> Answer<Value> {
        let ReEncrypt {
            ciphertext_blob,
            source_key_id,
            source_encryption_context: from,
            destination_key_id,
            destination_encryption_context: to,
        } = self.read()?;
        let sealed = bytes(&ciphertext_blob, "ciphertextBlob", LONGEST_BLOB)?;
        let source = self.meant(source_key_id.as_deref(), &sealed)?;
        let same = self.world.arn_meant(&destination_key_id, true).as_ref() == Some(&source);
        let known = |context: &Context| {
            let mut known = conditions(context);
            known.push(("kms:ReEncryptOnSameKey".into(), same.to_string()));
            known
        };
        let destination = self.permitted(&destination_key_id, "ReEncryptTo", true, &known(&to))?;
        let (source, plain, was) =
            self.open(Some(&source), "ReEncryptFrom", &sealed, &from, &known(&from))?;
        let key = self.key(&destination)?;
        usable(key)?;
        let moved = key.seal(&plain, &to);
        Ok(json!({
            "CiphertextBlob": blob(&moved),
            "SourceKeyId": source,
            "KeyId": destination,
            "SourceEncryptionAlgorithm": ALGORITHM,
            "DestinationEncryptionAlgorithm": ALGORITHM,
            "SourceKeyMaterialId": was,
            "DestinationKeyMaterialId": hex(&key.current().id),
        }))
    }

    /// The key that a caller names, else the one that sealed this.
    fn meant(&mut self, named: Option<&str>, sealed: &[u8]) -> Answer<String> {
        match named {
            Some(name) => match self.world.arn_meant(name, true) {
                Some(arn) => Ok(arn),
                None => refuse("NotFoundException", format!("Invalid keyId '{name}'")),
            },
            None => match self.world.keys().find(|key| key.sealed(sealed)) {
                Some(key) => Ok(key.arn()),
                None => refuse("InvalidCiphertextException", ""),
            },
        }
    }

    fn open(
        &mut self,
        named: Option<&str>,
        action: &str,
        sealed: &[u8],
        context: &Context,
        known: &[(String, String)],
    ) -> Answer<(String, Vec<u8>, String)> {
        let arn = self.meant(named, sealed)?;
        let arn = self.permitted(&arn, action, true, known)?;
        let another = self.world.keys().any(|key| key.sealed(sealed) && key.arn() != arn);
        let key = self.key(&arn)?;
        usable(key)?;
        if another {
            return refuse(
                "IncorrectKeyException",
                "The key ID in the request does not identify a CMK that can perform this operation.",
            );
        }
        match key.open(sealed, context) {
            Some((plain, material)) => Ok((arn, plain, material)),
            None => refuse("InvalidCiphertextException", ""),
        }
    }
}
