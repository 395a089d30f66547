//! Why a pod is refused, in words that say what to do.
//!
//! Invariant: every message names the object that a person must change; none holds a secret or a path of a user's file.

use contract::names::{CSI_DRIVER, INJECTED_ANNOTATION, PLAIN_VOLUME_PREFIX, SYSTEM_VOLUME_PREFIX};

/// A pod that cannot be admitted as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The claim is not there, so nobody can say whether it is protected.
    #[error(
        "claim {claim} does not exist yet, so it is not known whether it is protected: create the claim first, or try again \
         when it exists"
    )]
    ClaimMissing {
        /// The claim.
        claim: String,
    },
    /// More than one binding selects a claim.
    #[error("claim {claim} is selected by the StorageBindings {}: leave it to one of them", .bindings.join(" and "))]
    TwoBindings {
        /// The claim.
        claim: String,
        /// Their names, sorted.
        bindings: Vec<String>,
    },
    /// The binding contradicts itself.
    #[error("StorageBinding {binding} is not valid: {problem}")]
    InvalidBinding {
        /// Its name.
        binding: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The binding's profile cannot be used.
    #[error("claim {claim} is protected with KmsProfile {profile}, which {problem}")]
    Profile {
        /// The claim.
        claim: String,
        /// `namespace/name`.
        profile: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A volume cannot move to another root key.
    #[error(
        "claim {claim} is encrypted under KmsProfile {was}, but StorageBinding {binding} names {is}: name {was} again; a \
         volume does not change its root key"
    )]
    ProfileChanged {
        /// The claim.
        claim: String,
        /// The binding.
        binding: String,
        /// `namespace/name` of the profile that the volume was created under.
        was: String,
        /// `namespace/name` of the profile that the binding names.
        is: String,
    },
    /// Block volumes have no files.
    #[error(
        "volume {volume} is used as a block device, and its claim is protected: Cofferdam encrypts files; use volumeMode \
         Filesystem and volumeMounts"
    )]
    BlockVolume {
        /// The pod volume's name.
        volume: String,
    },
    /// A mount that the container would pass on to the node.
    #[error(
        "container {container} mounts the protected volume {volume} with mountPropagation Bidirectional: remove that"
    )]
    Bidirectional {
        /// The container's name.
        container: String,
        /// The pod volume's name.
        volume: String,
    },
    /// The message file would be opened by the container runtime, through the mount.
    #[error(
        "terminationMessagePath of container {container} lies in its mount of the protected volume {volume}: choose a path \
         outside of it"
    )]
    TerminationMessage {
        /// The container's name.
        container: String,
        /// The pod volume's name.
        volume: String,
    },
    /// The sidecar runs on Linux only.
    #[error("pods for Windows cannot use protected claims: the sidecar needs Linux")]
    Windows,
    /// Users are mapped in a way that this version does not follow.
    #[error(
        "hostUsers: false is not supported for pods with protected claims, because who owns a file could not be known: remove it"
    )]
    UserNamespace,
    /// The application could look into the sidecar's memory.
    #[error(
        "{field}: true would let other processes see the sidecar's keys: remove it from pods with protected claims"
    )]
    SharedProcesses {
        /// `shareProcessNamespace` or `hostPID`.
        field: &'static str,
    },
    /// Kubelet runs such a pod as its file says, without injection.
    #[error("static pods cannot use protected claims, because nothing can be injected into them")]
    StaticPod,
    /// A name that is ours.
    #[error(
        "the name {name} is reserved: rename it (containers of Cofferdam and volumes beginning with {PLAIN_VOLUME_PREFIX} or \
         {SYSTEM_VOLUME_PREFIX} come from injection alone)"
    )]
    ReservedName {
        /// The name.
        name: String,
    },
    /// A volume of our driver under a name of the user's.
    #[error(
        "volume {volume} is of the CSI driver {CSI_DRIVER}: remove it; volumes of that driver come from injection alone"
    )]
    OurDriver {
        /// The pod volume's name.
        volume: String,
    },
    /// A copy of an injected pod whose claims are no longer protected.
    #[error(
        "the pod carries the annotation {INJECTED_ANNOTATION}, but none of its claims is protected: remove the annotation and \
         what Cofferdam injected"
    )]
    NothingProtected,
    /// Volumes of different ownership in one pod.
    #[error(
        "the protected volumes of this pod were created with different ownership (some by pods that ran as root, some by \
         others): one sidecar cannot serve both; use them in different pods"
    )]
    MixedOwnership,
    /// Capabilities that the namespace does not allow.
    #[error(
        "claim {claim} was created by a pod that ran as root, so its sidecar needs capabilities that Pod Security \
         \"restricted\" refuses: use it in a namespace that enforces \"baseline\", or copy its files into a new claim"
    )]
    NativeInRestricted {
        /// The claim.
        claim: String,
    },
    /// The sidecar could not write the raw volume.
    #[error(
        "the sidecar of a non-root pod runs as uid 65532 and could not write the volume: set spec.securityContext.fsGroup (the \
         application's own group will do), so that kubelet gives the volume to that group"
    )]
    NoFsGroup,
    /// Requests and limits differ.
    #[error(
        "the sidecar's resources in {place} must give equal requests and limits for cpu and memory, so that the pod keeps its \
         quality of service"
    )]
    UnequalResources {
        /// Binding or annotation.
        place: String,
    },
    /// The object is not shaped like a pod.
    #[error("the pod cannot be read: {field} is not what the API says")]
    Malformed {
        /// The field.
        field: &'static str,
    },
}
