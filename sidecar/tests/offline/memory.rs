//! What lies in a server's memory once keys were withheld, and what its core dump would hold.
//!
//! Invariant: the keys that are searched for are computed from the volume and the KMS by this process; the server that is
//! searched is another one, the real program.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use envelope::{HeaderRegion, KmsContext, PAGE, Preamble, Wrapping, unwrap_dek};
use hkdf::Hkdf;
use kms::{CallCtx, KeyRef, Options, SecretString};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit, setrlimit};
use sidecar::keys::RootKey;

use super::place::{KEY, Place, can_mount, config};

const FILES: usize = 64;

/// Something that must not be found, and what it is.
struct Secret {
    what: String,
    bytes: Vec<u8>,
}

/// A line of the file `number` that stands nowhere else.
fn canary(number: usize) -> Vec<u8> {
    format!("<canary {:016x}>", (number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)).into_bytes()
}

/// All keys of a file, from its header, its blocks and the KMS.
fn keys_of(path: &Path, root: &RootKey, place: &Place) -> Vec<Secret> {
    let bytes = std::fs::read(path).unwrap();
    let region = HeaderRegion::parse(&bytes).unwrap().unwrap();
    let preamble = region.preamble();
    let wrapped = region.current().unwrap().1.keys()[0].clone();
    let context = wrapped.file_context(preamble.origin(), preamble.file_id());
    let outer = unwrapped(root, &wrapped, &context, place);
    let (dek, group) = match &wrapped.wrapping {
        Wrapping::Direct => (outer.dek(), None),
        Wrapping::Grouped(local) => {
            let group = outer.group_key();
            let dek = unwrap_dek(&group, preamble.origin(), preamble.file_id(), local).unwrap();
            (dek, Some(group))
        }
    };
    preamble.verify(&dek).unwrap();
    let data = data_key(dek.expose(), preamble);
    let mut found = vec![("data encryption key", dek.expose().to_vec()), ("data key", data.to_vec())];
    found.extend(group.map(|group| ("group key", group.expose().to_vec())));
    let prefixes: std::collections::BTreeSet<_> =
        bytes[PAGE..].chunks_exact(PAGE).map(|page| page[..12].to_vec()).collect();
    found.extend(prefixes.iter().map(|prefix| ("key of a nonce prefix", prefix_key(&data, prefix))));
    let name = path.file_name().unwrap().to_string_lossy();
    found.into_iter().map(|(what, bytes)| Secret { what: format!("{what} of {name}"), bytes }).collect()
}

fn unwrapped(
    root: &RootKey,
    key: &envelope::WrappedKey,
    context: &KmsContext,
    place: &Place,
) -> sidecar::keys::Unwrapped {
    place.runtime.block_on(root.unwrap(key, context, &CallCtx::new())).unwrap()
}

fn data_key(dek: &[u8; 32], preamble: &Preamble) -> [u8; 32] {
    let mut out = [0; 32];
    let bound = &preamble.encode()[8..32];
    let expanded = Hkdf::<sha2::Sha512>::new(Some(&preamble.file_id().0), dek)
        .expand_multi_info(&[b"cofferdam/v1/file/data", bound], &mut out);
    expanded.unwrap();
    out
}

