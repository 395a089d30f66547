//! Tests of sealing and opening that need the cipher's inside: its generator, its budget and its caches.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::HashSet;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::{FileId, Geometry, VolumeId};

fn file() -> (Dek, Preamble) {
    let dek = Dek::generate().unwrap();
    let geometry = Geometry::new(1).unwrap();
    let preamble = Preamble::create(&dek, FileId([1; 16]), VolumeId([2; 16]), geometry);
    (dek, preamble)
}

fn cipher() -> BlockCipher {
    let (dek, preamble) = file();
    BlockCipher::new(&dek, &preamble).unwrap()
}

fn prefix_of(page: &[u8; PAGE]) -> Prefix {
    split_nonce(page).0
}

#[test]
fn the_cipher_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<BlockCipher>();
}

#[test]
fn a_failing_generator_seals_nothing() {
    let (dek, preamble) = file();
    let cipher = BlockCipher::with_random(&dek, &preamble, |_| Err(RandomError)).unwrap();
    let mut page = [0; PAGE];
    let error = CipherError::Random(RandomError);
    assert_eq!(cipher.seal_block(0, b"x", &mut page), Err(error));
    assert_eq!(cipher.seal_run(0, b"x", &mut page), Err(error));
    assert_eq!(page, [0; PAGE]);
}

#[test]
fn a_generator_that_fails_later_seals_nothing_more() {
    static BROKEN: AtomicBool = AtomicBool::new(false);
    let (dek, preamble) = file();
    let cipher = BlockCipher::with_random(&dek, &preamble, |out| {
        if BROKEN.load(Ordering::Relaxed) {
            return Err(RandomError);
        }
        fill_random(out)
    })
    .unwrap();
    let mut page = [0; PAGE];
    cipher.seal_block(0, b"x", &mut page).unwrap();
    BROKEN.store(true, Ordering::Relaxed);
    let error = CipherError::Random(RandomError);
    assert_eq!(cipher.seal_block(0, b"x", &mut page), Err(error));
    assert_eq!(cipher.seal_run(0, b"x", &mut page), Err(error));
}

#[test]
fn a_prefix_is_replaced_when_its_budget_is_used_up() {
    let cipher = cipher();
    let (mut first, mut second, mut third) = ([0; PAGE], [0; PAGE], [0; PAGE]);
    cipher.seal_block(0, b"x", &mut first).unwrap();
    let sealer = cipher.sealer.read().unwrap().clone().unwrap();
    assert_eq!(sealer.left.load(Ordering::Relaxed), PREFIX_BUDGET - 1);
    sealer.left.store(1, Ordering::Relaxed);
    cipher.seal_block(1, b"x", &mut second).unwrap();
    cipher.seal_block(2, b"x", &mut third).unwrap();
    assert_eq!(prefix_of(&first), prefix_of(&second));
    assert_ne!(prefix_of(&second), prefix_of(&third));
    let mut out = [0; PAYLOAD];
    for (index, page) in [first, second, third].iter().enumerate() {
        assert_eq!(cipher.open_block(index as u64, page, &mut out), Ok(Opened::Data(1)));
    }
}

#[test]
fn blocks_of_more_sessions_than_the_cache_holds_all_open() {
    let (dek, preamble) = file();
    let pages: Vec<[u8; PAGE]> = (0..3 * OPENERS as u64)
        .map(|index| {
            let mut page = [0; PAGE];
            let session = BlockCipher::new(&dek, &preamble).unwrap();
            session.seal_block(index, &[index as u8], &mut page).unwrap();
            page
        })
        .collect();
    let reader = BlockCipher::new(&dek, &preamble).unwrap();
    for _ in 0..2 {
        for (index, page) in pages.iter().enumerate() {
            let mut out = [9; PAYLOAD];
            reader.open_block(index as u64, page, &mut out).unwrap();
            assert_eq!(out[..2], [index as u8, 0]);
        }
    }
    assert_eq!(reader.openers.read().unwrap().entries.len(), OPENERS);
}

