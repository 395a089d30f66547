//! Sets the scene inside the new namespaces: folders of the cluster's own, the network, kernel settings. Invariant: what
//! it changes is visible in these namespaces only and goes with them.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;

use super::node::{self, INSIDE};
use crate::process;

/// Kernel settings that kubelet would change for the whole machine, with the values that it wants to find.
const KUBELET_WANTS: &[(&str, &str)] = &[
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Prepares everything that the parts expect; `run` is the run folder as it is called outside.
pub fn set(run: &Path, programs: &Path) -> Result<()> {
    folders(run, programs)?;
    kernel_settings()?;
    network()
}

fn folders(run: &Path, programs: &Path) -> Result<()> {
    let run = folder_handle(run)?;
    let programs = folder_handle(programs)?;
    // Kubelet needs shared propagation; the new mount namespace keeps it away from the host's mounts.
    mount_at(None, "/", None, MsFlags::MS_SHARED | MsFlags::MS_REC, None)?;
    let resolver = fs::canonicalize("/etc/resolv.conf").ok();
    mount_at(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
    mount_at(Some("tmpfs"), "/var/log", Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
    bind(&run, INSIDE)?;
    for folder in ["bin", "kubelet", "volumes", "logs", "overlay/upper", "overlay/work", "requests"] {
        let path = Path::new(INSIDE).join(folder);
        fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
    }
    bind(&programs, &format!("{INSIDE}/bin"))?;
    // Upper layer on the run folder's disk: what the parts write below /var/lib ends with the cluster.
    let layers = format!("lowerdir=/var/lib,upperdir={INSIDE}/overlay/upper,workdir={INSIDE}/overlay/work");
    mount_at(Some("overlay"), "/var/lib", Some("overlay"), MsFlags::empty(), Some(&layers))?;
    bind(&folder_handle(Path::new(&format!("{INSIDE}/kubelet")))?, node::KUBELET_ROOT)?;
    name_resolution(resolver.as_deref())
}

/// Programs inside ask the cluster's DNS server, like pods.
fn name_resolution(resolver: Option<&Path>) -> Result<()> {
    let ours = Path::new(INSIDE).join("resolv.conf");
    match resolver {
        Some(path) if path.exists() => {
            let source = ours.to_string_lossy().into_owned();
            mount_at(Some(&source), &path.to_string_lossy(), None, MsFlags::MS_BIND, None)
        }
        Some(path) => {
            // It was below /run, which is the cluster's own now.
            let folder = path.parent().context("find the resolver file's folder")?;
            fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
            fs::copy(&ours, path).map(drop).with_context(|| format!("write {}", path.display()))
        }
        None => Ok(()),
    }
}

fn kernel_settings() -> Result<()> {
    for (setting, wanted) in KUBELET_WANTS {
        let path = format!("/proc/sys/{setting}");
        if fs::read_to_string(&path).is_ok_and(|now| now.trim() != *wanted) {
            // Kubelet reads the value that it wants, and the machine keeps its own.
            let stand_in = format!("/run/kernel-settings/{}", setting.replace('/', "."));
            fs::create_dir_all("/run/kernel-settings").context("make a folder for kernel settings")?;
            fs::write(&stand_in, wanted).with_context(|| format!("write {stand_in}"))?;
            mount_at(Some(&stand_in), &path, None, MsFlags::MS_BIND, None)?;
        }
    }
    if !Path::new("/proc/sys/net/bridge").exists() {
        let mut modprobe = Command::new("modprobe");
        process::output(modprobe.args(["--all", "br_netfilter", "overlay"]))
            .context("load the kernel's bridge filter, which Services between pods of one node need")?;
    }
    for setting in ["ipv4/ip_forward", "bridge/bridge-nf-call-iptables"] {
        let path = format!("/proc/sys/net/{setting}");
        fs::write(&path, "1").with_context(|| format!("set {path}"))?;
    }
    Ok(())
}

fn network() -> Result<()> {
    let address = format!("{}/24", node::ADDRESS);
    let steps: &[&[&str]] = &[
        &["link", "set", "lo", "up"],
        &["link", "add", "node0", "type", "bridge"],
        &["address", "add", &address, "dev", "node0"],
        &["link", "set", "node0", "up"],
        // Service addresses need some route before kube-proxy's rules see them; there is nothing beyond.
        &["route", "add", "default", "dev", "node0"],
    ];
    for arguments in steps {
        process::output(Command::new("ip").args(*arguments)).context("set up the node's network")?;
    }
    Ok(())
}

fn folder_handle(path: &Path) -> Result<OwnedFd> {
    open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .with_context(|| format!("open {}", path.display()))
}

/// Binds by handle: the folder's own path may be hidden by a mount made since.
fn bind(folder: &OwnedFd, target: &str) -> Result<()> {
    fs::create_dir_all(target).with_context(|| format!("make {target}"))?;
    let source = format!("/proc/self/fd/{}", folder.as_raw_fd());
    mount_at(Some(&source), target, None, MsFlags::MS_BIND | MsFlags::MS_REC, None)?;
    // Out of its source's peer group and into one of its own: else each later mount below it would appear there too.
    mount_at(None, target, None, MsFlags::MS_PRIVATE | MsFlags::MS_REC, None)?;
    mount_at(None, target, None, MsFlags::MS_SHARED | MsFlags::MS_REC, None)
}

fn mount_at(
    source: Option<&str>,
    target: &str,
    kind: Option<&str>,
    flags: MsFlags,
    data: Option<&str>,
) -> Result<()> {
    mount(source, target, kind, flags, data).with_context(|| format!("mount {target}"))
}

/// Appends to a part's log.
pub fn log_of(part: &str) -> Result<File> {
    let path = format!("{INSIDE}/logs/{part}.log");
    File::options().append(true).create(true).open(&path).with_context(|| format!("open {path}"))
}
