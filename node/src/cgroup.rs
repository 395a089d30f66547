//! From `/proc/<pid>/cgroup` to the pod and container that a process runs in.
//!
//! Invariant: pure. A process cannot leave its container's cgroup, so what is found here may be believed; where two lines
//! disagree nothing is found.
//!
//! Understood are cgroup v1 and v2, kubelet's cgroupfs and systemd drivers, and containerd, CRI-O and cri-dockerd names:
//! `…/pod<uid>/<id>`, `…-pod<uid>.slice/cri-containerd-<id>.scope`, `…/crio-<id>`, `…-pod<uid>.slice:cri-containerd:<id>`.

/// Where a process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The pod's uid, as the API spells it.
    pub pod_uid: String,
    /// The container's id, without the runtime's name.
    pub container_id: String,
}

/// What a whole cgroup file says; none if no line names a container of a pod, or two name different ones.
pub fn membership(file: &str) -> Option<Membership> {
    let mut found: Option<Membership> = None;
    for line in file.lines() {
        let path = line.splitn(3, ':').nth(2)?;
        let Some(here) = in_path(path) else { continue };
        if found.as_ref().is_some_and(|before| *before != here) {
            return None;
        }
        found = Some(here);
    }
    found
}

/// The outermost pod of a path and the container below it: what lies deeper, a container with a writable cgroup may have made.
fn in_path(path: &str) -> Option<Membership> {
    let parts: Vec<&str> = path.split(['/', ':']).collect();
    let (at, pod_uid) = parts.iter().enumerate().find_map(|(at, part)| Some((at, pod_uid(part)?)))?;
    let container_id = parts.get(at + 1..)?.iter().find_map(|part| container_id(part))?;
    Some(Membership { pod_uid, container_id })
}

fn pod_uid(part: &str) -> Option<String> {
    let name = part.strip_suffix(".slice").unwrap_or(part);
    let uid = match name.rsplit_once("-pod") {
        Some((before, uid)) if before.starts_with("kubepods") => uid,
        _ => name.strip_prefix("pod")?,
    };
    let uid = uid.replace('_', "-");
    let plausible = uid.len() >= 32 && uid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    plausible.then_some(uid)
}

fn container_id(part: &str) -> Option<String> {
    let name = part.strip_suffix(".scope").unwrap_or(part);
    let id =
        ["cri-containerd-", "crio-", "docker-"].iter().find_map(|p| name.strip_prefix(p)).unwrap_or(name);
    let plausible = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
    plausible.then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "6c2e0a5e-1f7b-4a31-9d51-0a2f1c3b4d5e";
    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const OTHER: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

    #[expect(clippy::unnecessary_wraps, reason = "it is compared with what is optional")]
    fn expected() -> Option<Membership> {
        Some(Membership { pod_uid: UID.into(), container_id: ID.into() })
    }

    #[test]
    fn every_known_form_of_a_path_names_pod_and_container() {
        let under = UID.replace('-', "_");
        let forms = [
            format!("0::/kubepods/burstable/pod{UID}/{ID}"),
            format!("0::/kubepods/pod{UID}/{ID}"),
            format!(
                "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{under}.slice/cri-containerd-{ID}.scope"
            ),
            format!("0::/kubepods.slice/kubepods-pod{under}.slice/crio-{ID}.scope/container"),
            format!("0::/kubepods/besteffort/pod{UID}/crio-{ID}"),
            format!(
                "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{under}.slice/docker-{ID}.scope"
            ),
            format!(
                "0::/system.slice/containerd.service/kubepods-burstable-pod{under}.slice:cri-containerd:{ID}"
            ),
            format!("0::/../../kubepods-burstable-pod{under}.slice/cri-containerd-{ID}.scope"),
            format!(
                "0::/docker/{OTHER}/kubelet.slice/kubelet-kubepods.slice/kubepods-pod{under}.slice/cri-containerd-{ID}.scope"
            ),
        ];
        for form in forms {
            assert_eq!(membership(&form), expected(), "{form}");
        }
    }

    #[test]
    fn the_many_lines_of_cgroup_v1_agree() {
        let file = format!(
            "9:name=systemd:/kubepods/burstable/pod{UID}/{ID}\n8:pids:/kubepods/burstable/pod{UID}/{ID}\n3:cpuset:/\n0::/\n"
        );
        assert_eq!(membership(&file), expected());
    }

    #[test]
    fn lines_that_disagree_name_nothing() {
        let file = format!("9:pids:/kubepods/pod{UID}/{ID}\n8:cpu:/kubepods/pod{UID}/{OTHER}\n");
        assert_eq!(membership(&file), None);
    }

    #[test]
    fn a_process_outside_of_pods_has_no_membership() {
        for file in ["0::/\n", "0::/user.slice/user-0.slice/session-1.scope\n", "", "nonsense\n"] {
            assert_eq!(membership(file), None, "{file}");
        }
        assert_eq!(membership(&format!("0::/docker/{ID}\n")), None);
        assert_eq!(membership(&format!("0::/kubepods/burstable/pod{UID}\n")), None);
    }

    #[test]
    fn a_container_that_makes_its_own_cgroups_cannot_pose_as_another() {
        let fake = "pod11111111-2222-3333-4444-555555555555";
        for below in [format!("crio-{OTHER}"), format!("kubepods/{fake}/{OTHER}")] {
            let file = format!("0::/kubepods/pod{UID}/{ID}/{below}\n");
            assert_eq!(membership(&file), expected(), "{file}");
        }
    }
}
