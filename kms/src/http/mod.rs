//! The one way out to the network: https with our own rules for every provider.
//!
//! Invariant: no redirect is followed, no proxy but that of the profile is used, every exchange ends in time, and no
//! more than the given number of bytes is read. An answer is data; whether it means anything is the provider's matter.

pub(crate) mod endpoint;
#[cfg(test)]
pub(crate) mod fake;
mod trust;
pub(crate) mod watched;

use std::error::Error as StdError;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, DATE, RETRY_AFTER};
use serde::Serialize;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::call::CallCtx;
use crate::config::{CaSource, ConfigError, ProviderConfig};
use crate::connect::Options;
use crate::error::{ErrorKind, Outage};
use trust::Trust;

/// Longer waits are not waited for anyway.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// Limits, trust and way of a client.
#[derive(Clone, Debug)]
pub(crate) struct HttpConfig {
    attempt_timeout: Duration,
    connect_timeout: Duration,
    ca: Option<CaSource>,
    proxy: Option<reqwest::Url>,
    https_only: bool,
}

impl HttpConfig {
    /// For a service whose endpoints are all `https_only`. They were checked already; this is the second lock on the same door.
    pub(crate) fn new(
        config: &ProviderConfig,
        options: &Options,
        https_only: bool,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            attempt_timeout: options.attempt_timeout,
            connect_timeout: options.connect_timeout,
            ca: config.ca.clone(),
            proxy: config.proxy.as_deref().map(endpoint::proxy).transpose()?,
            https_only,
        })
    }
}

/// An HTTP client that follows a changing CA bundle.
pub(crate) struct Http {
    trust: Trust,
    attempt_timeout: Duration,
}

/// A complete answer.
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Lower case, without parameters; `None` where absent.
    pub(crate) content_type: Option<String>,
    pub(crate) retry_after: Option<Duration>,
    /// The service's own time.
    pub(crate) date: Option<Timestamp>,
    pub(crate) body: Zeroizing<Vec<u8>>,
}

impl Reply {
    /// An answer that never came from anywhere, for tests of what is made of one.
    #[cfg(test)]
    pub(crate) fn of(status: u16, kind: &str, body: &str) -> Self {
        let (content_type, body) = (Some(kind.into()), Zeroizing::new(body.as_bytes().to_vec()));
        Self { status, content_type, retry_after: None, date: None, body }
    }

    /// The content type is JSON of any vendor.
    pub(crate) fn is_json(&self) -> bool {
        self.content_type.as_deref().is_some_and(|kind| {
            kind == "application/json" || kind.ends_with("+json") || kind == "application/x-amz-json-1.1"
        })
    }
}

impl Http {
    pub(crate) fn new(config: HttpConfig) -> Result<Self, ConfigError> {
        let attempt_timeout = config.attempt_timeout;
        Ok(Self { trust: Trust::new(config)?, attempt_timeout })
    }

    /// Sends what `build` makes and reads at most `limit` bytes of the answer.
    pub(crate) async fn send(
        &self,
        call: &CallCtx,
        limit: usize,
        build: impl FnOnce(&reqwest::Client) -> reqwest::RequestBuilder,
    ) -> Result<Reply, ErrorKind> {
        let timeout = call.remaining().map_or(self.attempt_timeout, |left| left.min(self.attempt_timeout));
        let until = Instant::now() + timeout;
        let exchange = async {
            let client = self.trust.client().await?;
            let response = build(&client).timeout(timeout).send().await.map_err(|error| outage(&error))?;
            read(response, limit).await
        };
        tokio::time::timeout_at(until, exchange)
            .await
            .unwrap_or(Err(ErrorKind::Unavailable { why: Outage::Timeout, retry_after: None }))
    }
}

/// A JSON body that is zeroized when the last reference is gone: it can hold a data key or a credential.
pub(crate) fn json_body(body: &impl Serialize) -> bytes::Bytes {
    // Allocated at once: growing would leave copies of a key behind.
    let mut text = Zeroizing::new(Vec::with_capacity(8 * 1024));
    serde_json::to_writer(&mut *text, body).expect("these bodies are plain text and lists");
    bytes::Bytes::from_owner(text)
}

async fn read(mut response: reqwest::Response, limit: usize) -> Result<Reply, ErrorKind> {
    let status = response.status().as_u16();
    let content_type = header(&response, CONTENT_TYPE.as_str())
        .map(|value| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    let retry_after = header(&response, RETRY_AFTER.as_str()).and_then(parse_retry_after);
    let date = header(&response, DATE.as_str()).and_then(parse_date);
    let too_large = ErrorKind::Integrity("it is too large");
    if response.content_length().is_some_and(|len| len > limit as u64) {
        return Err(too_large);
    }
    // Allocated at once: growing would leave copies of a key behind.
    let mut body = Zeroizing::new(Vec::with_capacity(limit));
    while let Some(chunk) = response.chunk().await.map_err(|error| outage(&error))? {
        if body.len() + chunk.len() > limit {
            return Err(too_large);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Reply { status, content_type, retry_after, date, body })
}

fn header<'a>(response: &'a reqwest::Response, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// RFC 9110 §10.2.3: seconds or a date.
fn parse_retry_after(value: &str) -> Option<Duration> {
    let wait = if let Ok(seconds) = value.trim().parse::<u64>() {
        Duration::from_secs(seconds)
    } else {
        Duration::try_from(parse_date(value)?.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO)
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// RFC 9110 §5.6.7.
fn parse_date(value: &str) -> Option<Timestamp> {
    Some(jiff::fmt::rfc2822::parse(value.trim()).ok()?.timestamp())
}

/// What kept a request from an answer. The text of the error is left out: it can hold the address with a query.
fn outage(error: &reqwest::Error) -> ErrorKind {
    let why = if is_tls(error) {
        Outage::TlsFailed
    } else if error.is_timeout() {
        Outage::Timeout
    } else {
        Outage::Unreachable
    };
    ErrorKind::Unavailable { why, retry_after: None }
}

fn is_tls(error: &(dyn StdError + 'static)) -> bool {
    if error.is::<rustls::Error>() {
        return true;
    }
    // An io::Error shows the source of what it wraps, not what it wraps.
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    if let Some(wrapped) = wrapped {
        let wrapped: &(dyn StdError + 'static) = wrapped;
        if is_tls(wrapped) {
            return true;
        }
    }
    error.source().is_some_and(is_tls)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn retry_after_is_read_as_seconds_or_as_a_date_and_bounded() {
        assert_eq!(parse_retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(parse_retry_after("99999999"), Some(MAX_RETRY_AFTER));
        assert_eq!(parse_retry_after("soon"), None);
        assert_eq!(parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(parse_retry_after("Fri, 06 Nov 2893 08:49:37 GMT"), Some(MAX_RETRY_AFTER));
    }

    #[test]
    fn a_tls_error_is_found_inside_an_io_error() {
        let tls = rustls::Error::General("x".into());
        assert!(is_tls(&std::io::Error::other(tls)));
        assert!(!is_tls(&std::io::Error::other("x")));
    }
}
