//! One operation whose storage fails: each of its operations on the storage in turn fails, or stores less than it was given.
//!
//! Invariant: the application gets the storage's errno, once, or a whole success; nothing that was there is harmed, neither
//! for those who have the volume open nor for who opens it next; the same operation succeeds when it is tried again.

use rustix::io::Errno;
use sidecar::fs::FsError;

use crate::disk::{Fault, Injection};
use crate::explore::{Explorer, Violation};
use crate::oracle::{Expect, Model, check, check_served, written};
use crate::table::Counts;
use crate::work::{App, Op, text};

/// What an operation on the storage does instead of succeeding.
const FAULTS: [Fault; 7] = [
    Fault::Error(Errno::IO),
    Fault::Error(Errno::NOSPC),
    Fault::Short(0),
    Fault::Short(4096),
    Fault::Short(5000),
    Fault::Full(1000),
    Fault::Full(5000),
];

/// What may be found around the operation that fails.
struct Around {
    model: Model,
    before: Expect,
    after: Expect,
}

impl Explorer {
    /// Runs a workload whose last operation meets each fault at each of its operations on the storage.
    pub fn fail_each(&self, ops: &[Op], counts: &mut Counts) -> Result<(), Violation> {
        for fault in FAULTS {
            for after in 0.. {
                let wrong = |why| self.violation(ops, after, 0, format!("{fault:?}: {why}"));
                if !self.fail(ops, Injection { after, fault }).map_err(wrong)? {
                    break;
                }
                counts.operations += 1;
                counts.states += 1;
                counts.distinct += 1;
            }
        }
        Ok(())
    }

    /// Whether there was an operation on the storage that could fail.
    fn fail(&self, ops: &[Op], injection: Injection) -> Result<bool, String> {
        let (last, before) = ops.split_last().ok_or("no operation")?;
        let around = around(ops)?;
        let (number, mut app) = self.begin()?;
        for (at, op) in before.iter().enumerate() {
            app.run(*op, &written(*op, at)).map_err(|error| format!("{op}: {error:?}"))?;
        }
        self.bench.mount.inject(number, Some(injection));
        let result = app.run(*last, &written(*last, before.len()));
        let met = self.bench.mount.inject(number, None).is_none();
        if met {
            around.check(&mut app, ops, injection.fault, result)?;
        }
        drop(app);
        let image = self.bench.mount.remove(number).image;
        if met {
            let full = matches!(injection.fault, Fault::Full(_));
            let expect = if full { around.either() } else { around.after.clone() };
            self.look(&image, |dir| check(&self.volume, dir, &around.model, &expect))
                .map_err(|why| format!("opened anew: {why}"))?;
        }
        Ok(met)
    }
}

impl Around {
    fn check(
        &self,
        app: &mut App,
        ops: &[Op],
        fault: Fault,
        result: Result<(), FsError>,
    ) -> Result<(), String> {
        let (op, at) = (ops[ops.len() - 1], ops.len() - 1);
        if let Err(error) = result {
            check_errno(op, fault, error.errno())?;
            let whole = changes_all_or_nothing(op) && !matches!(fault, Fault::Full(_));
            let expect = if whole { self.before.clone() } else { self.either() };
            check_served(app, &self.model, &expect).map_err(|why| format!("after {error:?}: {why}"))?;
            if matches!(op, Op::Append(..)) && !whole {
                // What was appended before the disk was full stays.
                return Ok(());
            }
            app.run(op, &written(op, at)).map_err(|error| format!("tried again: {error:?}"))?;
        }
        check_served(app, &self.model, &self.after).map_err(|why| format!("done at last: {why}"))
    }

    fn either(&self) -> Expect {
        let mut either = self.after.clone();
        let windows = either.contents.iter_mut().zip(&self.before.contents);
        let windows = windows.chain(either.xattrs.iter_mut().zip(&self.before.xattrs));
        windows.for_each(|(window, before)| window.first = before.first);
        either.names.first = self.before.names.first;
        either
    }
}

fn around(ops: &[Op]) -> Result<Around, String> {
    let (last, before) = ops.split_last().ok_or("no operation")?;
    let mut model = Model::start();
    let infeasible = |op: &Op| format!("{op} is not feasible in {}", text(ops));
    for (at, op) in before.iter().enumerate() {
        model.apply(*op, at).then_some(()).ok_or_else(|| infeasible(op))?;
    }
    let before_last = model.newest();
    model.apply(*last, before.len()).then_some(()).ok_or_else(|| infeasible(last))?;
    let after = model.newest();
    Ok(Around { model, before: before_last, after })
}

/// A name, an attribute and a write of which nothing was acknowledged are as they were.
fn changes_all_or_nothing(op: Op) -> bool {
    !matches!(op, Op::Size(..) | Op::Allocate(..) | Op::Punch(..) | Op::Zero(..))
}

fn check_errno(op: Op, fault: Fault, errno: i32) -> Result<(), String> {
    let wanted = match fault {
        // A sweep counts what it cannot rewrap, and no application hears of it.
        _ if matches!(op, Op::Sweep(_)) => return Ok(()),
        Fault::Error(error) => error,
        Fault::Full(_) => Errno::NOSPC,
        Fault::Short(0) => Errno::IO,
        Fault::Short(_) => return Err(format!("errno {errno}, though a part was stored")),
    };
    if errno == wanted.raw_os_error() { Ok(()) } else { Err(format!("errno {errno} instead of {wanted:?}")) }
}
