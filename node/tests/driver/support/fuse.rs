//! The least FUSE server that the kernel takes for one: an empty root directory (fuse(4), protocol 7.31).

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;
const ENOENT: i32 = 2;
const ENOSYS: i32 = 38;

/// Answers INIT and returns; panics if the kernel has another request first.
pub fn answer_init(device: &mut File) {
    let mut buffer = vec![0; 1 << 18];
    let length = device.read(&mut buffer).unwrap();
    assert!(length >= 40, "a request has a header");
    assert_eq!(word(&buffer, 4), INIT, "INIT comes first");
    let mut out = vec![];
    for value in [7_u32, 31, 65536, 0] {
        out.extend(value.to_le_bytes());
    }
    // max_background and congestion_threshold, max_write, time_gran, max_pages and map_alignment, unused.
    out.extend(12_u16.to_le_bytes());
    out.extend(9_u16.to_le_bytes());
    for value in [65536_u32, 1, 0] {
        out.extend(value.to_le_bytes());
    }
    out.resize(64, 0);
    reply(device, &buffer, 0, &out);
}

/// Answers requests until the connection ends.
pub fn serve(mut device: File) {
    let mut buffer = vec![0; 1 << 18];
    while let Ok(length) = device.read(&mut buffer) {
        assert!(length >= 40);
        match word(&buffer, 4) {
            FORGET | BATCH_FORGET | INTERRUPT => {}
            GETATTR => reply(&mut device, &buffer, 0, &root_attributes()),
            LOOKUP => reply(&mut device, &buffer, ENOENT, &[]),
            _ => reply(&mut device, &buffer, ENOSYS, &[]),
        }
    }
}

/// Reads requests and answers none, until the connection ends.
pub fn swallow(mut device: File) {
    let mut buffer = vec![0; 1 << 18];
    while device.read(&mut buffer).is_ok() {}
}

/// The device as a file.
pub fn device(fd: OwnedFd) -> File {
    File::from(fd)
}

fn reply(device: &mut File, request: &[u8], errno: i32, body: &[u8]) {
    let mut out = vec![];
    out.extend((16 + body.len() as u32).to_le_bytes());
    out.extend((-errno).to_le_bytes());
    out.extend(&request[8..16]);
    out.extend(body);
    // ENOENT: whoever asked has been interrupted meanwhile.
    let _ = device.write(&out);
}

/// `fuse_attr_out` of a directory that the kernel must ask about each time.
fn root_attributes() -> Vec<u8> {
    let mut out = vec![0; 16 + 88];
    out[16..24].copy_from_slice(&1_u64.to_le_bytes());
    out[76..80].copy_from_slice(&0o040_755_u32.to_le_bytes());
    out[80..84].copy_from_slice(&2_u32.to_le_bytes());
    out
}

fn word(buffer: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(buffer[at..at + 4].try_into().unwrap())
}
