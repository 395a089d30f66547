//! A scripted AWS and connections to it.

use std::sync::Arc;

use contract::config::{AwsKms, Credential, Provider};
use secrecy::SecretString;

use crate::admin::KmsAdmin;
use crate::config::ProviderConfig;
use crate::connect::{connect_admin, connect_with_secret};
use crate::http::fake::{Fake, Request, Say, bare, ok, status};
use crate::key::{ContextScheme, KeyRef, KeyVersion, Wrapped};
use crate::service::Kms;

pub(super) const ARN: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
pub(super) const MATERIAL: &str = "0b7fd7ddbac6eef27907413567cad8c810e2883dc8a7534067a82ee1142fc1e6";
pub(super) const OLDER: &str = "123d841706daeaf8f9a5ba7f4c0e2cb3f1ac2ad3cdeb8e6ac7a4e5eb3cbe9d4e";
pub(super) const BLOB: [u8; 5] = [1, 2, 2, 0, 0x78];
pub(super) const BLOB_TEXT: &str = "AQICAHg=";
pub(super) const JSON: &str = "application/x-amz-json-1.1";
pub(super) const ROLE: &str = "arn:aws:iam::111122223333:role/shop";

pub(super) const FILE: &str = "[default]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = \
                               a-secret-key-that-nobody-may-see\naws_session_token = a-session-token\n";

/// Of a key that was rotated once.
pub(super) fn metadata(state: &str) -> String {
    format!(
        r#"{{"KeyMetadata":{{"AWSAccountId":"111122223333","Arn":"{ARN}","KeyId":"1234abcd-12ab-34cd-56ef-1234567890ab",
        "CreationDate":1700000000.5,"Enabled":true,"KeyState":"{state}","KeyUsage":"ENCRYPT_DECRYPT","KeySpec":"SYMMETRIC_DEFAULT",
        "Origin":"AWS_KMS","KeyManager":"CUSTOMER","CurrentKeyMaterialId":"{MATERIAL}","DeletionDate":1800000000.0}}}}"#
    )
}

pub(super) const ROTATIONS: &str = r#"{"Rotations":[
    {"KeyMaterialId":"123d841706daeaf8f9a5ba7f4c0e2cb3f1ac2ad3cdeb8e6ac7a4e5eb3cbe9d4e","KeyMaterialState":"NON_CURRENT"},
    {"KeyMaterialId":"0b7fd7ddbac6eef27907413567cad8c810e2883dc8a7534067a82ee1142fc1e6","KeyMaterialState":"CURRENT",
     "RotationDate":1700086400.0,"RotationType":"ON_DEMAND"}],"Truncated":false}"#;

pub(super) fn said(body: impl Into<String>) -> Say {
    status(200, JSON, body)
}

pub(super) fn refused(code: &str) -> Say {
    status(400, JSON, format!(r#"{{"__type":"{code}","message":"no"}}"#))
}

/// `STS`, or the action of KMS.
pub(super) fn action(request: &Request) -> String {
    let target = request.header("x-amz-target").unwrap_or("TrentService.STS");
    target.strip_prefix("TrentService.").unwrap().to_owned()
}

pub(super) fn root_key(fake: &Fake) -> AwsKms {
    let at = format!("http://{}", fake.at);
    AwsKms {
        region: "eu-central-1".into(),
        endpoint: Some(at.clone()),
        sts_endpoint: Some(at),
        key: ARN.into(),
    }
}

pub(super) fn config(root_key: AwsKms, credential: Credential) -> ProviderConfig {
    ProviderConfig::new(Provider::Aws(root_key), credential).at_loopback()
}

pub(super) fn keys_file() -> Credential {
    Credential::AwsKeysFile { path: "/not/read".into() }
}

pub(super) fn web_identity() -> Credential {
    Credential::AwsWebIdentity { role_arn: ROLE.into(), token_path: "/not/read".into() }
}

/// A connection with access keys.
pub(super) fn kms(fake: &Fake) -> Arc<dyn Kms> {
    connect_with_secret(&config(root_key(fake), keys_file()), SecretString::from(FILE), &bare()).unwrap()
}

/// A connection with a role.
pub(super) fn kms_of_role(fake: &Fake) -> Arc<dyn Kms> {
    let config = config(root_key(fake), web_identity());
    connect_with_secret(&config, SecretString::from("eyJ-a-service-account-token"), &bare()).unwrap()
}

pub(super) fn admin(fake: &Fake) -> Arc<dyn KmsAdmin> {
    let config = config(root_key(fake), keys_file());
    connect_admin(&config, Some(SecretString::from(FILE)), &bare()).unwrap()
}

pub(super) fn wrapped() -> Wrapped {
    Wrapped {
        blob: BLOB.to_vec(),
        version: Some(KeyVersion(OLDER.into())),
        scheme: ContextScheme::EncryptionContext,
    }
}

pub(super) fn key() -> KeyRef {
    KeyRef(ARN.into())
}

pub(super) fn last(fake: &Fake) -> Request {
    fake.requests().last().unwrap().clone()
}

/// A session that ends at `end`.
pub(super) fn session(end: &str) -> Say {
    let body = format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <AssumeRoleWithWebIdentityResult>\n    <SubjectFromWebIdentityToken>system:serviceaccount:shop:default</SubjectFromWebIdentityToken>\n    <Credentials>\n      <AccessKeyId>ASIASESSION</AccessKeyId>\n      <SecretAccessKey>session-secret/+=</SecretAccessKey>\n      <SessionToken>session-token==</SessionToken>\n      <Expiration>{end}</Expiration>\n    </Credentials>\n  </AssumeRoleWithWebIdentityResult>\n  <ResponseMetadata><RequestId>1</RequestId></ResponseMetadata>\n</AssumeRoleWithWebIdentityResponse>\n"
    );
    status(200, "text/xml", body)
}

/// What STS refuses with.
pub(super) fn sts_refuses(http: u16, code: &str, message: &str) -> Say {
    let body = format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <Error>\n    <Type>Sender</Type>\n    <Code>{code}</Code>\n    <Message>{message}</Message>\n  </Error>\n  <RequestId>1</RequestId>\n</ErrorResponse>\n"
    );
    status(http, "text/xml", body)
}

/// An answer of a KMS whose key was rotated once, for whatever is asked.
pub(super) fn usual(request: &Request) -> Say {
    match action(request).as_str() {
        "STS" => session("2999-01-01T00:00:00Z"),
        "DescribeKey" | "CreateKey" => said(metadata("Enabled")),
        "GetKeyRotationStatus" => said(r#"{"KeyRotationEnabled":true,"RotationPeriodInDays":180}"#),
        "ListKeyRotations" => said(ROTATIONS),
        _ => ok("{}"),
    }
}
