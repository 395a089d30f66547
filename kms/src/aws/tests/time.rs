//! Clocks that do not agree.

use jiff::{SignedDuration, Timestamp};

use super::fixture::*;
use crate::call::CallCtx;
use crate::http::fake::{Fake, Request, Say};

fn signed_at(request: &Request) -> Timestamp {
    let stamp = request.header("x-amz-date").unwrap();
    jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", stamp)
        .unwrap()
        .to_zoned(jiff::tz::TimeZone::UTC)
        .unwrap()
        .timestamp()
}

/// A service whose clock is `ahead` of ours, and which says so or not.
fn service(ahead: SignedDuration, tells: bool) -> impl Fn(&Request) -> Say {
    move |request| {
        let now = Timestamp::now() + ahead;
        let off = signed_at(request).duration_since(now).abs();
        if off < SignedDuration::from_mins(5) {
            return usual(request);
        }
        let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now).unwrap();
        let headers = if tells { vec![("Date", date)] } else { vec![] };
        let body = r#"{"__type":"InvalidSignatureException","message":"Signature expired: a is now earlier than b"}"#;
        Say::Answer { status: 400, kind: JSON, headers, body: body.into() }
    }
}

#[tokio::test]
async fn the_services_time_is_taken_from_its_refusal_and_kept() {
    for ahead in [SignedDuration::from_mins(10), SignedDuration::from_hours(-30)] {
        let fake = Fake::raw(service(ahead, true)).await;
        let kms = kms(&fake);
        kms.describe(&key(), &CallCtx::new()).await.unwrap();
        let first = fake.requests().len();
        kms.describe(&key(), &CallCtx::new()).await.unwrap();
        assert_eq!((first, fake.requests().len()), (4, 6), "refused once, then by the service's clock");
    }
}

#[tokio::test]
async fn a_service_that_tells_no_time_or_cannot_be_pleased_is_an_outage() {
    let silent = service(SignedDuration::from_mins(10), false);
    let moving = |request: &Request| {
        let at = signed_at(request) + SignedDuration::from_hours(1);
        let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap();
        let body = r#"{"__type":"RequestTimeTooSkewed"}"#;
        Say::Answer { status: 403, kind: JSON, headers: vec![("Date", date)], body: body.into() }
    };
    for (fake, tries) in [(Fake::raw(silent).await, 1), (Fake::raw(moving).await, 2)] {
        let error = kms(&fake).describe(&key(), &CallCtx::new()).await.unwrap_err();
        assert!(error.is_outage() && !error.is_refusal(), "{error}");
        assert_eq!((error.reason(), fake.requests().len()), ("KmsAnswerUnusable", tries));
    }
}
