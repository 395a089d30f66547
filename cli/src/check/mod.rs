//! `kms check`: a doctor for a profile.
//!
//! `plan` says what is checked, `ask` finds it out, `judge` and `nodes` say what it means, `report` is what is printed. Invariant: a line
//! is `ok` only where that was shown; an outage is `unknown`, and never a denial.

mod ask;
mod judge;
mod nodes;
mod plan;
mod report;

use kms::{Options, RetryPolicy};
use std::time::Duration;

use report::Report;

use crate::args::{CheckArgs, CommonArgs, Output};
use crate::failure::Failure;
use crate::source::Source;
use crate::subject::Role;
use crate::table;

/// How the KMS is asked: by itself, not out of a cache; twice where it does not answer.
pub fn options() -> Options {
    Options {
        cache_ttl: Duration::ZERO,
        default_deadline: Duration::from_secs(10),
        retry: RetryPolicy { attempts: 2, ..RetryPolicy::default() },
        ..Options::default()
    }
}

/// Runs the command; what is printed, and the exit code.
pub async fn run(args: &CheckArgs, common: &CommonArgs) -> Result<(String, i32), Failure> {
    let mut source = Source::new(common, &args.source)?;
    let subject = source.subject(args.profile.as_deref(), &Role::ALL).await?;
    let mut lines = ask::check(&subject, &options()).await;
    // A manifest names no cluster whose nodes could be looked at.
    if args.source.file.is_none() {
        let nodes = match source.cluster().await {
            Ok(cluster) => cluster.nodes().await,
            Err(gap) => Err(gap),
        };
        lines.push(nodes::swap(nodes));
    }
    let report = Report::new(&subject, lines);
    let text = match args.output {
        Output::Text => report.text(table::colours()),
        Output::Json => report.json(),
    };
    Ok((text, report.exit_code()))
}
