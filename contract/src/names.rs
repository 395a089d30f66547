//! Names that two programs, the chart or a person must agree on.
//!
//! Invariant: a name is spelled once, here; the chart's copies are compared with these by a test.

/// The API group of the custom resources.
pub const GROUP: &str = "cofferdam.io";
/// The CSI driver's name.
pub const CSI_DRIVER: &str = "node.cofferdam.io";
/// The audience of the token with which a sidecar checks in.
pub const TOKEN_AUDIENCE: &str = "cofferdam";
/// The field manager of every server-side apply.
pub const FIELD_MANAGER: &str = "cofferdam";

/// Namespace label that opts a namespace in to injection, with value [`INJECTION_ENABLED`].
pub const INJECTION_LABEL: &str = "cofferdam.io/injection";
/// The one value of [`INJECTION_LABEL`] that opts in.
pub const INJECTION_ENABLED: &str = "enabled";
/// Pod annotation that the webhook sets: hash of the injected configuration.
pub const INJECTED_ANNOTATION: &str = "cofferdam.io/injected";
/// Pod label that the webhook sets on every injected pod, so that it can be selected.
pub const PROTECTED_LABEL: &str = "cofferdam.io/protected";
/// Label on rewrap Jobs and their pods; its value is the claim's name, hashed where it is too long.
pub const REWRAP_LABEL: &str = "cofferdam.io/rewrap";
/// Annotation that a person sets on an `EncryptedVolume`, with an RFC 3339 time: sweep again unless a sweep was completed since.
pub const SWEEP_REQUESTED_ANNOTATION: &str = "cofferdam.io/sweep-requested";

/// Pod annotation: CPU of the sidecar, requests and limits alike; overrides the binding.
pub const SIDECAR_CPU_ANNOTATION: &str = "cofferdam.io/sidecar-cpu";
/// Pod annotation: memory of the sidecar, requests and limits alike; overrides the binding.
pub const SIDECAR_MEMORY_ANNOTATION: &str = "cofferdam.io/sidecar-memory";
/// The program that sidecar, gate and rewrap Job run.
pub const SIDECAR_PROGRAM: &str = "/usr/bin/cofferdam-sidecar";
/// First part of the names of rewrap Jobs, and so of their pods: exec into such pods is refused by name.
pub const REWRAP_JOB_PREFIX: &str = "cofferdam-rewrap-";

/// The injected native sidecar, first of `initContainers`.
pub const SIDECAR_CONTAINER: &str = "cofferdam-sidecar";
/// The injected gate, second of `initContainers`.
pub const GATE_CONTAINER: &str = "cofferdam-gate";
/// The container of a rewrap Job.
pub const JOB_CONTAINER: &str = "cofferdam-rewrap";

/// Prefix of the inline CSI volume that stands for a protected volume: `cofferdam-vol-<name>`.
pub const PLAIN_VOLUME_PREFIX: &str = "cofferdam-vol-";
/// Prefix of every volume that only the sidecar and the gate may mount.
pub const SYSTEM_VOLUME_PREFIX: &str = "cofferdam-sys-";
/// Inline CSI volume with the node driver's socket.
pub const CTL_VOLUME: &str = "cofferdam-sys-ctl";
/// Inline CSI volume: a tmpfs for takeover state and the gate's key.
pub const RUN_VOLUME: &str = "cofferdam-sys-run";
/// Projected service account token with audience [`TOKEN_AUDIENCE`].
pub const TOKEN_VOLUME: &str = "cofferdam-sys-token";
/// ConfigMap with the certificate authorities.
pub const CA_VOLUME: &str = "cofferdam-sys-ca";
/// Prefix of the volumes with credentials: one for each profile of the pod, `cofferdam-sys-credentials-<n>`.
pub const CREDENTIALS_VOLUME_PREFIX: &str = "cofferdam-sys-credentials-";

/// CSI volume attribute: what to publish, one of the `KIND_*` values.
pub const ATTRIBUTE_KIND: &str = "cofferdam.io/kind";
/// CSI volume attribute of a plain volume: the name of the pod volume that it stands for.
pub const ATTRIBUTE_VOLUME: &str = "cofferdam.io/volume";
/// A FUSE mount: the application's view.
pub const KIND_PLAIN: &str = "plain";
/// The directory with the driver's socket.
pub const KIND_CTL: &str = "ctl";
/// A tmpfs that lives as long as the pod.
pub const KIND_RUN: &str = "run";

