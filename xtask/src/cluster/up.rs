//! Starts the cluster. Invariant: it returns well only when a pod could start, a Service be reached and a name resolved.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::state::{self, State};
use super::{Cluster, build, cgroup, configuration, down, lookup, node};
use crate::{image, process, progress};

/// How long each wait of the start may take.
const LIMIT: Duration = Duration::from_mins(2);
/// More starts of one part than a slow machine or a test explains.
const MANY_STARTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// Starts the cluster unless it runs.
pub fn up(cluster: &Cluster) -> Result<()> {
    let _lock = state::lock(cluster.places())?;
    let started = Instant::now();
    if let Ok(pid) = cluster.first_process() {
        progress::note(&format!("the cluster runs already; its first process is {pid}"));
    } else {
        ensure!(nix::unistd::geteuid().is_root(), "the cluster needs root: it makes namespaces and mounts");
        let programs = build::build(cluster.places())?;
        down::remove_leftovers(cluster)?;
        prepare(cluster).context("prepare the run folder")?;
        start(cluster, &programs)?;
    }
    // Also for one that runs: an earlier start may have been interrupted.
    progress::step("waiting for the API server", || wait_for_api(cluster))?;
    progress::step("waiting for the node", || wait_for_node(cluster))?;
    progress::step("waiting for Services and names", || wait_for_names(cluster))?;
    progress::note(&format!("the cluster is ready after {:.1} s", started.elapsed().as_secs_f32()));
    Ok(())
}

/// Waits until a part that was started again does its work.
pub fn wait_for_part(cluster: &Cluster, part: &str) -> Result<()> {
    match part {
        "etcd" | "apiserver" => wait_for_api(cluster),
        "kubelet" | "containerd" => {
            let started = Instant::now();
            wait_for_kubelet(cluster)?;
            progress::note(&format!("kubelet is well after {:.1} s", started.elapsed().as_secs_f32()));
            Ok(())
        }
        "dns" => wait_for_names(cluster),
        _ => Ok(()),
    }
}

fn prepare(cluster: &Cluster) -> Result<()> {
    let run = &cluster.places().run;
    let logs = run.join("logs");
    if logs.exists() {
        fs::remove_dir_all(&logs).context("remove the logs of the former start")?;
    }
    fs::create_dir_all(&logs).with_context(|| format!("make {}", logs.display()))?;
    fs::set_permissions(run, fs::Permissions::from_mode(0o700))
        .with_context(|| format!("close {} to others", run.display()))?;
    let group = cgroup::name(cluster.places());
    cgroup::make(&group)?;
    configuration::write(run, &group, snapshotter(run)?)
}

/// overlayfs cannot stand on itself: where the run folder is on one, images are unpacked by copying.
fn snapshotter(run: &Path) -> Result<&'static str> {
    let kind =
        nix::sys::statfs::statfs(run).context("look at the run folder's filesystem")?.filesystem_type();
    Ok(if kind == nix::sys::statfs::OVERLAYFS_SUPER_MAGIC { "native" } else { "overlayfs" })
}

/// Starts the first process in new namespaces, detached from this one.
fn start(cluster: &Cluster, programs: &Path) -> Result<()> {
    let run = &cluster.places().run;
    let log = File::create(run.join("logs/init.log")).context("create the first process's log")?;
    let own = std::env::current_exe().context("find this program")?;
    let program = run.join(down::FIRST_PROCESS);
    // A copy: a later build of this program replaces the original.
    fs::copy(&own, &program).with_context(|| format!("copy {}", own.display()))?;
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    unshare.args(["--propagation", "private", "--"]).arg(&program);
    unshare.args(["cluster", "init", "--programs"]).arg(programs).arg("--run").arg(run);
    unshare.stdin(Stdio::null()).stdout(log.try_clone().context("share the log")?).stderr(log);
    unshare.current_dir("/").process_group(0);
    let mut keeper = unshare.spawn().context("start unshare")?;
    progress::until("the first process", LIMIT, Duration::from_millis(20), || {
        // Done when the parts are published: then the namespaces are set up.
        if keeper.try_wait().context("look at unshare")?.is_some() {
            return Ok(());
        }
        ensure!(run.join("parts.json").exists(), "it is still setting up");
        Ok(())
    })?;
    record(cluster, &mut keeper)
}

