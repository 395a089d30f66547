//! `rewrap`: the sweep, once, in the foreground.
//!
//! Invariant: exit code 0 means that every file of the volume is at the current version, and durable.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use contract::check_in::SweepReport;
use contract::exit;
use kms::CallCtx;
use tokio::runtime::Handle;

use super::progress::Line;
use super::{OfflineError, finish, request, root_key};
use crate::cli::{Output, RewrapArgs, offline_runtime};
use crate::sweep::{Pace, Progress, Sweep, SweepError};
use crate::volume::{self, Guard, Purpose};

/// Runs the command; the exit code.
pub fn rewrap(args: &RewrapArgs) -> i32 {
    let runtime = match offline_runtime().map_err(OfflineError::Start) {
        Ok(runtime) => runtime,
        Err(error) => return finish(Err(error)),
    };
    finish(runtime.block_on(run(args)))
}

async fn run(args: &RewrapArgs) -> Result<i32, OfflineError> {
    let root_key = root_key(&args.profile)?;
    let open = volume::open_without_key(&request(&args.backing, Purpose::Write, &args.storage_entry)).await?;
    let cancelled = Arc::new(AtomicBool::new(false));
    let guard = Guard::new(&open.lease, Arc::clone(&cancelled));
    let info =
        root_key.describe(&CallCtx::new()).await.map_err(|error| OfflineError::Describe(error.into()))?;
    let target = info.current.map_or_else(|| "current".to_owned(), |version| version.0);
    let progress = Progress::default();
    let pace = Pace::new(args.files_per_second, Box::new(|| false));
    let mut sweep = Sweep::alone(&open, root_key, Handle::current(), &target, pace, progress.clone())?;
    sweep.storage_entries.clone_from(&args.storage_entry);
    sweep.cancelled = Arc::clone(&cancelled);
    let mut running = tokio::task::spawn_blocking(move || sweep.run());
    let swept = loop {
        tokio::select! {
            swept = &mut running => break swept.unwrap_or(Err(SweepError::Cancelled)),
            () = watch(&progress, &cancelled) => {}
        }
    };
    if let Some(lost) = guard.end() {
        return Err(lost.into());
    }
    swept?;
    open.lease.release();
    let report = progress.report().unwrap_or_else(|| SweepReport::begun(&target));
    print(&report, args.output);
    Ok(if report.complete && report.unknown == 0 { exit::OK } else { exit::INCOMPLETE })
}

/// Shows how far it is, until SIGINT wants it to end.
async fn watch(progress: &Progress, cancelled: &AtomicBool) {
    let mut line = Line::new();
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        tokio::select! {
            _ = &mut interrupted => {
                cancelled.store(true, Ordering::Relaxed);
                return;
            }
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
        }
        line.show(|| {
            let rewrapped = progress.report().map_or(0, |report| report.rewrapped);
            let waiting =
                progress.trouble().map_or_else(String::new, |why| format!(", waiting: {}", why.reason));
            format!("{} files seen, {rewrapped} rewrapped{waiting}", progress.visited())
        });
    }
}

fn print(report: &SweepReport, output: Output) {
    if output == Output::Json {
        println!("{}", serde_json::to_string_pretty(report).expect("a report is plain data"));
        return;
    }
    let mut text = format!("target version: {}\nrewrapped: {}\n", report.target_version, report.rewrapped);
    for (version, files) in &report.files_per_version {
        let _ = writeln!(text, "files at {version}: {files}");
    }
    let _ = write!(text, "unknown: {}\ncomplete: {}", report.unknown, report.complete);
    println!("{text}");
}
