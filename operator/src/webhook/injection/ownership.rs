//! As whom the sidecar runs, and so how files are owned on the backing volume.
//!
//! Invariant: what a volume was created with wins over what this pod would get; an identity that could not write the volume
//! is refused here and not discovered later.

use contract::config::Ownership;
use contract::names::SIDECAR_UID;
use serde_json::Value;

use super::pod;
use super::protection::Protection;
use super::refusal::Refusal;

/// The namespace label by which Pod Security enforces a level.
pub const ENFORCE_LABEL: &str = "pod-security.kubernetes.io/enforce";

/// The identity of sidecar and gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runner {
    /// How files are owned.
    pub ownership: Ownership,
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// Decides for a pod. `claims` are the names of the protected claims for messages, in the order of `protections`.
pub fn decide(
    spec: &Value,
    restricted: bool,
    claims: &[&str],
    protections: &[&Protection<'_>],
) -> Result<Runner, Refusal> {
    let pinned: Vec<Option<Runner>> = protections.iter().map(|protection| pinned(protection)).collect();
    let mut known = pinned.iter().flatten();
    let ownership = match known.next() {
        Some(first) if known.any(|other| other.ownership != first.ownership) => {
            return Err(Refusal::MixedOwnership);
        }
        Some(first) => first.ownership,
        None if restricted || is_non_root(spec)? => Ownership::Virtual,
        None => Ownership::Native,
    };
    if ownership == Ownership::Native {
        let at = pinned.iter().position(Option::is_some).unwrap_or_default();
        if restricted {
            return Err(Refusal::NativeInRestricted { claim: claims.get(at).copied().unwrap_or("").into() });
        }
        return Ok(Runner { ownership, uid: 0, gid: 0 });
    }
    virtual_runner(spec, &pinned)
}

/// A fsGroup would change the groups of the application too, and kubelet would hand every volume of the pod to it: so one is
/// never added here. Without it the sidecar can still take the group that the volume's files have already.
fn virtual_runner(spec: &Value, pinned: &[Option<Runner>]) -> Result<Runner, Refusal> {
    let runner = Runner { ownership: Ownership::Virtual, uid: SIDECAR_UID, gid: SIDECAR_UID };
    if spec.pointer("/securityContext/fsGroup").is_some_and(Value::is_u64) {
        return Ok(runner);
    }
    let first = pinned.first().copied().flatten();
    match first.filter(|first| pinned.iter().all(|other| *other == Some(*first))) {
        Some(first) if first.uid == SIDECAR_UID => Ok(first),
        _ => Err(Refusal::NoFsGroup),
    }
}

/// What the volume's record says.
fn pinned(protection: &Protection<'_>) -> Option<Runner> {
    let marker = protection.record?.status.as_ref()?.marker.as_ref()?;
    match marker.ownership.as_str() {
        "Native" => Some(Runner { ownership: Ownership::Native, uid: 0, gid: 0 }),
        "Virtual" => Some(Runner { ownership: Ownership::Virtual, uid: marker.uid, gid: marker.gid }),
        _ => None,
    }
}

/// Whether every container is known not to run as root. A user that the image alone names is not known: such a pod gets native
/// ownership, whose sidecar serves every user.
fn is_non_root(spec: &Value) -> Result<bool, Refusal> {
    let of_pod = spec.get("securityContext");
    let all = pod::containers(spec)?;
    Ok(!all.is_empty() && all.iter().all(|container| container_is_non_root(container, of_pod)))
}

fn container_is_non_root(container: &Value, of_pod: Option<&Value>) -> bool {
    let own = container.get("securityContext");
    let field = |name: &str| {
        let set =
            |context: Option<&Value>| context.and_then(|c| c.get(name)).filter(|v| !v.is_null()).cloned();
        set(own).or_else(|| set(of_pod))
    };
    match field("runAsUser").as_ref().and_then(Value::as_u64) {
        Some(uid) => uid != 0,
        None => field("runAsNonRoot").as_ref().and_then(Value::as_bool) == Some(true),
    }
}
