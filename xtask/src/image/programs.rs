//! The image of Cofferdam's programs. Invariant: it holds the programs, the libraries that they need and no shell.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::layer::Layer;
use super::{libraries, make_parent};
use crate::places::Places;
use crate::{process, progress};

/// The programs in the image, and the packages that they are built from.
const PROGRAMS: &[(&str, &str)] = &[
    ("cofferdam-operator", "cofferdam-operator"),
    ("cofferdam-sidecar", "cofferdam-sidecar"),
    ("cofferdam-node", "cofferdam-node"),
    ("devkms", "cofferdam-devkms"),
];

/// How the programs are compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Quick to build: for the tests.
    Dev,
    /// Optimised: for measurements.
    Release,
}

/// Compiles Cofferdam's programs with cargo.
pub fn build(places: &Places, profile: Profile) -> Result<()> {
    let packages: Vec<_> = PROGRAMS.iter().map(|(_, package)| *package).collect();
    progress::step("building Cofferdam's programs", || compile(places, profile, &packages))
}

/// Compiles packages of the workspace with cargo. For the tests the whole workspace is compiled, with the features that its
/// tests have too, so that no dependency is built twice.
pub fn compile(places: &Places, profile: Profile, packages: &[&str]) -> Result<()> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&places.repository).args(["build", "--locked"]);
    match profile {
        Profile::Dev => drop(cargo.args(["--workspace", "--all-targets"])),
        Profile::Release => {
            cargo.arg("--release");
            for package in packages {
                cargo.args(["--package", package]);
            }
        }
    }
    process::logged(&mut cargo, &places.cache.join("logs").join(format!("cargo-{}.log", places.id())))
}

/// The image's files.
pub fn layer(places: &Places, profile: Profile) -> Result<Vec<u8>> {
    let mut layer = Layer::new();
    let built = output_folder(places, profile);
    for (program, _) in PROGRAMS {
        let source = built.join(program);
        if !source.exists() {
            bail!("cargo built no {}", source.display());
        }
        let stripped = strip(places, &source)?;
        layer.program(&format!("usr/bin/{program}"), &stripped)?;
        add_libraries(&mut layer, &stripped)?;
    }
    base(&mut layer, "cofferdam:x:65532:65532:cofferdam:/:/sbin/nologin\n", "cofferdam:x:65532:\n")?;
    layer.finish()
}

/// Libraries stand in the image where the loader looks for them by default.
fn add_libraries(layer: &mut Layer, program: &Path) -> Result<()> {
    layer.program(libraries::LOADER, &real(&libraries::loader(Path::new("/"))?)?)?;
    for library in libraries::of(program, Path::new("/"))? {
        let name = library.file_name().context("find a library's name")?.to_string_lossy().into_owned();
        layer.program(&format!("usr/lib/{name}"), &real(&library)?)?;
    }
    Ok(())
}

/// The files that every image has: users, name look-up, a place for temporary files.
pub fn base(layer: &mut Layer, users: &str, groups: &str) -> Result<()> {
    let root_user = "root:x:0:0:root:/root:/bin/sh\n";
    let nobody = "nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n";
    layer.text("etc/passwd", &format!("{root_user}{users}{nobody}"))?;
    layer.text("etc/group", &format!("root:x:0:\n{groups}nogroup:x:65534:\n"))?;
    layer.text("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")?;
    layer.shared_folder("tmp")
}

/// The folder that cargo puts programs into.
pub fn output_folder(places: &Places, profile: Profile) -> PathBuf {
    let folder = if profile == Profile::Release { "release" } else { "debug" };
    places.target().join(folder)
}

/// A copy of a program without its debug information.
pub fn strip(places: &Places, program: &Path) -> Result<PathBuf> {
    let name = program.file_name().context("find a program's name")?;
    let target = places.cache.join("images").join(places.id()).join("stripped").join(name);
    make_parent(&target)?;
    process::output(Command::new("strip").arg("-o").arg(&target).arg(program))?;
    Ok(target)
}

fn real(path: &Path) -> Result<PathBuf> {
    std::fs::canonicalize(path).with_context(|| format!("resolve {}", path.display()))
}
