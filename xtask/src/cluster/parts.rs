//! The programs that make up the cluster and their arguments. Invariant: the order is the order of their start; those
//! from the first `after_api` on start when the API server listens.

use super::node::{self, INSIDE};

/// One program of the cluster.
pub struct Part {
    /// Its short name, for commands and for its log.
    pub name: &'static str,
    /// The program, by its name in the folder of programs.
    pub program: &'static str,
    /// Whether it is a client of the API server that should not start before it.
    pub after_api: bool,
    /// Its arguments.
    pub arguments: fn() -> Vec<String>,
}

/// Every part.
pub const PARTS: &[Part] = &[
    Part { name: "etcd", program: "etcd", after_api: false, arguments: etcd },
    Part { name: "apiserver", program: "kube-apiserver", after_api: false, arguments: apiserver },
    Part { name: "containerd", program: "containerd", after_api: false, arguments: containerd },
    Part {
        name: "controller-manager",
        program: "kube-controller-manager",
        after_api: true,
        arguments: controllers,
    },
    Part { name: "scheduler", program: "kube-scheduler", after_api: true, arguments: scheduler },
    Part { name: "kubelet", program: "kubelet", after_api: true, arguments: kubelet },
    Part { name: "proxy", program: "kube-proxy", after_api: true, arguments: proxy },
    Part { name: "dns", program: "coredns", after_api: true, arguments: dns },
];

/// The part called `name`.
pub fn find(name: &str) -> Option<&'static Part> {
    PARTS.iter().find(|part| part.name == name)
}

fn etcd() -> Vec<String> {
    vec![
        format!("--data-dir={INSIDE}/etcd"),
        "--unsafe-no-fsync".into(), // its data ends with the cluster
        "--listen-client-urls=http://127.0.0.1:2379".into(),
        "--advertise-client-urls=http://127.0.0.1:2379".into(),
        "--listen-peer-urls=http://127.0.0.1:2380".into(),
    ]
}

fn apiserver() -> Vec<String> {
    vec![
        "--etcd-servers=http://127.0.0.1:2379".into(),
        format!("--advertise-address={}", node::ADDRESS),
        format!("--service-cluster-ip-range={}", node::SERVICES),
        format!("--service-account-issuer={}", node::ISSUER),
        format!("--service-account-key-file={INSIDE}/pki/sa.pub"),
        format!("--service-account-signing-key-file={INSIDE}/pki/sa.key"),
        "--authorization-mode=Node,RBAC".into(),
        "--enable-admission-plugins=NodeRestriction".into(),
        format!("--tls-cert-file={INSIDE}/pki/api.crt"),
        format!("--tls-private-key-file={INSIDE}/pki/api.key"),
        format!("--client-ca-file={INSIDE}/pki/ca.crt"),
        format!("--kubelet-certificate-authority={INSIDE}/pki/ca.crt"),
        format!("--kubelet-client-certificate={INSIDE}/pki/api-to-kubelet.crt"),
        format!("--kubelet-client-key={INSIDE}/pki/api-to-kubelet.key"),
        "--kubelet-preferred-address-types=InternalIP".into(),
        "--allow-privileged=true".into(),
        "--shutdown-delay-duration=0s".into(),
    ]
}

fn containerd() -> Vec<String> {
    vec![format!("--config={INSIDE}/containerd.toml")]
}

fn controllers() -> Vec<String> {
    vec![
        kubeconfig("controller-manager"),
        format!("--service-account-private-key-file={INSIDE}/pki/sa.key"),
        format!("--root-ca-file={INSIDE}/pki/ca.crt"),
        "--use-service-account-credentials".into(),
        "--leader-elect=false".into(),
        format!("--flex-volume-plugin-dir={INSIDE}/flexvolumes"),
    ]
}

fn scheduler() -> Vec<String> {
    vec![kubeconfig("scheduler"), "--leader-elect=false".into()]
}

fn kubelet() -> Vec<String> {
    vec![
        format!("--config={INSIDE}/kubelet.yaml"),
        kubeconfig("kubelet"),
        format!("--hostname-override={}", node::NAME),
        format!("--node-ip={}", node::ADDRESS),
        format!("--root-dir={}", node::KUBELET_ROOT),
    ]
}

fn proxy() -> Vec<String> {
    vec![format!("--config={INSIDE}/proxy.yaml")]
}

fn dns() -> Vec<String> {
    vec!["-conf".into(), format!("{INSIDE}/Corefile")]
}

fn kubeconfig(client: &str) -> String {
    format!("--kubeconfig={INSIDE}/{client}.kubeconfig")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_client_of_the_api_server_starts_before_it() {
        let first_client = PARTS.iter().position(|part| part.after_api);
        let api = PARTS.iter().position(|part| part.name == "apiserver");
        assert!(api < first_client);
        assert!(PARTS.iter().skip_while(|part| !part.after_api).all(|part| part.after_api));
    }
}
