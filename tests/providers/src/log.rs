//! Collects what a test's thread logs, at its loudest.
//!
//! Invariant: one subscriber for the process, so that which thread logs first makes no difference.

use std::cell::RefCell;
use std::io::Write;
use std::sync::{Arc, Mutex, Once};

use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

thread_local! {
    static TAKES: RefCell<Option<Log>> = const { RefCell::new(None) };
}

/// Everything that is logged, as JSON lines.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

/// Ends the collecting when it is dropped.
pub(crate) struct Collecting(());

impl Drop for Collecting {
    fn drop(&mut self) {
        TAKES.with(|takes| *takes.borrow_mut() = None);
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Route;

impl<'a> MakeWriter<'a> for Route {
    type Writer = Log;
    fn make_writer(&'a self) -> Log {
        TAKES.with(|takes| takes.borrow().clone()).unwrap_or_default()
    }
}

impl Log {
    /// Collects what this thread logs until the guard is dropped.
    pub(crate) fn collect(&self) -> Collecting {
        static INSTALLED: Once = Once::new();
        INSTALLED.call_once(|| {
            let taken = dynamic_filter_fn(|_, _| TAKES.with(|takes| takes.borrow().is_some()));
            let lines = tracing_subscriber::fmt::layer().json().with_writer(Route);
            let all = tracing_subscriber::registry().with(taken).with(lines);
            tracing::subscriber::set_global_default(all).unwrap();
        });
        tracing::callsite::rebuild_interest_cache();
        TAKES.with(|takes| *takes.borrow_mut() = Some(self.clone()));
        Collecting(())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}
