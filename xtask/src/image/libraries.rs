//! Which shared libraries a program needs. Invariant: asked of the dynamic loader itself, in the tree that the program
//! belongs to; a library that is not found is an error, never left out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;

/// The dynamic loader's own path in an image.
#[cfg(target_arch = "x86_64")]
pub const LOADER: &str = "lib64/ld-linux-x86-64.so.2";
/// The dynamic loader's own path in an image.
#[cfg(target_arch = "aarch64")]
pub const LOADER: &str = "lib/ld-linux-aarch64.so.1";

/// The libraries, as paths on this machine, that `program` of the tree below `root` needs.
pub fn of(program: &Path, root: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut loader = Command::new(loader(root)?);
    if root != Path::new("/") {
        loader.arg("--inhibit-cache").arg("--library-path").arg(folders(root));
    }
    loader.arg("--list").arg(program);
    let list = process::output(&mut loader)
        .with_context(|| format!("ask for the libraries of {}", program.display()))?;
    read(&list).with_context(|| format!("read the libraries of {}", program.display()))
}

/// The dynamic loader of the tree below `root`; its usual path may be a link that is absolute in that tree.
pub fn loader(root: &Path) -> Result<PathBuf> {
    let path = root.join(LOADER);
    match std::fs::read_link(&path) {
        Ok(target) if target.is_absolute() => {
            Ok(root.join(target.strip_prefix("/").context("make a link's target relative")?))
        }
        _ if path.exists() => Ok(path),
        _ => bail!("there is no {}", path.display()),
    }
}

fn folders(root: &Path) -> String {
    let multiarch = format!("{}-linux-gnu", std::env::consts::ARCH);
    let folders =
        [format!("lib/{multiarch}"), format!("usr/lib/{multiarch}"), "lib".into(), "usr/lib".into()];
    folders.map(|folder| root.join(folder).to_string_lossy().into_owned()).join(":")
}

/// Lines are `name => path (address)`; the loader and the kernel's page have no arrow.
fn read(list: &str) -> Result<BTreeSet<PathBuf>> {
    let mut libraries = BTreeSet::new();
    for line in list.lines() {
        let Some((name, place)) = line.trim().split_once(" => ") else { continue };
        let Some((path, _)) = place.rsplit_once(" (") else { bail!("{name} is {place}") };
        if !name.contains("ld-linux") {
            libraries.insert(PathBuf::from(path));
        }
    }
    Ok(libraries)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_libraries_of_the_shell_are_found_and_exist() {
        let shell = std::fs::canonicalize("/bin/sh").unwrap();
        let libraries = of(&shell, Path::new("/")).unwrap();
        assert!(libraries.iter().any(|path| path.ends_with("libc.so.6")), "{libraries:?}");
        assert!(libraries.iter().all(|path| path.exists()), "{libraries:?}");
    }

    #[test]
    fn a_missing_library_is_an_error() {
        assert!(read("\tlibx.so.1 => not found\n").is_err());
        assert_eq!(read("\tlinux-vdso.so.1 (0x1)\n\tlibx.so => /l/libx.so (0x2)\n").unwrap().len(), 1);
    }
}
