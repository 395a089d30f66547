//! Whether a pod is one that our webhook injected, from its specification.
//!
//! Invariant: pure; everything that is not proven is refused, in words that tell the pod's owner what to do.

use contract::names::{
    ATTRIBUTE_KIND, ATTRIBUTE_VOLUME, CSI_DRIVER, GATE_CONTAINER, SIDECAR_CONTAINER, SYSTEM_VOLUME_PREFIX,
};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

/// The program that the sidecar and the gate run, if their specification names one.
const PROGRAM: &str = "/usr/bin/cofferdam-sidecar";

/// What the driver accepts.
#[derive(Clone, Debug)]
pub struct Expected {
    /// Images that sidecar and gate may have.
    pub images: Vec<String>,
    /// This node.
    pub node: String,
}

/// The identity of an injected sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// Why a pod is not served.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NotInjected {
    /// It belongs elsewhere.
    #[error("the pod is not bound to this node")]
    Node,
    /// Sidecar or gate are missing or not in their places.
    #[error(
        "this CSI driver serves only pods that Cofferdam injected: initContainers[{index}] is not \"{name}\". Remove the volume, or \
         label the namespace for injection and create the pod again"
    )]
    Missing {
        /// Place in `initContainers`.
        index: usize,
        /// What belongs there.
        name: &'static str,
    },
    /// One of them runs something else.
    #[error(
        "\"{name}\" does not run this installation's image; delete the pod, so that it is created anew with it"
    )]
    Image {
        /// Which container.
        name: &'static str,
    },
    /// One of them runs another program of the image.
    #[error("\"{name}\" does not run Cofferdam's program")]
    Program {
        /// Which container.
        name: &'static str,
    },
    /// The sidecar is no native sidecar, or the gate is one.
    #[error("\"{name}\" has the wrong restartPolicy: another webhook may have changed it")]
    RestartPolicy {
        /// Which container.
        name: &'static str,
    },
    /// Another container mounts what only the two may.
    #[error("container \"{container}\" mounts a volume that only Cofferdam's own containers may mount")]
    Exposed {
        /// Which container.
        container: String,
    },
    /// Sidecar and gate are different users, or it is not said which.
    #[error("the user of Cofferdam's containers is not known: both need the same runAsUser")]
    Identity,
    /// The request does not match the specification.
    #[error("the pod has no such volume of this driver")]
    Volume,
}

/// Proves that `pod` is injected and has the volume `csi_volume` with these attributes.
pub fn check(
    pod: &Pod,
    expected: &Expected,
    csi_volume: &str,
    kind: &str,
    volume: Option<&str>,
) -> Result<Identity, NotInjected> {
    let spec = pod.spec.as_ref().ok_or(NotInjected::Volume)?;
    if spec.node_name.as_ref() != Some(&expected.node) {
        return Err(NotInjected::Node);
    }
    let sidecar = ours(spec, 0, SIDECAR_CONTAINER, Some("Always"), &expected.images)?;
    let gate = ours(spec, 1, GATE_CONTAINER, None, &expected.images)?;
    check_exposure(spec)?;
    check_volume(spec, csi_volume, kind, volume)?;
    let identity = identity(spec, sidecar).ok_or(NotInjected::Identity)?;
    if self::identity(spec, gate) != Some(identity) {
        return Err(NotInjected::Identity);
    }
    Ok(identity)
}

fn ours<'a>(
    spec: &'a PodSpec,
    index: usize,
    name: &'static str,
    restart_policy: Option<&str>,
    images: &[String],
) -> Result<&'a Container, NotInjected> {
    let container = spec.init_containers.as_deref().unwrap_or_default().get(index);
    let container = container.filter(|c| c.name == name).ok_or(NotInjected::Missing { index, name })?;
    if !container.image.as_ref().is_some_and(|image| images.contains(image)) {
        return Err(NotInjected::Image { name });
    }
    if container
        .command
        .as_ref()
        .is_some_and(|command| command.first().is_none_or(|program| program != PROGRAM))
    {
        return Err(NotInjected::Program { name });
    }
    if container.restart_policy.as_deref() != restart_policy {
        return Err(NotInjected::RestartPolicy { name });
    }
    Ok(container)
}

/// Nobody but the two mounts a system volume.
fn check_exposure(spec: &PodSpec) -> Result<(), NotInjected> {
    let rest = spec.init_containers.iter().flatten().skip(2).chain(&spec.containers);
    for container in rest {
        let mounts = container.volume_mounts.iter().flatten();
        if mounts.into_iter().any(|mount| mount.name.starts_with(SYSTEM_VOLUME_PREFIX)) {
            return Err(NotInjected::Exposed { container: container.name.clone() });
        }
    }
    Ok(())
}

fn check_volume(
    spec: &PodSpec,
    csi_volume: &str,
    kind: &str,
    volume: Option<&str>,
) -> Result<(), NotInjected> {
    let found = spec.volumes.iter().flatten().find(|candidate| candidate.name == csi_volume);
    let csi = found.and_then(|volume| volume.csi.as_ref()).filter(|csi| csi.driver == CSI_DRIVER);
    let attributes = csi.and_then(|csi| csi.volume_attributes.as_ref()).ok_or(NotInjected::Volume)?;
    let same = attributes.get(ATTRIBUTE_KIND).map(String::as_str) == Some(kind)
        && attributes.get(ATTRIBUTE_VOLUME).map(String::as_str) == volume;
    if same { Ok(()) } else { Err(NotInjected::Volume) }
}

