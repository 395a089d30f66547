//! `cargo xtask mounts …`: encrypted mounts on this machine by mount(8), with the KMS for development behind them, for the
//! test suites of others and for trying out. Invariant: `down` ends and removes what `up` started and installed, and leaves
//! keys and volumes.

mod command;
mod kms;
mod pid_file;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

pub use self::command::{MountsCommand, run};
use self::kms::Kms;

/// The name under which mount(8) looks for the program of the type `fuse.cofferdam`.
pub const PROGRAM: &str = "mount.fuse.cofferdam";
/// What a script of ours begins with, so that nobody else's file is overwritten or removed.
const SIGN: &str =
    "#!/bin/sh\n# Installed by `cargo xtask mounts up`; removed by `cargo xtask mounts down`.\n";

/// The folder with the KMS, the profile, the script and the volumes.
#[derive(Debug)]
pub struct Mounts {
    folder: PathBuf,
    kms: Kms,
}

impl Mounts {
    /// All that lies in `folder`; nothing is started.
    pub fn at(folder: &Path) -> Result<Self> {
        let folder = std::path::absolute(folder).context("make the folder of the mounts absolute")?;
        let spaces = folder.to_string_lossy().contains([' ', ',', '\'', '"', '\\']);
        ensure!(!spaces, "{}: no option of mount(8) can name this folder", folder.display());
        let kms = Kms::at(folder.join("kms"));
        Ok(Self { folder, kms })
    }

    /// Starts the KMS, unless it runs, and writes the profile and the script; `programs` holds the project's programs.
    pub fn start(&self, programs: &Path) -> Result<()> {
        fs::create_dir_all(self.volumes()).with_context(|| format!("make {}", self.volumes().display()))?;
        self.kms.start(&programs.join("devkms"))?;
        let script = self.script(&programs.join("cofferdam-sidecar"));
        fs::write(self.program(), script).context("write the mount program")?;
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(self.program(), executable).context("make the mount program executable")
    }

    /// Ends the KMS; keys and volumes stay.
    pub fn stop(&self) -> Result<()> {
        self.kms.stop()
    }

    /// The script that mount(8) calls.
    pub fn program(&self) -> PathBuf {
        self.folder.join(PROGRAM)
    }

    /// Where the volume `NAME` lies, as the directory `NAME`.
    pub fn volumes(&self) -> PathBuf {
        self.folder.join("volumes")
    }

    /// The file that says which root key protects the volumes.
    pub fn profile(&self) -> PathBuf {
        self.kms.profile()
    }

    fn script(&self, sidecar: &Path) -> String {
        let options = format!(
            "profile={},allow_loopback_http,root={},log={},fstype=fuse",
            self.profile().display(),
            self.volumes().display(),
            self.folder.join("mounts.log").display(),
        );
        format!("{SIGN}exec '{}' {PROGRAM} --defaults '{options}' \"$@\"\n", sidecar.display())
    }

    /// Puts the script where mount(8) looks for it.
    fn install(&self, directory: &Path) -> Result<PathBuf> {
        let place = directory.join(PROGRAM);
        let free = !place.exists() || is_ours(&place);
        ensure!(free, "{} is there already and not ours", place.display());
        // By a name of its own first: a mount that begins just now finds the old script or the new one.
        let new = directory.join(format!("{PROGRAM}.new"));
        fs::copy(self.program(), &new).and_then(|_| fs::rename(&new, &place)).with_context(|| {
            format!("install {} (as root; `--install DIRECTORY` names another place)", place.display())
        })?;
        Ok(place)
    }
}

/// Removes the script from where mount(8) looks for it; one of somebody else stays.
fn uninstall(directory: &Path) -> Result<()> {
    let place = directory.join(PROGRAM);
    if is_ours(&place) {
        fs::remove_file(&place).with_context(|| format!("remove {}", place.display()))?;
    }
    Ok(())
}

fn is_ours(script: &Path) -> bool {
    fs::read_to_string(script).is_ok_and(|text| text.starts_with(SIGN))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_program_of_somebody_else_is_neither_replaced_nor_removed() {
        let folder = tempfile::tempdir().unwrap();
        let mounts = Mounts::at(&folder.path().join("mounts")).unwrap();
        fs::create_dir_all(&mounts.folder).unwrap();
        fs::write(mounts.program(), mounts.script(Path::new("/bin/sidecar"))).unwrap();
        let sbin = folder.path().join("sbin");
        fs::create_dir(&sbin).unwrap();
        let place = mounts.install(&sbin).unwrap();
        mounts.install(&sbin).unwrap();
        uninstall(&sbin).unwrap();
        assert!(!place.exists());
        fs::write(&place, "#!/bin/sh\nsomebody's\n").unwrap();
        assert!(mounts.install(&sbin).is_err());
        uninstall(&sbin).unwrap();
        assert!(place.exists());
    }

    #[test]
    fn a_folder_that_no_option_could_name_is_refused() {
        assert!(Mounts::at(Path::new("/a,b")).is_err());
        assert!(Mounts::at(Path::new("/a b")).is_err());
        assert!(Mounts::at(Path::new("/a/b")).is_ok());
    }
}
