//! The challenge of `contract::gate`: HMAC-SHA-256 under the gate's key over a random nonce and the volume's name.
//!
//! Invariant: an answer says nothing without its MAC, compared in constant time.

use std::ffi::CString;
use std::io;
use std::path::Path;

use contract::gate::{Answer, CHALLENGE_XATTR_PREFIX, MAC_LABEL};
use hmac::{Hmac, KeyInit, Mac};
use rustix::io::Errno;
use sha2::Sha256;

use super::{Mount, Verdict};

/// Of a mount that nobody can serve any more.
const DEAD: &str = "its connection has ended, and this container sees no other one";
/// `statfs` type of a FUSE mount.
const FUSE_MAGIC: i64 = 0x6573_5546;
/// Bytes of the gate's key.
const KEY_LEN: usize = 32;

/// The JSON that answers a challenge, for the filesystem. `None` if `nonce` is not 32 hex digits.
pub fn answer(
    key: &[u8],
    volume: &str,
    nonce: &str,
    serving: bool,
    reason: &str,
    message: &str,
) -> Option<Vec<u8>> {
    let mac = mac(key, volume, &from_hex(nonce)?).finalize().into_bytes();
    let answer =
        Answer { mac: to_hex(&mac), serving, reason: reason.to_owned(), message: message.to_owned() };
    serde_json::to_vec(&answer).ok()
}

/// Whether `answer` was made with the gate's key for this volume and nonce.
pub fn verify(key: &[u8], volume: &str, nonce: &[u8; 16], answer: &Answer) -> bool {
    from_hex(&answer.mac).is_some_and(|claimed| mac(key, volume, nonce).verify_slice(&claimed).is_ok())
}

fn mac(key: &[u8], volume: &str, nonce: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(MAC_LABEL);
    mac.update(nonce);
    mac.update(volume.as_bytes());
    mac
}

pub(super) fn look(mount: &Mount, key_file: &Path) -> Verdict {
    let not_yet = |what: &str, error: &dyn std::fmt::Display| Verdict::Wait(format!("{what}: {error}"));
    let key = match std::fs::read(key_file) {
        Ok(key) if key.len() == KEY_LEN => key,
        Ok(_) => return Verdict::Wait("the sidecar has not written its key".into()),
        Err(error) => return not_yet("the sidecar has not written its key", &error),
    };
    let kind = match rustix::fs::statfs(&mount.path) {
        Ok(stat) => stat.f_type,
        Err(Errno::NOENT | Errno::NOTDIR) => return Verdict::Wrong("is not mounted".into()),
        Err(Errno::NOTCONN | Errno::CONNABORTED) => return Verdict::Dead(DEAD.into()),
        Err(error) => return not_yet("the mount does not answer", &error),
    };
    if kind != FUSE_MAGIC {
        return Verdict::Wrong(format!("is a filesystem of type {kind:#x}, not the encrypted mount"));
    }
    let mut nonce = [0; 16];
    if let Err(error) = getrandom::fill(&mut nonce) {
        return not_yet("no random numbers", &error);
    }
    match ask(&mount.path, &nonce) {
        Ok(text) => judge(&key, mount, &nonce, &text),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => {
            Verdict::Wrong("is a FUSE mount that does not know the challenge".into())
        }
        Err(error) => not_yet("the mount does not answer the challenge", &error),
    }
}

fn judge(key: &[u8], mount: &Mount, nonce: &[u8; 16], text: &[u8]) -> Verdict {
    let Ok(answer) = serde_json::from_slice::<Answer>(text) else {
        return Verdict::Wrong("is a FUSE mount that does not understand the challenge".into());
    };
    if !verify(key, &mount.volume, nonce, &answer) {
        return Verdict::Wrong("is not served by this pod's sidecar".into());
    }
    if answer.serving {
        Verdict::Passed
    } else {
        Verdict::Wait(format!("{}: {}", answer.reason, answer.message))
    }
}

fn ask(path: &Path, nonce: &[u8; 16]) -> Result<Vec<u8>, Errno> {
    let name =
        CString::new(format!("{CHALLENGE_XATTR_PREFIX}{}", to_hex(nonce))).map_err(|_| Errno::INVAL)?;
    let mut text = vec![0; 16 * 1024];
    let len = rustix::fs::getxattr(path, name.as_c_str(), text.as_mut_slice())?;
    text.truncate(len);
    Ok(text)
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

/// The gate's key: made once for a pod, kept over restarts of the sidecar.
pub fn ensure_key(path: &Path) -> io::Result<Vec<u8>> {
    use std::os::unix::fs::OpenOptionsExt;
    match std::fs::read(path) {
        Ok(key) if key.len() == KEY_LEN => return Ok(key),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut key = vec![0; KEY_LEN];
    getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
    let new = path.with_extension("new");
    // Readable by the pod's other of our containers: it has the same uid.
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    io::Write::write_all(&mut file, &key)?;
    std::fs::rename(new, path)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const KEY: [u8; 32] = [7; 32];
    const NONCE: [u8; 16] = [9; 16];

    fn answered(volume: &str, serving: bool) -> Vec<u8> {
        answer(&KEY, volume, &to_hex(&NONCE), serving, "KeyDisabled", "the root key is disabled").unwrap()
    }

    fn mount() -> Mount {
        Mount { volume: "data".into(), path: "/nowhere".into() }
    }

    #[test]
    fn an_answer_under_the_key_passes_and_says_whether_data_is_served() {
        assert_eq!(judge(&KEY, &mount(), &NONCE, &answered("data", true)), Verdict::Passed);
        let waiting = judge(&KEY, &mount(), &NONCE, &answered("data", false));
        assert_eq!(waiting, Verdict::Wait("KeyDisabled: the root key is disabled".into()));
    }

    #[test]
    fn an_answer_for_another_volume_nonce_or_key_is_a_wrong_mount() {
        let other_volume = judge(&KEY, &mount(), &NONCE, &answered("logs", true));
        let other_nonce = judge(&KEY, &mount(), &[8; 16], &answered("data", true));
        let other_key = judge(&[8; 32], &mount(), &NONCE, &answered("data", true));
        for verdict in [other_volume, other_nonce, other_key, judge(&KEY, &mount(), &NONCE, b"{}")] {
            assert!(matches!(verdict, Verdict::Wrong(_)), "{verdict:?}");
        }
    }

    #[test]
    fn a_directory_on_a_nodes_disk_is_a_wrong_mount() {
        let dir = tempfile::tempdir().unwrap();
        let key_file = dir.path().join("gate.key");
        let mount = Mount { volume: "data".into(), path: dir.path().into() };
        assert!(matches!(look(&mount, &key_file), Verdict::Wait(_)));
        ensure_key(&key_file).unwrap();
        assert!(matches!(look(&mount, &key_file), Verdict::Wrong(_)));
    }

    #[test]
    fn the_gates_key_outlives_a_restart_of_the_sidecar() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gate.key");
        let key = ensure_key(&path).unwrap();
        assert_eq!(ensure_key(&path).unwrap(), key);
        assert_ne!(key, vec![0; 32]);
    }
}