/// The user and group that a container runs as; a group that is not said is root's, as in the image.
fn identity(spec: &PodSpec, container: &Container) -> Option<Identity> {
    let own = container.security_context.as_ref();
    let pod = spec.security_context.as_ref();
    let uid = own.and_then(|c| c.run_as_user).or_else(|| pod.and_then(|p| p.run_as_user))?;
    let gid = own.and_then(|c| c.run_as_group).or_else(|| pod.and_then(|p| p.run_as_group)).unwrap_or(0);
    Some(Identity { uid: u32::try_from(uid).ok()?, gid: u32::try_from(gid).ok()? })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    const IMAGE: &str = "registry.example/cofferdam@sha256:aa";

    fn pod() -> Value {
        let user = json!({"runAsUser": 65532, "runAsGroup": 65532});
        json!({
            "metadata": {"uid": "u"},
            "spec": {
                "nodeName": "node1",
                "volumes": [
                    {"name": "data", "persistentVolumeClaim": {"claimName": "data-0"}},
                    {"name": "cofferdam-vol-data", "csi": {"driver": CSI_DRIVER,
                        "volumeAttributes": {ATTRIBUTE_KIND: "plain", ATTRIBUTE_VOLUME: "data"}}},
                    {"name": "cofferdam-sys-run", "csi": {"driver": CSI_DRIVER, "volumeAttributes": {ATTRIBUTE_KIND: "run"}}}
                ],
                "initContainers": [
                    {"name": SIDECAR_CONTAINER, "image": IMAGE, "restartPolicy": "Always", "securityContext": user,
                        "command": [PROGRAM, "serve"],
                        "volumeMounts": [{"name": "cofferdam-sys-run", "mountPath": "/cofferdam/run"}]},
                    {"name": GATE_CONTAINER, "image": IMAGE, "securityContext": user}
                ],
                "containers": [{"name": "app", "image": "app", "volumeMounts": [{"name": "cofferdam-vol-data", "mountPath": "/data"}]}]
            }
        })
    }

    fn judge(pod: Value) -> Result<Identity, NotInjected> {
        let expected = Expected { images: vec!["other".into(), IMAGE.into()], node: "node1".into() };
        check(&serde_json::from_value(pod).unwrap(), &expected, "cofferdam-vol-data", "plain", Some("data"))
    }

    fn changed(path: &str, value: Value) -> Result<Identity, NotInjected> {
        let mut pod = pod();
        *pod.pointer_mut(path).unwrap() = value;
        judge(pod)
    }

    #[test]
    fn an_injected_pod_is_served_and_its_user_is_known() {
        assert_eq!(judge(pod()), Ok(Identity { uid: 65532, gid: 65532 }));
    }

    #[test]
    fn a_pod_that_was_not_injected_is_refused_in_words() {
        let error = changed("/spec/initContainers", json!([])).unwrap_err();
        assert_eq!(error, NotInjected::Missing { index: 0, name: SIDECAR_CONTAINER });
        assert!(error.to_string().contains("serves only pods that Cofferdam injected"));
    }

    #[test]
    fn sidecar_and_gate_must_come_first_in_this_order() {
        let error = changed("/spec/initContainers/0/name", json!("istio")).unwrap_err();
        assert_eq!(error, NotInjected::Missing { index: 0, name: SIDECAR_CONTAINER });
        let error = changed("/spec/initContainers/1/name", json!("mine")).unwrap_err();
        assert_eq!(error, NotInjected::Missing { index: 1, name: GATE_CONTAINER });
    }

    #[test]
    fn another_image_program_or_restart_policy_is_refused() {
        let wrong = |path, value| changed(path, value).unwrap_err();
        let name = SIDECAR_CONTAINER;
        assert_eq!(wrong("/spec/initContainers/0/image", json!("mine:1")), NotInjected::Image { name });
        assert_eq!(
            wrong("/spec/initContainers/1/image", json!("mine:1")),
            NotInjected::Image { name: GATE_CONTAINER }
        );
        assert_eq!(
            wrong("/spec/initContainers/0/command", json!(["/bin/sh"])),
            NotInjected::Program { name }
        );
        assert_eq!(
            wrong("/spec/initContainers/0/restartPolicy", json!(null)),
            NotInjected::RestartPolicy { name }
        );
    }

    #[test]
    fn no_other_container_may_mount_a_system_volume() {
        let error =
            changed("/spec/containers/0/volumeMounts/0/name", json!("cofferdam-sys-run")).unwrap_err();
        assert_eq!(error, NotInjected::Exposed { container: "app".into() });
    }

    #[test]
    fn a_request_that_the_specification_does_not_have_is_refused() {
        assert_eq!(changed("/spec/volumes/1/csi/driver", json!("else")).unwrap_err(), NotInjected::Volume);
        let attribute =
            format!("/spec/volumes/1/csi/volumeAttributes/{}", ATTRIBUTE_VOLUME.replace('/', "~1"));
        assert_eq!(changed(&attribute, json!("logs")).unwrap_err(), NotInjected::Volume);
        assert_eq!(changed("/spec/nodeName", json!("node2")).unwrap_err(), NotInjected::Node);
    }

    #[test]
    fn a_user_that_is_not_known_or_not_the_same_is_refused() {
        assert_eq!(
            changed("/spec/initContainers/1/securityContext/runAsUser", json!(0)).unwrap_err(),
            NotInjected::Identity
        );
        assert_eq!(
            changed("/spec/initContainers/0/securityContext", json!({})).unwrap_err(),
            NotInjected::Identity
        );
    }
}
