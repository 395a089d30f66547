//! The driver ends and another begins.

use std::time::Duration;

use contract::control::{Refusal, Reply};

use crate::leases::{Scene, refusal};
use crate::support::driver::{PATIENT, ctl, plain};
use crate::support::{isolated, outcome, wait_for};

const SOON: Duration = Duration::from_secs(5);

#[test]
fn a_served_volume_goes_on_and_its_sidecar_resumes_the_lease() {
    isolated(|| {
        let (scene, driver) = Scene::new();
        let mut sidecar = scene.start_sidecar();
        let connection = sidecar.serve();
        driver.kill();
        assert!(scene.answers(), "the sidecar serves with its own descriptor");
        assert!(sidecar.order("connect").contains("not connected"));
        let driver = scene.kubelet.start(&scene.api, PATIENT);
        assert!(scene.answers());
        assert_eq!(sidecar.order("connect"), "connected");
        assert_eq!(refusal(&sidecar.resume(connection + 1)), Refusal::SessionLost);
        assert_eq!(sidecar.resume(connection), Reply::Done);
        assert!(scene.answers());
        // Kubelet restarted too: it publishes again, and nothing changes.
        driver.publish(plain(&scene.uid, &scene.mount)).unwrap();
        driver.publish(ctl(&scene.uid, &scene.ctl)).unwrap();
        assert!(scene.answers());
        // The lease is as good as the first one.
        sidecar.kill();
        wait_for("the end of the session", SOON, || scene.api.reasons() == ["EncryptedVolumeServerLost"]);
        assert!(!scene.answers());
        driver.unpublish(&scene.mount).unwrap();
        assert!(!scene.mount.exists());
    });
}

#[test]
fn a_server_that_dies_while_the_driver_is_away_leaves_nobody_waiting() {
    isolated(|| {
        let (scene, driver) = Scene::new();
        let mut sidecar = scene.start_sidecar();
        let waiter = scene.hang(&mut sidecar);
        driver.kill();
        sidecar.kill();
        assert!(!outcome(waiter, SOON).0);
        let _driver = scene.kubelet.start(&scene.api, PATIENT);
        assert_eq!(refusal(&scene.start_sidecar().attach()), Refusal::SessionLost);
        assert!(!scene.answers());
    });
}

#[test]
fn a_volume_that_nobody_served_yet_is_mounted_anew_and_its_pod_can_start() {
    isolated(|| {
        let (scene, driver) = Scene::new();
        let mut early = scene.start_sidecar();
        let connection = early.attached();
        driver.kill();
        let driver = scene.kubelet.start(&scene.api, PATIENT);
        assert_eq!(early.order("connect"), "connected");
        assert_eq!(refusal(&early.resume(connection)), Refusal::AttachAgain);
        early.serve();
        assert!(scene.answers());
        // And a third driver knows that it was served.
        driver.kill();
        let _driver = scene.kubelet.start(&scene.api, PATIENT);
        assert!(scene.answers());
    });
}

#[test]
fn what_was_aborted_stays_so() {
    isolated(|| {
        let (scene, driver) = Scene::new();
        let mut sidecar = scene.start_sidecar();
        let connection = sidecar.serve();
        assert_eq!(sidecar.detach(), Reply::Done);
        driver.kill();
        let driver = scene.kubelet.start(&scene.api, PATIENT);
        assert_eq!(sidecar.order("connect"), "connected");
        assert_eq!(refusal(&sidecar.resume(connection)), Refusal::SessionLost);
        driver.publish(plain(&scene.uid, &scene.mount)).unwrap();
        assert!(!scene.answers());
        driver.unpublish(&scene.mount).unwrap();
    });
}

#[test]
fn after_a_restart_of_the_node_records_without_mounts_are_dropped_and_the_pod_starts_anew() {
    isolated(|| {
        let (scene, driver) = Scene::new();
        let mut before = scene.start_sidecar();
        before.serve();
        driver.kill();
        before.kill();
        for target in [&scene.mount, &scene.ctl] {
            assert!(std::process::Command::new("umount").arg("-l").arg(target).status().unwrap().success());
        }
        let driver = scene.kubelet.start(&scene.api, PATIENT);
        assert_eq!(std::fs::read_dir(scene.kubelet.driver_dir().join("state")).unwrap().count(), 0);
        driver.publish(plain(&scene.uid, &scene.mount)).unwrap();
        driver.publish(ctl(&scene.uid, &scene.ctl)).unwrap();
        let mut sidecar = scene.start_sidecar();
        sidecar.serve();
        assert!(scene.answers());
    });
}
