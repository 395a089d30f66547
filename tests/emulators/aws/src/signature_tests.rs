//! A right signature counts, and nothing that differs from it.
#![allow(clippy::unwrap_used)]

use super::*;

const NOW: Millis = 1_700_000_000_000;
const SECRET: &str = "a-secret";
const NAMES: &str = "content-type;host;x-amz-date;x-amz-target";

/// A request of `at`, signed as its parts are.
fn signed(at: Millis) -> Request {
    let headers = [
        ("host", "kms.example".to_owned()),
        ("content-type", "application/x-amz-json-1.1".into()),
        ("x-amz-date", stamp(at)),
        ("x-amz-target", "TrentService.DescribeKey".into()),
        ("user-agent", "not signed".into()),
    ];
    let mut request = Request {
        method: "POST".into(),
        path: "/".into(),
        query: String::new(),
        headers: headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        body: b"{}".to_vec(),
    };
    sign(&mut request, at, NAMES);
    request
}

fn sign(request: &mut Request, at: Millis, names: &str) {
    let date = stamp(at)[..8].to_owned();
    let claim = Claim {
        access_key: "AKIA1".into(),
        date: date.clone(),
        stamp: stamp(at),
        signed: names.split(';').map(str::to_owned).collect(),
        signature: String::new(),
    };
    let signature = claim.expected(request, "kms", SECRET).unwrap();
    let text = format!(
        "AWS4-HMAC-SHA256 Credential=AKIA1/{date}/{REGION}/kms/aws4_request, SignedHeaders={names}, Signature={signature}"
    );
    request.headers.push(("authorization".into(), text));
}

fn verdict(request: &Request, now: Millis) -> Result<(), (&'static str, String)> {
    let claim = Claim::read(request, "kms").map_err(|refused| (refused.code, refused.message))?;
    claim.verify(request, "kms", SECRET, now).map_err(|refused| (refused.code, refused.message))
}

fn set(request: &mut Request, name: &str, value: &str) {
    request.headers.iter_mut().find(|(of, _)| of == name).unwrap().1 = value.into();
}

#[test]
fn the_documented_signing_key_comes_out() {
    // From the AWS documentation of the signature, for the service iam of us-east-1.
    let seed = b"AWS4wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_vec();
    let key = ["20120215", "us-east-1", "iam", "aws4_request"].iter().fold(seed, |key, part| mac(&key, part));
    assert_eq!(hex(&key), "f4780e2d9f65fa895f9c67b32ce1baf0b0d8a43505a000a1a9e090d414db404d");
}

#[test]
fn a_right_signature_counts_and_nothing_that_differs() {
    verdict(&signed(NOW), NOW).unwrap();
    let mut other = signed(NOW);
    set(&mut other, "user-agent", "another, which is not signed");
    verdict(&other, NOW).unwrap();
    let tampered: [fn(&mut Request); 6] = [
        |request| request.body = b"{ }".to_vec(),
        |request| request.path = "/x".into(),
        |request| request.query = "a=b".into(),
        |request| request.method = "PUT".into(),
        |request| set(request, "x-amz-target", "TrentService.Decrypt"),
        |request| set(request, "host", "evil.example"),
    ];
    for (n, tamper) in tampered.into_iter().enumerate() {
        let mut request = signed(NOW);
        tamper(&mut request);
        assert_eq!(verdict(&request, NOW).unwrap_err().0, "InvalidSignatureException", "{n}");
    }
}

#[test]
fn what_must_be_signed_is_signed() {
    for unsigned in
        ["host;x-amz-date", "host;x-amz-date;x-amz-target", "content-type;x-amz-date;x-amz-target"]
    {
        let mut request = signed(NOW);
        request.headers.pop();
        sign(&mut request, NOW, unsigned);
        let (code, message) = verdict(&request, NOW).unwrap_err();
        assert_eq!(code, "InvalidSignatureException");
        assert!(message.ends_with("must be a signed header."), "{message}");
    }
}

#[test]
fn a_signature_counts_for_five_minutes_before_and_after() {
    for (away, begins) in
        [(299, ""), (-299, ""), (301, "Signature expired"), (-301, "Signature not yet current")]
    {
        let verdict = verdict(&signed(NOW), NOW + away * 1000);
        match verdict {
            Ok(()) => assert_eq!(begins, "", "{away}"),
            Err((code, message)) => {
                assert_eq!(code, "InvalidSignatureException");
                assert!(!begins.is_empty() && message.starts_with(begins), "{away}: {message}");
            }
        }
    }
}

#[test]
fn half_a_header_is_incomplete() {
    let whole = signed(NOW).header("authorization").unwrap().to_owned();
    for (from, to, code) in [
        ("AWS4-HMAC-SHA256", "AWS4", "IncompleteSignatureException"),
        ("Signature=", "Sign=", "IncompleteSignatureException"),
        ("/aws4_request", "", "IncompleteSignatureException"),
        (REGION, "us-east-1", "InvalidSignatureException"),
        ("/kms/", "/sts/", "InvalidSignatureException"),
        ("AKIA1/2023", "AKIA1/2022", "InvalidSignatureException"),
    ] {
        let mut request = signed(NOW);
        let other = whole.replace(from, to);
        assert_ne!(other, whole);
        set(&mut request, "authorization", &other);
        assert_eq!(verdict(&request, NOW).unwrap_err().0, code, "{other}");
    }
    let mut none = signed(NOW);
    none.headers.pop();
    assert_eq!(verdict(&none, NOW).unwrap_err().0, "MissingAuthenticationTokenException");
}
