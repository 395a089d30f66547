//! Tells a person what a long step does and for how long. Invariant: each step that begins is seen to end.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

/// How often a step that goes on says so.
const REMINDER: Duration = Duration::from_secs(15);

/// Runs `work` as a step called `what`: says when it begins, every 15 s that it goes on, and how long it took.
pub fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    eprintln!("• {what} …");
    let result = reminding(what, started, work);
    let took = started.elapsed().as_secs_f32();
    match &result {
        Ok(_) => eprintln!("  {what}: done in {took:.1} s"),
        Err(_) => eprintln!("  {what}: FAILED after {took:.1} s"),
    }
    result
}

/// Says one line that belongs to the step in progress.
pub fn note(text: &str) {
    eprintln!("  {text}");
}

fn reminding<T>(what: &str, started: Instant, work: impl FnOnce() -> T) -> T {
    let (finished, wait) = channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            while wait.recv_timeout(REMINDER) == Err(RecvTimeoutError::Timeout) {
                eprintln!("  {what}: {} s so far", started.elapsed().as_secs());
            }
        });
        let result = work();
        drop(finished);
        result
    })
}

/// Asks `ready` every `pause` until it says yes. Its last reason is the error once `limit` has passed.
pub fn until(
    what: &str,
    limit: Duration,
    pause: Duration,
    mut ready: impl FnMut() -> Result<()>,
) -> Result<()> {
    let started = Instant::now();
    loop {
        match ready() {
            Ok(()) => return Ok(()),
            Err(reason) if started.elapsed() >= limit => {
                return Err(reason.context(format!("waited {} s for {what}", limit.as_secs())));
            }
            Err(_) => thread::sleep(pause),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn waiting_ends_with_the_last_reason() {
        let limit = Duration::from_millis(20);
        let result = until("rain", limit, Duration::from_millis(5), || anyhow::bail!("the sky is clear"));
        let text = format!("{:#}", result.unwrap_err());
        assert!(text.contains("rain") && text.contains("the sky is clear"), "{text}");
    }

    #[test]
    fn waiting_ends_at_the_first_yes() {
        let mut asked = 0;
        until("a third try", Duration::from_secs(5), Duration::ZERO, || {
            asked += 1;
            anyhow::ensure!(asked == 3, "asked {asked} times");
            Ok(())
        })
        .unwrap();
        assert_eq!(asked, 3);
    }
}
