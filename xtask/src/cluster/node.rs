//! Addresses and paths of the one node. Invariant: inside the cluster's namespaces a path is the same in every checkout,
//! and short, since the names of Unix sockets are limited to 107 bytes.

/// The run folder, as the cluster's processes see it.
pub const INSIDE: &str = "/run/cofferdam";
/// Kubelet's root folder, as pods and the chart see it. It is the usual one: `/var/lib` is the cluster's own.
pub const KUBELET_ROOT: &str = "/var/lib/kubelet";
/// The node's name.
pub const NAME: &str = "node1";
/// The node's address: the API server listens on its port 6443.
pub const ADDRESS: &str = "10.99.0.1";
/// The API server as clients in the node's network namespace and pods reach it.
pub const API: &str = "https://10.99.0.1:6443";
/// Where Services get their addresses.
pub const SERVICES: &str = "10.98.0.0/16";
/// The first Service's address: the API server.
pub const API_SERVICE: &str = "10.98.0.1";
/// The address of the Service `kube-system/kube-dns`.
pub const DNS_SERVICE: &str = "10.98.0.10";
/// Where pods get their addresses.
pub const PODS: &str = "10.97.0.0/24";
/// The issuer of service account tokens; its keys are at `/openid/v1/jwks` of the API server and in `pki/sa.pub`.
pub const ISSUER: &str = "https://kubernetes.default.svc";
/// The storage class of the volumes that `cluster volume add` makes.
pub const STORAGE_CLASS: &str = "local";
