//! Collects what is logged, for tests that look for what must be in it and for what must not.
//!
//! Invariant: what other threads log, and whether they were first to do so, makes no difference.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::io::Write;
use std::sync::{Arc, Mutex, Once};

use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

/// Everything that is logged, as JSON lines.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

thread_local! {
    /// Who takes what this thread logs.
    static TAKES: RefCell<Option<Log>> = const { RefCell::new(None) };
}

/// Ends the collecting of a thread.
pub(crate) struct Collecting(());

impl Drop for Collecting {
    fn drop(&mut self) {
        TAKES.with(|takes| *takes.borrow_mut() = None);
    }
}

/// Writes to whoever takes what this thread logs.
struct Route;

impl<'a> MakeWriter<'a> for Route {
    type Writer = Log;
    fn make_writer(&'a self) -> Log {
        TAKES.with(|takes| takes.borrow().clone()).unwrap_or_default()
    }
}

/// One subscriber for the whole process. With one for each thread, a thread that has none and meets an event's callsite first
/// makes "nobody listens" be remembered for all threads: while there is a single subscriber, tracing asks only the one of the
/// thread that meets the callsite.
fn route() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let taken = dynamic_filter_fn(|_, _| TAKES.with(|takes| takes.borrow().is_some()));
        let lines = tracing_subscriber::fmt::layer().json().with_writer(Route);
        let all = tracing_subscriber::registry().with(taken).with(lines);
        tracing::subscriber::set_global_default(all).unwrap();
    });
    // Callsites that were met before remember that nobody listened.
    tracing::callsite::rebuild_interest_cache();
}

impl Log {
    /// Collects what this thread logs until the guard is dropped.
    pub(crate) fn collect(&self) -> Collecting {
        route();
        TAKES.with(|takes| *takes.borrow_mut() = Some(self.clone()));
        Collecting(())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    pub(crate) fn audit_events(&self) -> Vec<serde_json::Value> {
        let text = self.text();
        let events = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        events.filter(|event| event["target"] == crate::observe::AUDIT_TARGET).collect()
    }
}

#[test]
fn an_event_that_another_thread_met_first_is_collected() {
    fn event() {
        tracing::info!(target: crate::observe::AUDIT_TARGET, "met");
    }
    let log = Log::default();
    let _guard = log.collect();
    std::thread::spawn(event).join().unwrap();
    assert!(log.audit_events().is_empty(), "that thread collects nothing");
    event();
    assert_eq!(log.audit_events().len(), 1);
}
