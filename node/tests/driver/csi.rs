//! Kubelet's side, over gRPC on a unix socket.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use node::grpc::{
    BoolValue, Empty, NodeInfo, PluginInfo, Probe, Registrant, RegistrationStatus, VolumeCapability,
};
use node::registration::{REGISTRATION_SOCKET, Registered, Registration, listen, serve_registration};
use tonic::Code;

use crate::leases::Scene;
use crate::support::api::{FakeApi, injected};
use crate::support::driver::{Kubelet, PATIENT, call, ctl, plain, request};
use crate::support::{isolated, outcome};

const SOON: Duration = Duration::from_secs(5);
const UID: &str = "6c2e0a5e-1f7b-4a31-9d51-0a2f1c3b4d5e";

fn mounts_under(kubelet: &Kubelet) -> usize {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().filter(|line| line.contains(kubelet.root().to_str().unwrap())).count()
}

#[test]
fn the_driver_introduces_itself_and_has_no_capability_that_makes_kubelet_look_at_a_mount() {
    isolated(|| {
        let (kubelet, api) = (Kubelet::new(), FakeApi::new());
        let driver = kubelet.start(&api, PATIENT);
        let info: PluginInfo = driver.identity("GetPluginInfo").unwrap();
        assert_eq!(info.name, "node.cofferdam.io");
        assert!(!info.vendor_version.is_empty());
        let probe: Probe = driver.identity("Probe").unwrap();
        assert_eq!(probe.ready, Some(BoolValue { value: true }));
        let info: NodeInfo = driver.node("NodeGetInfo").unwrap();
        assert_eq!(info.node_id, "node1");
        // Any field at all would be a capability.
        let capabilities: RegistrationStatus = driver.node("NodeGetCapabilities").unwrap();
        assert_eq!(capabilities, RegistrationStatus::default());
        let missing = driver.node::<Empty>("NodeGetVolumeStats").unwrap_err();
        assert_eq!(missing.code(), Code::Unimplemented);
    });
}

