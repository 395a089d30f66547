//! Lists of versions: pages, their order, and links that lead elsewhere.

use super::fake::*;
use crate::call::CallCtx;
use crate::error::ErrorKind;
use crate::key::VersionInfo;

fn item(version: &str, created: u64) -> String {
    format!(r#"{{"kid":"https://v/keys/k/{version}","attributes":{{"enabled":true,"created":{created}}}}}"#)
}

/// How a link is made from the request that it answers.
type Link = Box<dyn Fn(&Request) -> String + Send>;

/// A vault whose first page ends with this link.
async fn linking(link: impl Fn(&Request) -> String + Send + 'static) -> Fake {
    fake(move |request| {
        let line = line(request);
        if line == "GET /keys/k" {
            return ok(key_body("RSA", ""));
        }
        if line.contains("skiptoken") {
            return ok(format!(r#"{{"value":[{}],"nextLink":null}}"#, item(V2, 1)));
        }
        ok(format!(r#"{{"value":[{}],"nextLink":"{}"}}"#, item(V1, 1), link(request)))
    })
    .await
}

async fn listed(fake: &Fake) -> crate::Result<Vec<VersionInfo>> {
    kms(fake).versions(&key(), &CallCtx::new()).await
}

#[tokio::test]
async fn every_page_is_read_and_the_current_version_comes_first() {
    let fake = linking(|request| {
        let host = request.header("host").unwrap();
        format!("http://{host}/keys/k/versions?api-version=7.4&$skiptoken=a%2Bb&maxresults=25")
    })
    .await;
    let versions = listed(&fake).await.unwrap();
    let names: Vec<&str> = versions.iter().map(|info| info.version.0.as_str()).collect();
    assert_eq!(names, [V2, V1], "of the same second");
    assert!(versions.iter().all(|info| info.created_at.is_some()));
    assert_eq!(
        last(&fake).line,
        "GET /keys/k/versions?api-version=7.4&%24skiptoken=a%2Bb&maxresults=25",
        "the rest of the link counts as it was"
    );
}

#[tokio::test]
async fn a_link_that_leads_elsewhere_is_not_followed() {
    let elsewhere = Fake::raw(|_| unreachable!()).await;
    let there = elsewhere.at;
    let host = |request: &Request| request.header("host").unwrap().to_owned();
    let links: [Link; 6] = [
        Box::new(move |_| format!("http://{there}/keys/k/versions?$skiptoken=a")),
        Box::new(move |request| format!("https://{}/keys/k/versions?$skiptoken=a", host(request))),
        Box::new(move |request| format!("http://{}/keys/other/versions?$skiptoken=a", host(request))),
        Box::new(move |request| format!("http://{}/secrets?$skiptoken=a", host(request))),
        Box::new(move |request| format!("http://u:p@{}/keys/k/versions?$skiptoken=a", host(request))),
        Box::new(|_| "/keys/k/versions?$skiptoken=a".to_owned()),
    ];
    for link in links {
        let fake = linking(link).await;
        let error = listed(&fake).await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Integrity(_)), "{error}");
        assert_eq!(asked(&fake).len(), 2);
    }
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn pages_that_do_not_end_are_left_after_ten_thousand_versions() {
    let fake = fake(|request| {
        if line(request) == "GET /keys/k" {
            return ok(key_body("RSA", ""));
        }
        let host = request.header("host").unwrap();
        ok(format!(r#"{{"value":[],"nextLink":"http://{host}/keys/k/versions?$skiptoken=a"}}"#))
    })
    .await;
    let error = listed(&fake).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Integrity(_)), "{error}");
    assert_eq!(asked(&fake).len(), 1 + 400);
}

#[tokio::test]
async fn versions_of_another_key_are_no_versions_of_this_one() {
    let fake = fake(|request| {
        if line(request) == "GET /keys/k" {
            return ok(key_body("RSA", ""));
        }
        ok(format!(r#"{{"value":[{{"kid":"https://v/keys/other/{V1}"}}]}}"#))
    })
    .await;
    assert!(matches!(listed(&fake).await.unwrap_err().kind, ErrorKind::Integrity(_)));
}