fn record(cluster: &Cluster, keeper: &mut Child) -> Result<()> {
    let keeper_id = keeper.id().cast_signed();
    if keeper.try_wait().context("look at unshare")?.is_none() {
        for pid in state::processes()? {
            if state::parent(pid).is_ok_and(|parent| parent == keeper_id) {
                return State::of(pid)?.write(cluster.places());
            }
        }
    }
    bail!(
        "the cluster's first process ended at once:\n{}",
        process::tail(&cluster.places().run.join("logs/init.log"))
    )
}

fn wait_for_api(cluster: &Cluster) -> Result<()> {
    wait(cluster, "apiserver", || {
        process::output(&mut cluster.kubectl(["get", "--raw", "/readyz"])?).map(drop)
    })
}

fn wait_for_node(cluster: &Cluster) -> Result<()> {
    let base = fs::read_to_string(cluster.places().run.join("base.json")).context("read the base objects")?;
    wait(cluster, "apiserver", || cluster.apply(&base).map(drop))?;
    wait(cluster, "containerd", || image::import_pause(cluster))?;
    wait(cluster, "kubelet", || {
        let ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
        let said = process::output(&mut cluster.kubectl(["get", "node", node::NAME, "--output", ready])?)?;
        ensure!(said == "True", "the node's condition Ready is '{said}'");
        Ok(())
    })?;
    wait(cluster, "controller-manager", || {
        let get = ["get", "serviceaccount", "default", "--namespace", "default"];
        process::output(&mut cluster.kubectl(get)?).map(drop)
    })
}

/// Kubelet's own word and then a new report from it: the node's condition would say Ready for a while after its end.
fn wait_for_kubelet(cluster: &Cluster) -> Result<()> {
    let mut before = None;
    wait(cluster, "kubelet", || {
        let healthz = format!("/api/v1/nodes/{}/proxy/healthz", node::NAME);
        let said = process::output(&mut cluster.kubectl(["get", "--raw", &healthz])?)?;
        ensure!(said.trim() == "ok", "kubelet says {said}");
        let condition = "jsonpath={.status.conditions[?(@.type=='Ready')]['status','lastHeartbeatTime']}";
        let now =
            process::output(&mut cluster.kubectl(["get", "node", node::NAME, "--output", condition])?)?;
        let first = before.get_or_insert_with(|| now.clone());
        ensure!(now.starts_with("True") && now != *first, "the node's condition Ready is '{now}'");
        Ok(())
    })
}

fn wait_for_names(cluster: &Cluster) -> Result<()> {
    wait(cluster, "dns", || {
        let found = lookup::address(cluster, "kubernetes.default.svc.cluster.local")?;
        let expected: Ipv4Addr = node::API_SERVICE.parse().context("read the API Service's address")?;
        ensure!(found == expected, "the API server's name resolves to {found}");
        Ok(())
    })
}

/// Waits; when it was in vain, the end of the part's log says why.
fn wait(cluster: &Cluster, part: &str, mut ready: impl FnMut() -> Result<()>) -> Result<()> {
    let logs = cluster.places().run.join("logs");
    progress::until(part, LIMIT, PAUSE, || {
        if cluster.first_process().is_err() || failing_part(cluster).is_some() {
            return Ok(());
        }
        ready()
    })
    .with_context(|| {
        let log = logs.join(format!("{part}.log"));
        format!("the end of {}:\n{}", log.display(), process::tail(&log))
    })?;
    if let Some(failing) = failing_part(cluster) {
        bail!("{failing} ends again and again:\n{}", process::tail(&logs.join(format!("{failing}.log"))));
    }
    cluster.first_process().map(drop).with_context(|| {
        format!("the cluster ended while it started:\n{}", process::tail(&logs.join("init.log")))
    })
}

/// A part that does not stay up: waiting longer would not help.
fn failing_part(cluster: &Cluster) -> Option<String> {
    let parts = cluster.parts().ok()?;
    let failing =
        parts.into_iter().find(|part| part.starts > MANY_STARTS && part.pid.is_none() && !part.held);
    failing.map(|part| part.name)
}
