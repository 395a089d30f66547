//! Nobody waits for ever on a connection that nobody serves.

use std::time::Duration;

use node::decision::Deadlines;
use serde_json::json;

use crate::leases::Scene;
use crate::support::api::running;
use crate::support::driver::PATIENT;
use crate::support::{isolated, look_at, outcome, wait_for};

const SOON: Duration = Duration::from_secs(8);
const SHORT_UNSERVED: Deadlines = Deadlines { unserved: Duration::from_secs(1), ..PATIENT };
const SHORT_OVER: Deadlines = Deadlines { over: Duration::from_secs(1), ..PATIENT };

/// A scene whose driver is replaced by one with other deadlines.
pub fn scene(deadlines: Deadlines) -> (Scene, crate::support::driver::Running) {
    let (scene, driver) = Scene::new();
    driver.kill();
    let driver = scene.kubelet.start(&scene.api, deadlines);
    (scene, driver)
}

#[test]
fn a_process_that_looks_too_early_is_freed_and_the_pod_still_starts() {
    isolated(|| {
        let (scene, _driver) = scene(SHORT_UNSERVED);
        assert!(!outcome(look_at(&scene.mount), SOON).0);
        let mut sidecar = scene.start_sidecar();
        sidecar.serve();
        assert!(scene.answers());
    });
}

#[test]
fn a_pod_that_waits_for_its_image_is_left_alone() {
    isolated(|| {
        let (scene, driver) = scene(SHORT_UNSERVED);
        let kernel = node::kernel::Kernel::new("/sys/fs/fuse/connections".into()).unwrap();
        let before = kernel.mounted(&scene.mount).unwrap();
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(kernel.mounted(&scene.mount).unwrap(), before);
        assert!(driver.metrics.text().contains("cofferdam_fuse_connections{phase=\"Unseen\"} 1"));
        assert!(!driver.metrics.text().contains("cofferdam_fuse_aborts_total"));
        scene.start_sidecar().serve();
    });
}

#[test]
fn an_unserved_volume_of_a_pod_that_is_being_deleted_or_gone_is_released() {
    isolated(|| {
        for gone in [true, false] {
            let (scene, _driver) = scene(SHORT_OVER);
            let waiter = look_at(&scene.mount);
            if gone {
                scene.api.delete(&scene.uid);
            } else {
                let mut pod = running(&scene.uid, &scene.sidecar.id, &scene.app.id);
                pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
                scene.api.set(pod);
            }
            assert!(!outcome(waiter, SOON).0);
            wait_for("an event", SOON, || scene.api.reasons() == ["EncryptedVolumeReleased"]);
        }
    });
}

#[test]
fn a_server_that_hangs_does_not_hold_up_the_end_of_a_deleted_pod() {
    isolated(|| {
        let (scene, _driver) = scene(SHORT_OVER);
        let mut sidecar = scene.start_sidecar();
        let waiter = scene.hang(&mut sidecar);
        scene.api.delete(&scene.uid);
        assert!(!outcome(waiter, SOON).0);
    });
}

#[test]
fn a_pods_end_that_the_api_cannot_confirm_ends_nothing() {
    isolated(|| {
        let (scene, _driver) = scene(SHORT_OVER);
        let mut waiter = look_at(&scene.mount);
        scene.api.set_down(true);
        scene.api.delete(&scene.uid);
        std::thread::sleep(Duration::from_secs(3));
        assert!(waiter.try_wait().unwrap().is_none());
        scene.api.set_down(false);
        assert!(!outcome(waiter, SOON).0);
    });
}

#[test]
fn an_adopted_volume_whose_server_hangs_and_never_resumes_is_released() {
    isolated(|| {
        let (scene, driver) = Scene::new();
        let mut sidecar = scene.start_sidecar();
        let waiter = scene.hang(&mut sidecar);
        driver.kill();
        let _driver = scene.kubelet.start(&scene.api, SHORT_UNSERVED);
        assert!(!outcome(waiter, SOON).0);
        wait_for("an event", SOON, || scene.api.reasons() == ["EncryptedVolumeUnserved"]);
    });
}
