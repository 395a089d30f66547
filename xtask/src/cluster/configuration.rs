//! The files and arguments with which the parts of the cluster start. Invariant: every path in them is one of `node`'s,
//! so that they mean the same in every checkout.

use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::certificates::{Authority, Identity, private};
use super::node::{self, INSIDE};

/// The clients of the API server: file, user, group.
const CLIENTS: &[(&str, &str, Option<&str>)] = &[
    ("admin", "admin", Some("system:masters")),
    ("controller-manager", "system:kube-controller-manager", None),
    ("scheduler", "system:kube-scheduler", None),
    ("kubelet", "system:node:node1", Some("system:nodes")),
    ("proxy", "system:kube-proxy", None),
    ("dns", "system:coredns", None),
];

/// Writes every configuration file into the run folder. `snapshotter` is containerd's.
pub fn write(run: &Path, cgroup: &str, snapshotter: &str) -> Result<()> {
    let authority = Authority::new()?;
    super::certificates::write(&authority, &run.join("pki"))?;
    for (file, user, group) in CLIENTS {
        let text = kubeconfig(authority.certificate(), &authority.client(user, *group)?);
        private(&run.join(format!("{file}.kubeconfig")), &text.to_string())?;
    }
    let files = [
        ("kubelet.yaml", kubelet(cgroup).to_string()),
        ("proxy.yaml", proxy().to_string()),
        ("containerd.toml", containerd(snapshotter)),
        ("cni/10-bridge.conflist", network().to_string()),
        ("Corefile", corefile()),
        ("resolv.conf", resolver()),
        ("base.json", base_objects().to_string()),
    ];
    for (name, text) in files {
        let path = run.join(name);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// A kubeconfig (JSON is YAML) that needs no other file.
fn kubeconfig(authority: &str, client: &Identity) -> Value {
    let data = |text: &str| STANDARD.encode(text);
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "cofferdam",
        "clusters": [{"name": "cofferdam", "cluster": {
            "server": node::API, "certificate-authority-data": data(authority)}}],
        "users": [{"name": "cofferdam", "user": {
            "client-certificate-data": data(&client.certificate), "client-key-data": data(&client.key)}}],
        "contexts": [{"name": "cofferdam", "context": {"cluster": "cofferdam", "user": "cofferdam"}}],
    })
}

fn kubelet(cgroup: &str) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "failCgroupV1": false, "cgroupDriver": "cgroupfs", "cgroupRoot": format!("/{cgroup}"),
        "containerRuntimeEndpoint": format!("unix://{INSIDE}/containerd.sock"),
        "authentication": {"anonymous": {"enabled": false}, "webhook": {"enabled": true},
            "x509": {"clientCAFile": format!("{INSIDE}/pki/ca.crt")}},
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": format!("{INSIDE}/pki/kubelet.crt"),
        "tlsPrivateKeyFile": format!("{INSIDE}/pki/kubelet.key"),
        "failSwapOn": false, "resolvConf": "", "oomScoreAdj": 0,
        "volumePluginDir": format!("{INSIDE}/flexvolumes"),
        "clusterDomain": "cluster.local", "clusterDNS": [node::DNS_SERVICE],
        // The disk is a developer's own: its state must not evict pods.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "0%", "imagefs.available": "0%",
            "nodefs.inodesFree": "0%", "imagefs.inodesFree": "0%"},
        "imageGCHighThresholdPercent": 100, "localStorageCapacityIsolation": false,
        "syncFrequency": "10s", "nodeStatusUpdateFrequency": "2s", "maxPods": 110,
    })
}

fn proxy() -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": format!("{INSIDE}/proxy.kubeconfig")},
        "hostnameOverride": node::NAME, "clusterCIDR": node::PODS,
        "mode": "nftables", "nftables": {"minSyncPeriod": "100ms"},
        "conntrack": {"maxPerCore": 0}, // a limit of the whole machine
        "oomScoreAdj": 0,               // a lower one needs CAP_SYS_RESOURCE
    })
}

fn containerd(snapshotter: &str) -> String {
    format!(
        r#"version = 3
root = "{INSIDE}/containerd"
state = "{INSIDE}/containerd-state"
disabled_plugins = ["io.containerd.nri.v1.nri"]
[grpc]
address = "{INSIDE}/containerd.sock"
[plugins.'io.containerd.internal.v1.opt']
path = "{INSIDE}/opt"
[plugins.'io.containerd.cri.v1.images']
snapshotter = "{snapshotter}"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "localhost/pause:1"
[plugins.'io.containerd.cri.v1.runtime']
# Where CAP_SYS_RESOURCE is missing, runc cannot lower a score and fails with "can't get final child's PID".
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["{INSIDE}/bin"]
conf_dir = "{INSIDE}/cni"
"#
    )
}

fn network() -> Value {
    json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [
        {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
         "ipam": {"type": "host-local", "dataDir": format!("{INSIDE}/addresses"),
            "ranges": [[{"subnet": node::PODS}]], "routes": [{"dst": "0.0.0.0/0"}]}}]})
}

fn corefile() -> String {
    format!(
        "cluster.local:53 {{\n  bind {0}\n  errors\n  health {0}:8080\n  ready {0}:8181\n  kubernetes {{\n    \
         kubeconfig {INSIDE}/dns.kubeconfig cofferdam\n    pods insecure\n    ttl 1\n  }}\n}}\n",
        node::ADDRESS
    )
}

fn resolver() -> String {
    format!(
        "nameserver {}\nsearch default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n",
        node::ADDRESS
    )
}

/// What the cluster itself needs in the API: the Service of its DNS server, which is a process of the node, the rights
/// of that server, and the storage class of the test volumes.
fn base_objects() -> Value {
    let dns = json!({"name": "kube-dns", "namespace": "kube-system"});
    let ports = ["UDP", "TCP"].map(|protocol| {
        json!({"name": format!("dns-{}", protocol.to_lowercase()), "port": 53, "protocol": protocol})
    });
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Service", "metadata": dns,
         "spec": {"clusterIP": node::DNS_SERVICE, "ports": ports}},
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
         "metadata": {"name": "kube-dns-node", "namespace": "kube-system",
            "labels": {"kubernetes.io/service-name": "kube-dns"}},
         "endpoints": [{"addresses": [node::ADDRESS], "conditions": {"ready": true}}], "ports": ports},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "system:coredns"},
         "rules": [
            {"apiGroups": [""], "resources": ["services", "namespaces", "pods"], "verbs": ["list", "watch"]},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]}]},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
         "metadata": {"name": "system:coredns"},
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"},
         "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:coredns"}]},
        {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": node::STORAGE_CLASS},
         "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer"},
    ]})
}
