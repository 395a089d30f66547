//! The audit trail of a program: what it does with keys, one line of JSON each, stamped with who it is.
//!
//! Invariant: each record is one line, written at once; a line that cannot be written is counted and said, and ends nothing.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use contract::audit::{Event, Record, SCHEMA, Who};
use jiff::{Timestamp, fmt::temporal::DateTimePrinter};
use kms::observe::Auditor;

/// Milliseconds are what joins with the logs of others take.
const TIMES: DateTimePrinter = DateTimePrinter::new().precision(Some(3));

/// The trail of a program.
pub struct Trail {
    who: Who,
    out: Mutex<Box<dyn Write + Send>>,
    lost: AtomicU64,
}

impl Trail {
    /// Lines on standard output, where a container's log is collected.
    pub fn stdout(who: Who) -> Arc<Self> {
        Self::to(who, Box::new(std::io::stdout()))
    }

    /// Lines that go to `out`.
    pub fn to(who: Who, out: Box<dyn Write + Send>) -> Arc<Self> {
        Arc::new(Self { who, out: Mutex::new(out), lost: AtomicU64::new(0) })
    }

    /// The program.
    pub fn who(&self) -> &Who {
        &self.who
    }

    /// The same trail for what is done for `who`, which is the program with more that is known.
    pub fn scoped(self: &Arc<Self>, who: Who) -> Arc<dyn Auditor> {
        Arc::new(Scoped { trail: Arc::clone(self), who })
    }

    /// Records that could not be written.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn write(&self, who: Who, event: Event) {
        let time = TIMES.timestamp_to_string(&Timestamp::now());
        let record = Record { schema: SCHEMA.into(), time, who, event };
        let mut line = serde_json::to_vec(&record).expect("text and numbers");
        line.push(b'\n');
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = out.write_all(&line).and_then(|()| out.flush()) {
            let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::error!(%error, lost, "an audit record could not be written");
        }
    }
}

impl Auditor for Trail {
    fn record(&self, event: Event) {
        self.write(self.who.clone(), event);
    }
}

/// A trail with more that is known of who acts.
struct Scoped {
    trail: Arc<Trail>,
    who: Who,
}

impl Auditor for Scoped {
    fn record(&self, event: Event) {
        self.trail.write(self.who.clone(), event);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use contract::audit::{Exchange, Subject};

    use super::*;

    /// A place for lines that can be looked at.
    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn unwrapped() -> Event {
        let subject =
            Subject { volume: Some("0102".into()), object: Some("group 0304".into()), ..Subject::default() };
        let exchange = Exchange {
            provider: "keyProtect".into(),
            root_key: Some("root".into()),
            key_version: Some("v1".into()),
            rewrapped_version: None,
            http_status: None,
            code: None,
            latency_ms: 12,
            correlation_id: "id".into(),
        };
        Event { exchange: Some(exchange), ..Event::new("unwrap", "Ok", subject) }
    }

    #[test]
    fn a_record_is_one_line_that_says_who_did_what_and_when() {
        let page = Page::default();
        let trail = Trail::to(Who::program("sidecar"), Box::new(page.clone()));
        let who = Who { pod: Some("web-0".into()), binding: Some("app".into()), ..trail.who().clone() };
        trail.scoped(who).record(unwrapped());
        trail.record(Event::new("suspend", "KeyDisabled", Subject::default()));
        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let time = lines[0]["time"].as_str().unwrap().to_owned();
        assert!(time.parse::<Timestamp>().is_ok() && time.len() == 24 && time.ends_with('Z'), "{time}");
        let expected = serde_json::json!({
            "schema": "cofferdam.io/audit/v1", "time": time, "program": "sidecar", "pod": "web-0", "binding": "app",
            "operation": "unwrap", "outcome": "Ok", "volume": "0102", "object": "group 0304", "provider": "keyProtect",
            "rootKey": "root", "keyVersion": "v1", "latencyMs": 12, "correlationId": "id",
        });
        assert_eq!(lines[0], expected);
        assert_eq!(lines[1]["operation"], "suspend");
        assert!(lines[1].get("provider").is_none() && lines[1].get("pod").is_none(), "{}", lines[1]);
        let back: Vec<Record> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(back[0].event, unwrapped());
        assert_eq!(back[1].event.exchange, None);
    }

    /// Every field that a record can have.
    fn fields() -> Vec<String> {
        let all = || Some("x".to_owned());
        let subject = Subject { volume: all(), object: all(), inode: Some(1), block: Some(1) };
        let exchange = Exchange {
            root_key: all(),
            key_version: all(),
            rewrapped_version: all(),
            http_status: Some(1),
            code: all(),
            ..unwrapped().exchange.unwrap()
        };
        let who = Who {
            program: "cli".into(),
            pod: all(),
            namespace: all(),
            profile: all(),
            binding: all(),
            claim: all(),
        };
        let event = Event { exchange: Some(exchange), ..Event::new("unwrap", "Ok", subject) };
        let record = Record { schema: SCHEMA.into(), time: String::new(), who, event };
        let serde_json::Value::Object(map) = serde_json::to_value(record).unwrap() else { unreachable!() };
        map.keys().cloned().collect()
    }

    #[test]
    fn the_page_of_the_trail_explains_every_field_and_shows_a_record() {
        let page = include_str!("../../docs/audit.md");
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
        for field in fields() {
            let named = format!("`{field}`");
            let explained = rows.iter().any(|row| row.split('|').nth(1).unwrap().contains(&named));
            assert!(explained, "docs/audit.md does not explain {field}");
        }
        let example = page.lines().find(|line| line.starts_with('{')).unwrap();
        let record: Record = serde_json::from_str(example).unwrap();
        assert_eq!(serde_json::to_string(&record).unwrap(), example, "the example has other fields");
    }

    #[test]
    fn a_line_that_cannot_be_written_ends_nothing_and_is_counted() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let trail = Trail::to(Who::program("job"), Box::new(Closed));
        trail.record(unwrapped());
        trail.record(unwrapped());
        assert_eq!(trail.lost(), 2);
    }
}