#[test]
fn kubelet_learns_where_the_driver_is_and_says_whether_it_took_it() {
    isolated(|| {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let inside = runtime.enter();
        let socket = dir.path().join(REGISTRATION_SOCKET);
        let (result, registered) = tokio::sync::watch::channel(Registered::NotYet);
        // A driver that was killed leaves its socket.
        drop(listen(&socket).unwrap());
        let incoming = listen(&socket).unwrap();
        runtime.spawn(serve_registration(incoming, Registration { endpoint: "/k/csi.sock".into(), result }));
        drop(inside);
        let info: Registrant =
            call(&runtime, &socket, "/pluginregistration.Registration/GetInfo", Empty {}).unwrap();
        assert_eq!((info.r#type.as_str(), info.name.as_str()), ("CSIPlugin", "node.cofferdam.io"));
        assert_eq!(
            (info.endpoint.as_str(), info.supported_versions.as_slice()),
            ("/k/csi.sock", &["1.0.0".to_owned()][..])
        );
        let notify = "/pluginregistration.Registration/NotifyRegistrationStatus";
        for (status, expected) in [
            (RegistrationStatus { plugin_registered: true, error: String::new() }, Registered::Yes),
            (
                RegistrationStatus { plugin_registered: false, error: "no".into() },
                Registered::Refused("no".into()),
            ),
        ] {
            let _: Empty = call(&runtime, &socket, notify, status).unwrap();
            assert_eq!(*registered.borrow(), expected);
        }
    });
}

#[test]
fn kubelets_authority_is_a_valid_one() {
    let path = format!("/var/lib/kubelet/plugins_registry/{REGISTRATION_SOCKET}").replace('/', "%2F");
    assert!(path.parse::<tonic::codegen::http::uri::Authority>().is_ok());
    let plain = "/var/lib/kubelet/plugins_registry/node.cofferdam.io-reg.sock".replace('/', "%2F");
    assert!(plain.parse::<tonic::codegen::http::uri::Authority>().is_err(), "the name is no longer needed");
}

#[test]
fn every_kind_is_published_once_however_often_it_is_asked_for_and_unpublished_likewise() {
    isolated(|| {
        let (kubelet, api) = (Kubelet::new(), FakeApi::new());
        let driver = kubelet.start(&api, PATIENT);
        api.set(injected(UID));
        let data = kubelet.target(UID, "cofferdam-vol-data");
        let socket = kubelet.target(UID, "cofferdam-sys-ctl");
        let run = kubelet.target(UID, "cofferdam-sys-run");
        let publish = || {
            driver.publish(plain(UID, &data)).unwrap();
            driver.publish(ctl(UID, &socket)).unwrap();
            driver.publish(request(UID, &run, &[("cofferdam.io/kind", "run")])).unwrap();
        };
        publish();
        let inode = fs::metadata(socket.join("s")).unwrap().ino();
        fs::write(run.join("kept"), b"x").unwrap();
        assert_eq!(mounts_under(&kubelet), 3);
        // Again, and with no API: there is nothing left to ask it.
        api.set_down(true);
        publish();
        assert_eq!(mounts_under(&kubelet), 3);
        assert_eq!(fs::metadata(socket.join("s")).unwrap().ino(), inode);
        assert!(run.join("kept").exists());
        assert_eq!(fs::metadata(&run).unwrap().uid(), 65532);
        for _ in 0..2 {
            for target in [&data, &socket, &run] {
                driver.unpublish(target).unwrap();
                assert!(!target.exists());
            }
        }
        assert_eq!(mounts_under(&kubelet), 0);
        assert_eq!(fs::read_dir(kubelet.driver_dir().join("state")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(kubelet.driver_dir().join("ctl")).unwrap().count(), 0);
    });
}

#[test]
fn a_pod_that_was_not_injected_is_refused_with_a_reason_and_an_event_and_nothing_is_mounted() {
    isolated(|| {
        let (kubelet, api) = (Kubelet::new(), FakeApi::new());
        let driver = kubelet.start(&api, PATIENT);
        let mut pod = injected(UID);
        pod["spec"]["initContainers"] = serde_json::json!([]);
        api.set(pod);
        for (volume, attributes) in [
            ("cofferdam-vol-data", &[("cofferdam.io/kind", "plain"), ("cofferdam.io/volume", "data")][..]),
            ("cofferdam-sys-ctl", &[("cofferdam.io/kind", "ctl")][..]),
            ("cofferdam-sys-run", &[("cofferdam.io/kind", "run")][..]),
        ] {
            let target = kubelet.target(UID, volume);
            let refused = driver.publish(request(UID, &target, attributes)).unwrap_err();
            assert_eq!(refused.code(), Code::FailedPrecondition);
            assert!(
                refused.message().contains("serves only pods that Cofferdam injected"),
                "{}",
                refused.message()
            );
            assert!(!target.exists());
        }
        assert_eq!(mounts_under(&kubelet), 0);
        assert_eq!(api.reasons(), ["EncryptedVolumeRefused"; 3]);
    });
}

#[test]
fn an_unknown_pod_is_refused_and_an_api_that_is_away_is_only_waited_for() {
    isolated(|| {
        let (kubelet, api) = (Kubelet::new(), FakeApi::new());
        let driver = kubelet.start(&api, PATIENT);
        let target = kubelet.target(UID, "cofferdam-vol-data");
        assert_eq!(driver.publish(plain(UID, &target)).unwrap_err().code(), Code::NotFound);
        api.set_down(true);
        assert_eq!(driver.publish(plain(UID, &target)).unwrap_err().code(), Code::Unavailable);
        driver.unpublish(&target).unwrap();
    });
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    isolated(|| {
        let (kubelet, api) = (Kubelet::new(), FakeApi::new());
        let driver = kubelet.start(&api, PATIENT);
        api.set(injected(UID));
        let target = kubelet.target(UID, "cofferdam-vol-data");
        let good = plain(UID, &target);
        let mut bad = vec![];
        bad.push(node::grpc::NodePublish { volume_id: String::new(), ..good.clone() });
        bad.push(node::grpc::NodePublish { target_path: "/etc".into(), ..good.clone() });
        let block = VolumeCapability { block: Some(Empty {}), mount: None };
        bad.push(node::grpc::NodePublish { volume_capability: Some(block), ..good.clone() });
        for (name, value) in [
            ("cofferdam.io/kind", "else"),
            ("cofferdam.io/volume", "../x"),
            ("csi.storage.k8s.io/ephemeral", "false"),
            ("csi.storage.k8s.io/pod.uid", "another"),
            ("csi.storage.k8s.io/pod.name", ""),
        ] {
            let mut request = good.clone();
            request.volume_context.insert(name.into(), value.into());
            bad.push(request);
        }
        for request in bad {
            assert_eq!(
                driver.publish(request.clone()).unwrap_err().code(),
                Code::InvalidArgument,
                "{request:?}"
            );
        }
        assert_eq!(mounts_under(&kubelet), 0);
        driver.publish(good).unwrap();
    });
}

#[test]
fn a_read_only_volume_is_mounted_read_only() {
    isolated(|| {
        let (kubelet, api) = (Kubelet::new(), FakeApi::new());
        let driver = kubelet.start(&api, PATIENT);
        api.set(injected(UID));
        let target = kubelet.target(UID, "cofferdam-vol-data");
        driver.publish(node::grpc::NodePublish { readonly: true, ..plain(UID, &target) }).unwrap();
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = table.lines().find(|line| line.contains("cofferdam-vol-data")).unwrap();
        assert!(line.split(' ').nth(5).unwrap().starts_with("ro,"), "{line}");
    });
}

#[test]
fn unpublishing_what_hangs_or_is_not_there_or_not_ours_succeeds_at_once() {
    isolated(|| {
        let (scene, driver) = Scene::new();
        let mut sidecar = scene.start_sidecar();
        let waiter = scene.hang(&mut sidecar);
        scene.api.set_down(true);
        scene.api.delete(&scene.uid);
        let start = Instant::now();
        driver.unpublish(&scene.mount).unwrap();
        assert!(start.elapsed() < SOON);
        assert!(!outcome(waiter, SOON).0);
        assert!(!scene.mount.exists());
        driver.unpublish(&scene.mount).unwrap();
        driver.unpublish(&scene.kubelet.target("00000000-0000", "never-published")).unwrap();
        let own = scene.kubelet.root().join("precious");
        fs::create_dir(&own).unwrap();
        driver.unpublish(&own).unwrap();
        assert!(own.exists());
    });
}
