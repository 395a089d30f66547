//! A sidecar that hangs without dying is not held as serving.

use std::time::{Duration, Instant};

use contract::control::{Refusal, Reply};
use node::decision::Deadlines;
use rustix::process::Signal;
use serde_json::json;

use crate::deadlines::scene;
use crate::leases::refusal;
use crate::support::api::running;
use crate::support::driver::PATIENT;
use crate::support::{isolated, look_at, outcome, wait_for};

const SOON: Duration = Duration::from_secs(12);
const UNSERVED: Duration = Duration::from_secs(4);
const SHORT_UNSERVED: Deadlines = Deadlines { unserved: UNSERVED, ..PATIENT };
const SHORT_OVER: Deadlines = Deadlines { over: Duration::from_secs(3), ..PATIENT };

#[test]
fn a_sidecar_that_is_stopped_sends_no_beats_and_its_connection_is_aborted_and_it_is_ended() {
    isolated(|| {
        let (scene, driver) = scene(SHORT_UNSERVED);
        let mut sidecar = scene.start_sidecar();
        sidecar.promise();
        sidecar.beat();
        std::thread::sleep(UNSERVED + Duration::from_secs(2));
        assert!(scene.answers(), "as long as it beats");
        sidecar.signal(Signal::STOP);
        let stopped = Instant::now();
        let waiter = look_at(&scene.mount);
        assert!(!outcome(waiter, SOON).0);
        assert!(stopped.elapsed() > UNSERVED / 2, "not before its deadline: {:?}", stopped.elapsed());
        wait_for("an event", SOON, || scene.api.reasons() == ["EncryptedVolumeServerHung"]);
        let metrics = driver.metrics.text();
        assert!(metrics.contains("cofferdam_fuse_aborts_total{cause=\"ServerHung\"} 1"), "{metrics}");
        // Whatever stopped it, SIGKILL ends it; its successor says that the session is lost.
        wait_for("the end of the sidecar", SOON, || sidecar.has_ended());
        assert_eq!(refusal(&scene.start_sidecar().attach()), Refusal::SessionLost);
        assert_eq!(scene.api.reasons(), ["EncryptedVolumeServerHung"], "it ended once");
    });
}

#[test]
fn a_sidecar_that_lives_and_never_beats_as_it_promised_is_taken_for_hung() {
    isolated(|| {
        let (scene, _driver) = scene(SHORT_UNSERVED);
        let mut sidecar = scene.start_sidecar();
        sidecar.promise_and_hang();
        assert!(!outcome(look_at(&scene.mount), SOON).0);
        wait_for("an event", SOON, || scene.api.reasons() == ["EncryptedVolumeServerHung"]);
    });
}

#[test]
fn a_slow_request_of_a_sidecar_that_beats_is_left_alone() {
    isolated(|| {
        let (scene, _driver) = scene(SHORT_UNSERVED);
        let mut sidecar = scene.start_sidecar();
        sidecar.promise_and_hang();
        sidecar.beat();
        let mut waiter = look_at(&scene.mount);
        std::thread::sleep(UNSERVED * 2);
        assert!(waiter.try_wait().unwrap().is_none());
        assert!(scene.api.reasons().is_empty());
        sidecar.kill();
        assert!(!outcome(waiter, SOON).0);
    });
}

#[test]
fn an_older_sidecar_that_knows_no_beats_is_held_as_serving() {
    isolated(|| {
        let (scene, driver) = scene(SHORT_UNSERVED);
        let mut sidecar = scene.start_sidecar();
        sidecar.serve();
        std::thread::sleep(UNSERVED * 2);
        assert!(scene.answers());
        assert!(scene.api.reasons().is_empty());
        assert!(!driver.metrics.text().contains("cofferdam_fuse_aborts_total{"));
    });
}

#[test]
fn a_driver_that_was_away_for_longer_than_the_deadline_misses_no_beats() {
    isolated(|| {
        let (scene, driver) = scene(SHORT_UNSERVED);
        let mut sidecar = scene.start_sidecar();
        let connection = sidecar.promise();
        sidecar.beat();
        driver.kill();
        std::thread::sleep(UNSERVED + Duration::from_secs(2));
        let _driver = scene.kubelet.start(&scene.api, SHORT_UNSERVED);
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(sidecar.order("connect"), "connected");
        assert_eq!(sidecar.resume(connection), Reply::Done);
        assert!(matches!(sidecar.promise_again(), Reply::Counting { .. }));
        sidecar.beat();
        std::thread::sleep(UNSERVED * 2);
        assert!(scene.answers());
        assert!(scene.api.reasons().is_empty());
        // And the promise that was made anew counts.
        sidecar.signal(Signal::STOP);
        assert!(!outcome(look_at(&scene.mount), SOON).0);
    });
}

#[test]
fn a_sidecar_that_hangs_while_its_pod_is_being_deleted_is_aborted_by_the_short_deadline() {
    isolated(|| {
        let (scene, _driver) = scene(SHORT_OVER);
        let mut sidecar = scene.start_sidecar();
        sidecar.promise();
        sidecar.beat();
        let mut pod = running(&scene.uid, &scene.sidecar.id, &scene.app.id);
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        scene.api.set(pod);
        std::thread::sleep(Duration::from_secs(6));
        assert!(scene.answers(), "a pod that ends in good order goes on");
        sidecar.signal(Signal::STOP);
        assert!(!outcome(look_at(&scene.mount), SOON).0);
        wait_for("an event", SOON, || scene.api.reasons() == ["EncryptedVolumeReleased"]);
    });
}
