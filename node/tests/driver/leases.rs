//! Who gets the descriptor, how often, and what happens when its holder goes.

use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use contract::control::{Refusal, Reply, Request};
use serde_json::json;

use crate::support::api::{FakeApi, injected, running};
use crate::support::driver::{Kubelet, PATIENT, Running, ctl, plain};
use crate::support::sidecar::{Container, Sidecar};
use crate::support::{isolated, look_at, outcome, wait_for};

const SOON: Duration = Duration::from_secs(5);

/// A pod whose volumes are published and whose containers run.
pub struct Scene {
    pub api: Arc<FakeApi>,
    pub kubelet: Kubelet,
    pub uid: String,
    pub sidecar: Container,
    pub app: Container,
    pub mount: PathBuf,
    pub ctl: PathBuf,
}

impl Scene {
    pub fn new() -> (Self, Running) {
        let kubelet = Kubelet::new();
        let api = FakeApi::new();
        let driver = kubelet.start(&api, PATIENT);
        let uid = uuid::Uuid::new_v4().to_string();
        let (sidecar, app) = (Container::new(&uid, 1), Container::new(&uid, 2));
        api.set(running(&uid, &sidecar.id, &app.id));
        let mount = kubelet.target(&uid, "cofferdam-vol-data");
        let ctl_target = kubelet.target(&uid, "cofferdam-sys-ctl");
        driver.publish(plain(&uid, &mount)).unwrap();
        driver.publish(ctl(&uid, &ctl_target)).unwrap();
        (Self { api, kubelet, uid, sidecar, app, mount, ctl: ctl_target }, driver)
    }

    pub fn start_sidecar(&self) -> Sidecar {
        Sidecar::start(&self.ctl.join("s"), Some(&self.sidecar))
    }

    /// The server takes requests and answers none from now on; a process that waits for such an answer.
    pub fn hang(&self, sidecar: &mut Sidecar) -> Child {
        sidecar.serve_and_hang();
        let waiter = look_at(&self.mount);
        std::thread::sleep(Duration::from_millis(300));
        waiter
    }

    /// Whether a process that looks at the mount gets an answer; panics if it gets neither answer nor error.
    pub fn answers(&self) -> bool {
        outcome(look_at(&self.mount), SOON).0
    }
}

pub fn refusal(reply: &Reply) -> Refusal {
    let Reply::Refused { reason, .. } = reply else { panic!("not refused: {reply:?}") };
    *reason
}

#[test]
fn the_sidecar_gets_the_descriptor_serves_and_nobody_else_gets_it_meanwhile() {
    isolated(|| {
        let (scene, driver) = Scene::new();
        let mut sidecar = scene.start_sidecar();
        sidecar.serve();
        assert!(scene.answers());
        let mut second = scene.start_sidecar();
        assert_eq!(refusal(&second.attach()), Refusal::AlreadyServed);
        assert_eq!(refusal(&second.serving()), Refusal::BadRequest);
        assert_eq!(refusal(&second.ask(&Request::Attach { volume: "logs".into() })), Refusal::UnknownVolume);
        assert!(second.order("nonsense").contains("BadRequest"));
        second.kill();
        assert!(scene.answers());
        let metrics = driver.metrics.text();
        assert!(metrics.contains("cofferdam_fuse_connections{phase=\"Serving\"} 1"), "{metrics}");
    });
}

#[test]
fn a_server_that_is_killed_leaves_nobody_waiting_and_has_no_successor() {
    isolated(|| {
        let (scene, _driver) = Scene::new();
        let mut sidecar = scene.start_sidecar();
        let waiter = scene.hang(&mut sidecar);
        sidecar.kill();
        assert!(!outcome(waiter, SOON).0);
        let mut second = scene.start_sidecar();
        assert_eq!(refusal(&second.attach()), Refusal::SessionLost);
        assert!(!scene.answers());
        wait_for("an event", SOON, || scene.api.reasons() == ["EncryptedVolumeServerLost"]);
    });
}

#[test]
fn a_server_that_is_killed_before_it_served_is_followed_by_another() {
    isolated(|| {
        let (scene, _driver) = Scene::new();
        let mut first = scene.start_sidecar();
        first.attached();
        assert_eq!(first.order("serve"), "init answered");
        first.kill();
        let mut second = scene.start_sidecar();
        wait_for("the lease to end", SOON, || matches!(second.attach(), Reply::Granted { .. }));
        assert_eq!(second.order("serve"), "init answered");
        assert_eq!(second.serving(), Reply::Done);
        assert!(scene.answers());
        assert!(scene.api.reasons().is_empty());
    });
}

#[test]
fn a_server_that_detaches_ends_its_session_without_a_warning() {
    isolated(|| {
        let (scene, _driver) = Scene::new();
        let mut sidecar = scene.start_sidecar();
        sidecar.serve();
        assert_eq!(sidecar.detach(), Reply::Done);
        assert!(!scene.answers());
        assert_eq!(refusal(&sidecar.attach()), Refusal::SessionLost);
        assert!(scene.api.reasons().is_empty());
    });
}

#[test]
fn a_process_outside_of_the_sidecars_container_gets_nothing() {
    isolated(|| {
        let (scene, _driver) = Scene::new();
        let socket = scene.ctl.join("s");
        let mut outside = Sidecar::start(&socket, None);
        assert_eq!(refusal(&outside.attach()), Refusal::NotTheSidecar);
        let mut app = Sidecar::start(&socket, Some(&scene.app));
        assert_eq!(refusal(&app.attach()), Refusal::NotTheSidecar);
        let elsewhere = Container::new(&uuid::Uuid::new_v4().to_string(), 1);
        let mut other_pod = Sidecar::start(&socket, Some(&elsewhere));
        assert_eq!(refusal(&other_pod.attach()), Refusal::NotTheSidecar);
        assert_eq!(scene.api.reasons(), ["EncryptedVolumeCallerRefused"; 3]);
    });
}

#[test]
fn a_container_that_the_api_does_not_know_yet_is_waited_for() {
    isolated(|| {
        let (scene, _driver) = Scene::new();
        scene.api.set(injected(&scene.uid));
        let mut sidecar = scene.start_sidecar();
        sidecar.begin(&json!({"op": "attach", "volume": "data"}).to_string());
        std::thread::sleep(Duration::from_millis(300));
        scene.api.set(running(&scene.uid, &scene.sidecar.id, &scene.app.id));
        assert!(sidecar.answer().contains("granted"));
    });
}

#[test]
fn a_container_that_the_api_never_knows_is_refused_and_an_api_that_is_away_is_said_to_be() {
    isolated(|| {
        let (scene, _driver) = Scene::new();
        scene.api.set(injected(&scene.uid));
        assert_eq!(refusal(&scene.start_sidecar().attach()), Refusal::NotTheSidecar);
        scene.api.set_down(true);
        assert_eq!(refusal(&scene.start_sidecar().attach()), Refusal::Unavailable);
    });
}