/// In the sidecar: each raw volume is mounted at `RAW_DIR/<volume>`.
pub const RAW_DIR: &str = "/cofferdam/raw";
/// In the gate: each plain volume is mounted at `PLAIN_DIR/<volume>`.
pub const PLAIN_DIR: &str = "/cofferdam/plain";
/// Directory of the driver's socket.
pub const CTL_DIR: &str = "/cofferdam/ctl";
/// The driver's socket (`SOCK_SEQPACKET`).
pub const CTL_SOCKET: &str = "/cofferdam/ctl/s";
/// The tmpfs for takeover state.
pub const RUN_DIR: &str = "/cofferdam/run";
/// The gate's key, 32 random bytes written by the sidecar.
pub const GATE_KEY_FILE: &str = "/cofferdam/run/gate.key";
/// The sidecar's status for probes: JSON, see `config`.
pub const STATUS_FILE: &str = "/cofferdam/run/status.json";
/// The token of [`TOKEN_VOLUME`].
pub const TOKEN_FILE: &str = "/cofferdam/token/token";
/// Directory of the ConfigMap [`CA_CONFIG_MAP`]; keys are [`CA_OPERATOR_KEY`] and `kms-<profile>.crt`.
pub const CA_DIR: &str = "/cofferdam/ca";
/// The certificate authorities of the operator, in [`CA_DIR`].
pub const CA_OPERATOR_KEY: &str = "ca.crt";
/// Directory of the credentials of profile n: `CREDENTIALS_DIR/<n>/`.
pub const CREDENTIALS_DIR: &str = "/cofferdam/credentials";
/// The ConfigMap with the certificate authorities, kept by the operator in each opted-in namespace.
pub const CA_CONFIG_MAP: &str = "cofferdam-ca";
/// The file of a projected service account token in the directory of a profile's credentials.
pub const IDENTITY_TOKEN: &str = "token";
/// The key of a Secret that holds an IBM Cloud API key.
pub const API_KEY_SECRET_KEY: &str = "apiKey";
/// The key of a profile's Secret with access keys of AWS, as a shared credentials file.
pub const AWS_KEYS_SECRET_KEY: &str = "credentials";
/// The key of a profile's Secret with the client secret of an application of Entra ID.
pub const CLIENT_SECRET_SECRET_KEY: &str = "clientSecret";
/// The key of a profile's Secret with the JSON key of a service account of Google Cloud.
pub const GOOGLE_KEY_SECRET_KEY: &str = "key.json";
/// The key of a profile's Secret with the user PIN of a PKCS#11 token.
pub const PIN_SECRET_KEY: &str = "pin";
/// The key of a profile's Secret with a token of Vault or OpenBao.
pub const TOKEN_SECRET_KEY: &str = "token";
/// The key of a profile's Secret with the secret id of an AppRole.
pub const SECRET_ID_SECRET_KEY: &str = "secretId";

/// Environment variable with the JSON of [`crate::config::SidecarConfig`].
pub const CONFIG_ENV: &str = "COFFERDAM_CONFIG";
/// Environment variables from the downward API.
pub const POD_NAME_ENV: &str = "POD_NAME";
/// See [`POD_NAME_ENV`].
pub const POD_NAMESPACE_ENV: &str = "POD_NAMESPACE";
/// See [`POD_NAME_ENV`].
pub const POD_UID_ENV: &str = "POD_UID";

/// The port of a sidecar's metrics and health endpoints.
pub const SIDECAR_METRICS_PORT: u16 = 9808;
/// The port of the operator's check-in server.
pub const CHECK_IN_PORT: u16 = 8443;
/// The path of the check-in server.
pub const CHECK_IN_PATH: &str = "/v1/check-in";

/// The uid and gid of a sidecar without capabilities.
pub const SIDECAR_UID: u32 = 65532;
/// Names that begin with this are Cofferdam's own, in every directory of a volume: hidden and refused.
pub const RESERVED_NAME_PREFIX: &str = ".cofferdam";
/// Names of a fresh filesystem that are neither plaintext nor ours.
pub const STORAGE_ENTRIES: &[&str] = &["lost+found"];
