//! Where things are: the repository, the cache and a cluster's run folder. Invariant: nothing is created here.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::digest;

/// Overrides the folder of what is built once and kept.
pub const CACHE_VARIABLE: &str = "COFFERDAM_CACHE";
/// Overrides the folder of the cluster's state.
pub const RUN_VARIABLE: &str = "COFFERDAM_CLUSTER";

/// The folders that the commands work in.
#[derive(Clone, Debug)]
pub struct Places {
    /// The checkout that this program was built from.
    pub repository: PathBuf,
    /// What is built once and kept between checkouts.
    pub cache: PathBuf,
    /// The state of this checkout's cluster.
    pub run: PathBuf,
}

impl Places {
    /// The folders that the environment and the checkout give.
    pub fn from_environment() -> Result<Self> {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("find the repository above this crate")?
            .to_path_buf();
        let run = match env::var_os(RUN_VARIABLE) {
            Some(folder) => std::path::absolute(folder).context("make the run folder absolute")?,
            None => repository.join("target/cluster"),
        };
        Self::new(repository, cache_folder()?, run)
    }

    /// Folders of one's choice, for tests with a cluster of their own.
    pub fn new(repository: PathBuf, cache: PathBuf, run: PathBuf) -> Result<Self> {
        for hidden in ["/run", "/var/run", "/proc", "/sys"] {
            for folder in [&cache, &run] {
                let clear = !folder.starts_with(hidden);
                ensure!(clear, "{} lies in {hidden}, which the cluster hides", folder.display());
            }
        }
        Ok(Self { repository, cache, run })
    }

    /// Eight hex digits that tell this run folder from every other one on the machine.
    pub fn id(&self) -> String {
        digest::of(self.run.as_os_str().as_encoded_bytes())[..8].to_owned()
    }

    /// Where cargo puts what it builds.
    pub fn target(&self) -> PathBuf {
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| self.repository.join("target"), PathBuf::from)
    }

    /// A program of the workspace, as the profile for development builds it.
    pub fn program(&self, name: &str) -> PathBuf {
        self.target().join("debug").join(name)
    }

    /// The folder with the committed Go modules.
    pub fn go_modules(&self) -> PathBuf {
        self.repository.join("tests/cluster/go")
    }
}

fn cache_folder() -> Result<PathBuf> {
    if let Some(folder) = env::var_os(CACHE_VARIABLE) {
        return std::path::absolute(folder).context("make the cache folder absolute");
    }
    let base = match (env::var_os("XDG_CACHE_HOME"), env::var_os("HOME")) {
        (Some(cache), _) if Path::new(&cache).is_absolute() => PathBuf::from(cache),
        (_, Some(home)) => PathBuf::from(home).join(".cache"),
        _ => anyhow::bail!("neither {CACHE_VARIABLE}, XDG_CACHE_HOME nor HOME says where the cache is"),
    };
    Ok(base.join("cofferdam"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn at(run: &str) -> Result<Places> {
        Places::new("/src".into(), "/cache".into(), run.into())
    }

    #[test]
    fn two_run_folders_have_two_ids() {
        assert_ne!(at("/a/target/cluster").unwrap().id(), at("/b/target/cluster").unwrap().id());
        assert_eq!(at("/a").unwrap().id(), at("/a").unwrap().id());
        assert_eq!(at("/a").unwrap().id().len(), 8);
    }

    #[test]
    fn a_run_folder_that_the_cluster_would_hide_is_refused() {
        assert!(at("/run/user/1000/cluster").is_err());
        assert!(at("/home/runner/cluster").is_ok());
    }
}
