//! Target paths of inline CSI volumes: `<kubelet root>/pods/<uid>/volumes/kubernetes.io~csi/<volume>/mount`.
//!
//! Invariant: pure. The driver mounts, unmounts and removes at paths of this form only, whatever a request says.

use std::path::{Component, Path, PathBuf};

/// Names one published volume on this node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Uid of the pod.
    pub pod_uid: String,
    /// Name of the CSI volume in the pod's specification.
    pub volume: String,
}

/// Kubelet's directory.
#[derive(Clone, Debug)]
pub struct KubeletRoot {
    /// As kubelet was told.
    configured: PathBuf,
    /// Without symbolic links, as the mount table spells it.
    real: PathBuf,
}

/// Why a path is no target.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// It does not have the form of an inline CSI volume of a pod.
    #[error("the target path is not that of an inline CSI volume under kubelet's root directory")]
    Form,
}

impl KubeletRoot {
    /// `configured` as kubelet spells it (`--root-dir`), `real` the same with symbolic links resolved.
    pub fn new(configured: PathBuf, real: PathBuf) -> Self {
        Self { configured, real }
    }

    /// Takes a target path apart.
    pub fn key(&self, target: &Path) -> Result<Key, TargetError> {
        let rest = target.strip_prefix(&self.configured).or_else(|_| target.strip_prefix(&self.real));
        let parts: Option<Vec<&str>> = rest
            .map_err(|_| TargetError::Form)?
            .components()
            .map(|part| if let Component::Normal(name) = part { name.to_str() } else { None })
            .collect();
        match parts.as_deref() {
            Some(["pods", uid, "volumes", "kubernetes.io~csi", volume, "mount"])
                if is_label(uid) && is_label(volume) =>
            {
                Ok(Key { pod_uid: (*uid).to_owned(), volume: (*volume).to_owned() })
            }
            _ => Err(TargetError::Form),
        }
    }

    /// The path at which to mount, as the mount table will spell it.
    pub fn target(&self, key: &Key) -> PathBuf {
        let volume =
            self.real.join("pods").join(&key.pod_uid).join("volumes/kubernetes.io~csi").join(&key.volume);
        volume.join("mount")
    }
}

/// Whether a name is safe as a file name and can be a pod's uid or a volume's name (RFC 1123 label).
pub fn is_label(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    !name.is_empty() && name.len() <= 63 && name.bytes().all(plain) && !name.starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> KubeletRoot {
        KubeletRoot::new("/var/lib/kubelet".into(), "/data/kubelet".into())
    }

    #[test]
    fn a_target_is_taken_apart_and_put_together_without_symbolic_links() {
        let target = "/var/lib/kubelet/pods/6c2e0a5e-1f7b/volumes/kubernetes.io~csi/cofferdam-vol-data/mount";
        let key = root().key(Path::new(target)).expect("a target");
        assert_eq!((key.pod_uid.as_str(), key.volume.as_str()), ("6c2e0a5e-1f7b", "cofferdam-vol-data"));
        let real = "/data/kubelet/pods/6c2e0a5e-1f7b/volumes/kubernetes.io~csi/cofferdam-vol-data/mount";
        assert_eq!(root().target(&key), Path::new(real));
        assert_eq!(root().key(Path::new(real)).expect("a target"), key);
    }

    #[test]
    fn any_other_path_is_refused() {
        for path in [
            "",
            "/",
            "/etc",
            "/var/lib/kubelet",
            "/var/lib/kubelet/pods/u/volumes/kubernetes.io~csi/v",
            "/var/lib/kubelet/pods/u/volumes/kubernetes.io~csi/v/mount/deeper",
            "/var/lib/kubelet/pods/u/volumes/kubernetes.io~empty-dir/v/mount",
            "/var/lib/kubelet/pods/../volumes/kubernetes.io~csi/v/mount",
            "/var/lib/kubelet/pods/u/volumes/kubernetes.io~csi/../mount",
            "/var/lib/kubelet/pods/.u/volumes/kubernetes.io~csi/v/mount",
            "pods/u/volumes/kubernetes.io~csi/v/mount",
            "/elsewhere/pods/u/volumes/kubernetes.io~csi/v/mount",
        ] {
            assert!(root().key(Path::new(path)).is_err(), "{path}");
        }
    }
}
