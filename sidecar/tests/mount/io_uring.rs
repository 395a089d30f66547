//! The whole suite once more, with requests that come by io_uring, where the kernel offers that.

use std::process::Command;

use crate::memory_mount;
use crate::server::start;

/// The environment variable that has every server of this process's tests get its requests by io_uring.
const BY_RING: &str = "COFFERDAM_TEST_IO_URING";
const PARAMETER: &str = "/sys/module/fuse/parameters/enable_uring";
/// What a server is told for that.
const FLAG: &str = "io-uring";

/// The flag, where it is to be given.
pub fn flag() -> Option<&'static str> {
    std::env::var_os(BY_RING).map(|_| FLAG)
}

/// The kernel's parameter; as it was, when this is dropped.
struct Parameter {
    before: String,
}

impl Parameter {
    fn set(value: &str) -> std::io::Result<Self> {
        let before = std::fs::read_to_string(PARAMETER)?;
        std::fs::write(PARAMETER, value)?;
        Ok(Self { before })
    }
}

impl Drop for Parameter {
    fn drop(&mut self) {
        let _ = std::fs::write(PARAMETER, self.before.trim());
    }
}

#[test]
fn all_of_it_holds_over_io_uring_which_is_refused_where_it_is_not_offered() {
    if flag().is_some() || start(&[]).is_none() {
        return;
    }
    let before = match Parameter::set("N") {
        Ok(before) => before,
        Err(error) => {
            eprintln!("SKIPPED: no FUSE over io_uring: {PARAMETER}: {error}");
            return;
        }
    };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let refused = memory_mount::run(&[path("backing"), path("mount"), FLAG.to_owned()]).unwrap_err();
    assert!(refused.to_string().contains("fuse.enable_uring"), "{refused}");
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(dir.path().to_str().unwrap()), "the mount that was refused is there");

    let offered = Parameter::set("Y").unwrap();
    let mut again = Command::new(std::env::current_exe().unwrap());
    let status = again.env(BY_RING, "1").status().unwrap();
    assert!(status.success(), "the suite over io_uring: {status}");
    drop((offered, before));
}
