//! The Debian packages that the commands need. Invariant: each stands here once, with its reason; none is installed that
//! is there already.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::places::Places;
use crate::process;
use crate::progress;

/// A package, a file that shows that it is installed, and what it is for.
struct Package {
    name: &'static str,
    shown_by: &'static str,
    reason: &'static str,
}

/// What the tests, the cluster, its build and the images need beyond Rust, Go and a C compiler.
const PACKAGES: &[Package] = &[
    Package { name: "iproute2", shown_by: "/sbin/ip", reason: "sets up the node's network" },
    Package { name: "nftables", shown_by: "/usr/sbin/nft", reason: "kube-proxy programs Services with it" },
    Package {
        name: "util-linux",
        shown_by: "/usr/bin/nsenter",
        reason: "makes and enters the node's namespaces",
    },
    Package { name: "mount", shown_by: "/bin/mount", reason: "mounts test volumes; kubelet calls it" },
    Package { name: "e2fsprogs", shown_by: "/sbin/mkfs.ext4", reason: "formats test volumes" },
    Package {
        name: "libseccomp-dev",
        shown_by: "/usr/include/seccomp.h",
        reason: "runc is linked with it: Pod Security `restricted` demands a seccomp profile",
    },
    Package { name: "pkg-config", shown_by: "/usr/bin/pkg-config", reason: "finds libseccomp" },
    Package {
        name: "gcc",
        shown_by: "/usr/bin/gcc",
        reason: "compiles runc's C part, and the library in front of SoftHSM",
    },
    Package { name: "g++", shown_by: "/usr/bin/g++", reason: "compiles the engine of the fuzz targets" },
    Package { name: "libc6-dev", shown_by: "/usr/include/stdlib.h", reason: "compiles runc's C part" },
    Package {
        name: "python3",
        shown_by: "/usr/bin/python3",
        reason: "runs the KMS vendor's own client against devkms",
    },
    Package {
        name: "python3-venv",
        shown_by: "/usr/lib/python3.11/ensurepip/__init__.py",
        reason: "keeps that client apart from the machine's packages; brings the OpenBao server",
    },
    Package {
        name: "softhsm2",
        shown_by: "/usr/bin/softhsm2-util",
        reason: "is the PKCS#11 token that the provider is tested against",
    },
    Package { name: "git", shown_by: "/usr/bin/git", reason: "gives the story the repository's own sources" },
    Package { name: "fio", shown_by: "/usr/bin/fio", reason: "writes and verifies on the filesystem" },
    Package {
        name: "stress-ng",
        shown_by: "/usr/bin/stress-ng",
        reason: "stresses the filesystem and verifies",
    },
    Package { name: "dbench", shown_by: "/usr/bin/dbench", reason: "plays a file server's load" },
    Package { name: "acl", shown_by: "/usr/bin/getfacl", reason: "compares ACLs of two trees" },
    Package { name: "attr", shown_by: "/usr/bin/getfattr", reason: "compares attributes of two trees" },
    Package {
        name: "sqlite3",
        shown_by: "/usr/bin/sqlite3",
        reason: "a database that is killed on the filesystem",
    },
    Package {
        name: "postgresql-15",
        shown_by: "/usr/lib/postgresql/15/bin/postgres",
        reason: "a database that is killed on the filesystem",
    },
    Package { name: "xfsprogs", shown_by: "/sbin/mkfs.xfs", reason: "formats a disk whose power tests cut" },
    Package {
        name: "nbdkit",
        shown_by: "/usr/bin/nbdkit",
        reason: "is a disk that fails when tests want it",
    },
    Package { name: "libnbd-bin", shown_by: "/usr/bin/nbdfuse", reason: "shows that disk to the kernel" },
    Package { name: "fuse3", shown_by: "/usr/bin/fusermount3", reason: "mounts for nbdfuse and gocryptfs" },
    Package {
        name: "gocryptfs",
        shown_by: "/usr/bin/gocryptfs",
        reason: "loses data in a power cut: shows that the test of ours can fail",
    },
    Package { name: "binutils", shown_by: "/usr/bin/strip", reason: "strips the programs of the image" },
];

/// Installs what is missing where this process may, and names it otherwise.
pub fn ensure_packages(places: &Places) -> Result<()> {
    let missing: Vec<_> = PACKAGES.iter().filter(|package| !Path::new(package.shown_by).exists()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|package| package.name).collect();
    let root = nix::unistd::geteuid().is_root();
    if !root || !Path::new("/usr/bin/apt-get").exists() {
        let reasons: Vec<_> =
            missing.iter().map(|package| format!("  {}: {}", package.name, package.reason)).collect();
        bail!(
            "these Debian packages are missing:\n{}\ninstall them: apt-get install {}",
            reasons.join("\n"),
            names.join(" ")
        );
    }
    let logs = places.cache.join("logs");
    progress::step(&format!("installing {}", names.join(", ")), || {
        process::logged(Command::new("apt-get").args(["-q", "update"]), &logs.join("apt-update.log"))?;
        let mut install = Command::new("apt-get");
        install.env("DEBIAN_FRONTEND", "noninteractive");
        install.args(["-q", "install", "--yes", "--no-install-recommends"]).args(&names);
        process::logged(&mut install, &logs.join("apt-install.log"))
    })
    .context("install Debian packages")
}
