//! The audit trail: one record for each exchange with a KMS or its identity service, each suspension and resumption of a volume, and each
//! damage that was found.
//!
//! Invariant: no key, no credential, and no name or path of a user's file. Within a version of the schema fields are only added.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// The version of [`Record`] that this code writes.
pub const SCHEMA: &str = "cofferdam.io/audit/v1";

/// A word that is mostly a fixed one.
pub type Word = Cow<'static, str>;

/// One line of the trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: Word,
    /// When it ended, in UTC (RFC 3339, with milliseconds).
    pub time: String,
    /// Who did it.
    #[serde(flatten)]
    pub who: Who,
    /// What was done.
    #[serde(flatten)]
    pub event: Event,
}

/// The program that did something, and for whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Who {
    /// `sidecar`, `job`, `operator` or `cli`.
    pub program: Word,
    /// Its pod's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Its pod's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// `namespace/name` of the `KmsProfile`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Name of the `StorageBinding`, in the pod's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<String>,
    /// Name of the claim, in the pod's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
}

impl Who {
    /// A program, before anything else is known of it.
    pub fn program(name: &'static str) -> Self {
        let program = Word::Borrowed(name);
        Self { program, pod: None, namespace: None, profile: None, binding: None, claim: None }
    }
}

/// Something that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// An operation of a KMS (`unwrap`, `rotate`, …), `suspend`, `resume` or `damage`.
    pub operation: Word,
    /// `Ok`, or the reason in PascalCase.
    pub outcome: Word,
    /// What it was about.
    #[serde(flatten)]
    pub subject: Subject,
    /// What was asked of a KMS.
    #[serde(flatten)]
    pub exchange: Option<Exchange>,
}

impl Event {
    /// Something that is no exchange with a KMS.
    pub fn new(operation: &'static str, outcome: impl Into<Word>, subject: Subject) -> Self {
        Self { operation: Word::Borrowed(operation), outcome: outcome.into(), subject, exchange: None }
    }
}

/// What a thing that was done is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// Id of the volume that the object comes from, in hex; of a restored file that is the volume where it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// `file ID`, `group ID` or `marker`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Number of the file's inode on the storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
    /// The block of the file that is damaged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<u64>,
}

/// An exchange with a KMS or its identity service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exchange {
    /// The provider, as a profile names it.
    pub provider: Word,
    /// Id or name of the root key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_key: Option<String>,
    /// The version that was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_version: Option<String>,
    /// The version that the key is wrapped with afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrapped_version: Option<String>,
    /// Status of the answer, where there was one and it was no success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// The vendor's own word for a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// How long it took, in milliseconds.
    pub latency_ms: u64,
    /// What was sent along, so that the KMS's own log can be joined.
    pub correlation_id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_without_an_exchange_has_none_of_its_fields() {
        let subject = Subject { volume: Some("ab".into()), ..Subject::default() };
        let event = Event::new("suspend", "KeyDisabled", subject);
        let who = Who { pod: Some("web-0".into()), ..Who::program("sidecar") };
        let record = Record { schema: SCHEMA.into(), time: "2026-01-01T00:00:00.000Z".into(), who, event };
        assert_eq!(record.clone().event.exchange, None);
        assert_eq!((&*record.who.program, &*record.event.outcome), ("sidecar", "KeyDisabled"));
    }
}
