//! Builds the cluster's programs from the committed Go modules. Invariant: an output folder is named after all that it
//! was made from and appears only when it is whole, so what is there is right.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::debian;
use crate::digest;
use crate::places::Places;
use crate::process;
use crate::progress;

/// One Go module and how it is built.
struct Tool {
    /// Its folder below `tests/cluster/go`.
    module: &'static str,
    /// `.` for a program of ours, `tool` for the programs that the module's `tool` lines name.
    target: &'static str,
    /// Whether it has a part in C.
    cgo: bool,
    tags: &'static str,
    linker: &'static str,
    /// The programs that come out, and under which names they are run.
    programs: &'static [(&'static str, &'static [&'static str])],
}

const STRIPPED: &str = "-s -w";
const KUBERNETES_VERSION: &str = "-s -w -X k8s.io/component-base/version.gitVersion=v1.37.2 \
    -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37";

/// Every program of the cluster; the first is the one that takes minutes.
const TOOLS: &[Tool] = &[
    Tool {
        module: "kubernetes",
        target: ".",
        cgo: false,
        tags: "",
        linker: KUBERNETES_VERSION,
        programs: &[(
            "kubernetes",
            &[
                "kube-apiserver",
                "kube-controller-manager",
                "kube-proxy",
                "kube-scheduler",
                "kubectl",
                "kubelet",
            ],
        )],
    },
    Tool {
        module: "containerd",
        target: "tool",
        cgo: false,
        tags: "no_btrfs,no_devmapper,no_zfs",
        linker: STRIPPED,
        programs: &[
            ("containerd", &["containerd"]),
            ("containerd-shim-runc-v2", &["containerd-shim-runc-v2"]),
            ("ctr", &["ctr"]),
        ],
    },
    Tool {
        module: "runc",
        target: "tool",
        cgo: true, // its first stage, which enters namespaces, is C
        tags: "seccomp,netgo,osusergo",
        linker: "-s -w -linkmode external -extldflags -static",
        programs: &[("runc", &["runc"])],
    },
    Tool {
        module: "cni",
        target: "tool",
        cgo: false,
        tags: "",
        linker: STRIPPED,
        programs: &[("bridge", &["bridge"]), ("host-local", &["host-local"]), ("loopback", &["loopback"])],
    },
    Tool {
        module: "etcd",
        target: ".",
        cgo: false,
        tags: "",
        linker: STRIPPED,
        programs: &[("etcd", &["etcd"])],
    },
    Tool {
        module: "coredns",
        target: ".",
        cgo: false,
        tags: "",
        linker: STRIPPED,
        programs: &[("coredns", &["coredns"])],
    },
    Tool {
        module: "helm",
        target: "tool",
        cgo: false,
        tags: "",
        linker: STRIPPED,
        programs: &[("helm", &["helm"])],
    },
    Tool {
        module: "pause",
        target: ".",
        cgo: false,
        tags: "",
        linker: STRIPPED,
        programs: &[("pause", &["pause"])],
    },
];

/// Builds what the cache lacks. Returns the folder with every program under the name that it is run by.
pub fn build(places: &Places) -> Result<PathBuf> {
    debian::ensure_packages(places)?;
    let missing: Vec<_> = outputs(places)?.into_iter().filter(|(_, folder)| !folder.exists()).collect();
    if !missing.is_empty() {
        require_go()?;
    }
    let count = missing.len();
    for (number, (tool, folder)) in missing.into_iter().enumerate() {
        let what = format!("building {} ({} of {count})", tool.module, number + 1);
        progress::step(&what, || build_tool(places, tool, &folder))?;
    }
    programs(places)
}

/// The folder with every program, made of links into the cache; an error where something is not built.
pub fn programs(places: &Places) -> Result<PathBuf> {
    let outputs = outputs(places)?;
    let mut hash = Sha256::new();
    for (_, folder) in &outputs {
        hash.update(folder.as_os_str().as_encoded_bytes());
    }
    let folder = places.cache.join("bin").join(digest::short(hash));
    if folder.exists() {
        return Ok(folder);
    }
    appearing_whole(&folder, |unfinished| {
        for (tool, built) in &outputs {
            link_programs(tool, built, unfinished)?;
        }
        Ok(())
    })?;
    Ok(folder)
}