#[test]
fn no_nonce_comes_twice_in_many_blocks_of_many_sessions() {
    let (dek, preamble) = file();
    let mut seen = HashSet::new();
    let plaintext = vec![0; 100 * PAYLOAD];
    let mut pages = vec![0; 100 * PAGE];
    for _ in 0..50 {
        let session = BlockCipher::new(&dek, &preamble).unwrap();
        session.seal_run(0, &plaintext, &mut pages).unwrap();
        for page in pages.chunks_exact(PAGE) {
            assert!(seen.insert(page[..NONCE_LEN].to_vec()));
        }
    }
    assert_eq!(seen.len(), 5000);
}

#[test]
fn threads_that_share_a_cipher_read_what_the_others_wrote() {
    let cipher = cipher();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let cipher = &cipher;
            scope.spawn(move || {
                for step in 0..200 {
                    let index = thread * 1000 + step;
                    let plain = [index as u8; 1000];
                    let (mut page, mut out) = ([0; PAGE], [0; PAYLOAD]);
                    cipher.seal_block(index, &plain, &mut page).unwrap();
                    assert_eq!(cipher.open_block(index, &page, &mut out), Ok(Opened::Data(1000)));
                    assert_eq!(out[..1000], plain);
                }
            });
        }
    });
}

#[test]
fn a_run_is_the_same_as_its_blocks_one_by_one() {
    let cipher = cipher();
    let plaintext: Vec<u8> = (0..70 * PAYLOAD + 5).map(|i| (i * 7 % 251) as u8).collect();
    let mut pages = vec![0; 71 * PAGE];
    cipher.seal_run(40, &plaintext, &mut pages).unwrap();
    let (pages, _) = pages.as_chunks::<PAGE>();
    for (step, (page, expected)) in pages.iter().zip(plaintext.chunks(PAYLOAD)).enumerate() {
        let mut out = [0; PAYLOAD];
        let opened = cipher.open_block(40 + step as u64, page, &mut out);
        assert_eq!(opened, Ok(Opened::Data(expected.len())));
        assert_eq!(&out[..expected.len()], expected);
    }
}

#[test]
fn lengths_that_no_block_has_are_refused() {
    let cipher = cipher();
    let mut page = [0; PAGE];
    let refused = Err(CipherError::Length);
    assert_eq!(cipher.seal_block(0, &[], &mut page), refused);
    assert_eq!(cipher.seal_block(0, &[0; PAYLOAD + 1], &mut page), refused);
    assert_eq!(cipher.seal_run(0, &[], &mut []), refused);
    assert_eq!(cipher.seal_run(0, b"x", &mut page[..4095]), refused);
    assert_eq!(cipher.seal_run(0, &[0; PAYLOAD + 1], &mut page), refused);
}

#[test]
fn an_error_leaves_no_byte_in_the_output() {
    let cipher = cipher();
    let (mut page, mut out) = ([0; PAGE], [0xEE; PAYLOAD]);
    cipher.seal_block(0, b"secret", &mut page).unwrap();
    let wrong = cipher.open_block(1, &page, &mut out);
    let source = BlockError::Tag;
    assert_eq!(wrong, Err(CipherError::Block { index: 1, source }));
    assert_eq!(out, [0; PAYLOAD]);
}

#[test]
fn a_page_of_zeros_is_a_hole_and_a_page_that_only_begins_with_zeros_is_an_error() {
    let cipher = cipher();
    let (mut page, mut out) = ([0; PAGE], [0xEE; PAYLOAD]);
    assert_eq!(cipher.open_block(5, &page, &mut out), Ok(Opened::Hole));
    assert_eq!(out, [0; PAYLOAD]);
    page[PAGE - 1] = 1;
    let source = BlockError::Head;
    let error = CipherError::Block { index: 5, source };
    assert_eq!(cipher.open_block(5, &page, &mut out), Err(error));
}

#[test]
fn a_cipher_needs_the_key_that_the_preamble_commits_to() {
    let (_, preamble) = file();
    let other = Dek::generate().unwrap();
    let error = BlockCipher::new(&other, &preamble).unwrap_err();
    assert_eq!(error, HeaderError::WrongKey);
}