/// The AES-256-GCM key of XAES: CMAC over a counter and the prefix.
fn prefix_key(key: &[u8; 32], prefix: &[u8]) -> Vec<u8> {
    use aes_gcm::aes::cipher::{BlockCipherEncrypt, KeyInit};
    let aes = aes_gcm::aes::Aes256::new(key.into());
    let encrypt = |block: [u8; 16]| {
        let mut block = block.into();
        aes.encrypt_block(&mut block);
        <[u8; 16]>::from(block)
    };
    let zero = u128::from_be_bytes(encrypt([0; 16]));
    let subkey = ((zero << 1) ^ if zero >> 127 == 1 { 0x87 } else { 0 }).to_be_bytes();
    let half = |counter| {
        let mut block = [0, counter, b'X', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        block[4..].copy_from_slice(prefix);
        block.iter_mut().zip(subkey).for_each(|(byte, key)| *byte ^= key);
        encrypt(block)
    };
    [half(1), half(2)].concat()
}

/// Where each of `secrets` lies in the process's memory: what it is, and the mapping.
fn search(process: u32, secrets: &[Secret]) -> Vec<String> {
    let memory = File::open(format!("/proc/{process}/mem")).unwrap();
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let mut hits = Vec::new();
    let mut searched = 0;
    for line in maps.lines() {
        let (range, rest) = line.split_once(' ').unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let [start, end] = [start, end].map(|number| u64::from_str_radix(number, 16).unwrap());
        if !rest.starts_with('r') {
            continue;
        }
        let name = rest.split_whitespace().nth(4).unwrap_or("anonymous");
        let bytes = readable(&memory, start, end);
        searched += bytes.len();
        for place in matches(&bytes, secrets) {
            hits.push(format!("{} in {name}", secrets[place].what));
        }
    }
    assert!(searched > 1 << 20, "only {searched} bytes could be read");
    hits
}

/// What can be read of a mapping; the rest has no memory behind it.
fn readable(memory: &File, start: u64, end: u64) -> Vec<u8> {
    const STEP: usize = 1 << 20;
    let mut found = Vec::new();
    let mut at = start;
    while at < end {
        let mut piece = vec![0; STEP.min((end - at) as usize)];
        match memory.read_at(&mut piece, at) {
            Ok(read) if read > 0 => {
                found.extend_from_slice(&piece[..read]);
                at += read as u64;
            }
            _ => break,
        }
    }
    found
}

/// Which secrets stand in `bytes`, once for each place.
fn matches(bytes: &[u8], secrets: &[Secret]) -> Vec<usize> {
    let mut by_start: std::collections::HashMap<[u8; 8], Vec<usize>> = std::collections::HashMap::new();
    for (number, secret) in secrets.iter().enumerate() {
        by_start.entry(*secret.bytes.first_chunk().unwrap()).or_default().push(number);
    }
    let mut found = Vec::new();
    for at in 0..bytes.len().saturating_sub(8) {
        if bytes[at] == 0 && bytes[at + 1] == 0 {
            continue;
        }
        if let Some(numbers) = by_start.get(&bytes[at..at + 8]) {
            let here = numbers.iter().filter(|number| bytes[at..].starts_with(&secrets[**number].bytes));
            found.extend(here);
        }
    }
    found
}

/// The kinds of what was found, and how often.
fn told(hits: &[String]) -> String {
    let mut kinds = std::collections::BTreeMap::<_, usize>::new();
    for hit in hits {
        let (what, place) = (hit.split(" of file").next().unwrap(), hit.rsplit(" in ").next().unwrap());
        *kinds.entry(format!("{what} in {place}")).or_default() += 1;
    }
    format!("{kinds:?}")
}

fn root_key(place: &Place) -> Arc<RootKey> {
    let secret = SecretString::from("data-key".to_owned());
    let kms = kms::connect_with_secret(&config(&place.server), secret, &Options::default()).unwrap();
    Arc::new(RootKey::new(kms, KeyRef(KEY.into()), envelope::Provider::KeyProtect))
}

fn contents(number: usize) -> Vec<u8> {
    canary(number).repeat(400)
}

fn check(flags: &[&str]) {
    let place = Place::new();
    let names: Vec<_> = (0..FILES).map(|number| format!("file{number}")).collect();
    let mount = place.mount(flags);
    for (number, name) in names.iter().enumerate() {
        std::fs::write(place.path("plain").join(name), contents(number)).unwrap();
    }
    let mut open: Vec<_> =
        names.iter().map(|name| File::open(place.path("plain").join(name)).unwrap()).collect();
    for (number, file) in open.iter_mut().enumerate() {
        let mut read = Vec::new();
        file.read_to_end(&mut read).unwrap();
        assert!(read == contents(number));
    }
    let root = root_key(&place);
    let mut secrets: Vec<_> = (0..FILES)
        .map(|number| Secret { what: format!("plaintext of file{number}"), bytes: canary(number) })
        .collect();
    for name in &names {
        secrets.extend(keys_of(&place.path("raw").join(name), &root, &place));
    }
    let before = search(mount.child.id(), &secrets);
    let met = |kind: &str| before.iter().filter(|hit| hit.starts_with(kind)).count();
    eprintln!("while it serves: {}", told(&before));
    assert!(
        met("key of a nonce prefix") >= FILES,
        "the search does not find what is there: {}",
        told(&before)
    );
    assert!(met("plaintext") > 0, "{}", told(&before));
    place.set_enabled(false);
    await_refusal(&mut open[0]);
    let after = search(mount.child.id(), &secrets);
    assert!(after.is_empty(), "found after keys were withheld: {}", told(&after));
    place.set_enabled(true);
}

/// Until a read is refused for want of a key, and the work of the suspension is done.
fn await_refusal(file: &mut File) {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let refused = file.read_at(&mut [0; 100], 0).err().and_then(|error| error.raw_os_error());
        if refused == Some(libc::ENOKEY) {
            break;
        }
        assert!(Instant::now() < end, "not suspended: {refused:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(Duration::from_secs(6));
}

#[test]
fn no_key_and_no_plaintext_is_in_memory_once_keys_were_withheld() {
    if can_mount() {
        check(&[]);
    }
}

#[test]
fn no_key_that_the_kms_wrapped_itself_is_in_memory_once_keys_were_withheld() {
    if can_mount() {
        check(&["--direct"]);
    }
}

/// Lets `command` dump core, as far as it is up to its limits.
fn with_core_limit(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec only system calls are made.
    unsafe {
        command.pre_exec(|| {
            let hard = rustix::process::getrlimit(Resource::Core).maximum;
            Ok(setrlimit(Resource::Core, Rlimit { current: hard, maximum: hard })?)
        })
    }
}

/// Ends a process as a crash does; whether the kernel dumped its memory.
fn dumps_core(child: &mut Child) -> bool {
    let pid = Pid::from_child(child);
    // Once more, against what the process did about it itself; not everybody may.
    let limit = Rlimit { current: None, maximum: None };
    if let Err(error) = prlimit(Some(pid), Resource::Core, limit) {
        eprintln!("its limit cannot be raised from outside: {error}");
    }
    rustix::process::kill_process(pid, Signal::ABORT).unwrap();
    child.wait().unwrap().core_dumped()
}

#[test]
fn a_server_that_crashes_leaves_no_core_dump_whatever_its_limit() {
    if !can_mount() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut control = Command::new("sleep");
    control.arg("1000").current_dir(dir.path()).process_group(0).stdout(Stdio::null());
    let mut control = with_core_limit(&mut control).spawn().unwrap();
    // Until it is the program, and no copy of this process any more.
    std::thread::sleep(Duration::from_millis(200));
    if !dumps_core(&mut control) {
        assert!(std::env::var_os("CI").is_none(), "no process dumps core here, so nothing can be shown");
        eprintln!("SKIPPED: no process dumps core here");
        return;
    }
    let place = Place::new();
    let mut mount = place.mount_by(with_core_limit(&mut place.mount_command(&[])));
    std::fs::write(place.path("plain/file"), contents(0)).unwrap();
    assert!(!dumps_core(&mut mount.child), "the server dumped core");
    let left = std::fs::read_dir(place.dir.path()).unwrap();
    let cores: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert!(!cores.iter().any(|name| name.to_string_lossy().starts_with("core")), "{cores:?}");
}