fn link_programs(tool: &Tool, built: &Path, folder: &Path) -> Result<()> {
    for (program, names) in tool.programs {
        let target = built.join(program);
        if !target.exists() {
            bail!("{} is not built; run: cargo xtask cluster build", target.display());
        }
        for name in *names {
            std::os::unix::fs::symlink(&target, folder.join(name))
                .with_context(|| format!("link {name} to {}", target.display()))?;
        }
    }
    Ok(())
}

fn outputs(places: &Places) -> Result<Vec<(&'static Tool, PathBuf)>> {
    TOOLS
        .iter()
        .map(|tool| {
            let key = key(tool, &places.go_modules().join(tool.module))?;
            Ok((tool, places.cache.join("go").join(format!("{}-{key}", tool.module))))
        })
        .collect()
}

/// A hash of the module's files and of how they are built.
fn key(tool: &Tool, module: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(format!("{} {} {} {}\n", tool.target, tool.cgo, tool.tags, tool.linker));
    let mut files: Vec<_> = fs::read_dir(module)
        .with_context(|| format!("list {}", module.display()))?
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("list {}", module.display()))?;
    files.sort_by_key(fs::DirEntry::file_name);
    for file in files {
        let bytes = fs::read(file.path()).with_context(|| format!("read {}", file.path().display()))?;
        hash.update(file.file_name().as_encoded_bytes());
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    }
    Ok(digest::short(hash))
}

fn build_tool(places: &Places, tool: &Tool, folder: &Path) -> Result<()> {
    appearing_whole(folder, |unfinished| {
        let mut go = Command::new("go");
        go.current_dir(places.go_modules().join(tool.module));
        go.env("CGO_ENABLED", if tool.cgo { "1" } else { "0" }).env("GOWORK", "off").env("GOFLAGS", "");
        go.args(["build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-tags", tool.tags]);
        go.args(["-ldflags", tool.linker, "-o"]).arg(unfinished.join("")).arg(tool.target);
        process::logged(&mut go, &places.cache.join("logs").join(format!("build-{}.log", tool.module)))
    })
}

/// Fills a folder beside `folder` and renames it when `fill` is through: two builds at once do no harm.
fn appearing_whole(folder: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let unfinished = folder.with_extension(format!("unfinished-{}", std::process::id()));
    fs::create_dir_all(&unfinished).with_context(|| format!("make {}", unfinished.display()))?;
    let result = fill(&unfinished).and_then(|()| match fs::rename(&unfinished, folder) {
        Err(_) if folder.exists() => Ok(()), // another build was first, with the same content
        renamed => renamed.with_context(|| format!("rename {}", unfinished.display())),
    });
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).with_context(|| format!("remove {}", unfinished.display()))?;
    }
    result
}

fn require_go() -> Result<()> {
    let Ok(version) = process::output(Command::new("go").arg("version")) else {
        bail!("Go is missing: the cluster is built with it (version 1.26 or newer)");
    };
    progress::note(version.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn an_output_is_named_after_every_byte_it_was_made_from() {
        let module = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(module.path().join(name), text).unwrap();
        write("go.mod", "module x");
        let first = key(&TOOLS[0], module.path()).unwrap();
        assert_eq!(first, key(&TOOLS[0], module.path()).unwrap());
        assert_ne!(first, key(&TOOLS[1], module.path()).unwrap(), "other flags");
        write("go.sum", "");
        assert_ne!(first, key(&TOOLS[0], module.path()).unwrap(), "another file");
    }

    #[test]
    fn a_failed_build_leaves_no_output() {
        let cache = tempfile::tempdir().unwrap();
        let folder = cache.path().join("tool-1");
        let failed = appearing_whole(&folder, |unfinished| {
            fs::write(unfinished.join("half"), "").unwrap();
            bail!("no")
        });
        assert!(failed.is_err() && !folder.exists());
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0);
    }

    #[test]
    fn every_tool_has_its_module_committed() {
        let places = Places::from_environment().unwrap();
        for tool in TOOLS {
            assert!(places.go_modules().join(tool.module).join("go.mod").exists(), "{}", tool.module);
        }
    }

    #[test]
    fn the_version_that_kubernetes_says_is_the_version_that_is_built() {
        let places = Places::from_environment().unwrap();
        let module = fs::read_to_string(places.go_modules().join("kubernetes/go.mod")).unwrap();
        let version = KUBERNETES_VERSION.split("gitVersion=").nth(1).unwrap().split(' ').next().unwrap();
        assert!(module.contains(&format!("k8s.io/kubernetes {version}\n")), "{version}");
    }
}
