//! What the format can NOT notice. Each test shows that the change goes through; `docs/file-format.md` lists them all.
//! A test here that fails means that the format became stronger: then the specification must say so.

use envelope::{BlockCipher, PAGE, PAYLOAD, Seal};

use crate::sample::{ReadError, Sample, file, header, pattern, read, rewrap, seal_key, sealed_file};

/// Overwrites block `index` with new plaintext, as a later write would.
fn overwrite(sample: &mut Sample, index: u64, plaintext: &[u8]) {
    let cipher = BlockCipher::new(&sample.dek, header(&sample.bytes).preamble()).unwrap();
    let start = (index as usize + 1) * PAGE;
    let page = sample.bytes[start..].first_chunk_mut().unwrap();
    cipher.seal_block(index, plaintext, page).unwrap();
}

#[test]
fn an_older_version_of_a_block_put_back_is_not_noticed() {
    let old = pattern(1, 2 * PAYLOAD);
    let mut sample = file(1, &old);
    let kept = sample.bytes[PAGE..2 * PAGE].to_vec();
    overwrite(&mut sample, 0, &pattern(2, PAYLOAD));
    assert_ne!(read(&sample.bytes, 1, &sample.dek, true).unwrap(), old);
    sample.bytes[PAGE..2 * PAGE].copy_from_slice(&kept);
    assert_eq!(read(&sample.bytes, 1, &sample.dek, true), Ok(old));
}

#[test]
fn a_zeroed_block_reads_as_zeros_unless_the_volume_is_strict() {
    let plaintext = pattern(1, 3 * PAYLOAD);
    let mut sample = file(1, &plaintext);
    sample.bytes[2 * PAGE..3 * PAGE].fill(0);
    let mut zeroed = plaintext;
    zeroed[PAYLOAD..2 * PAYLOAD].fill(0);
    assert_eq!(read(&sample.bytes, 1, &sample.dek, false), Ok(zeroed));
    let refused = Err(ReadError::Hole(1));
    assert_eq!(read(&sample.bytes, 1, &sample.dek, true), refused);
}

#[test]
fn blocks_cut_off_the_end_are_not_noticed() {
    let plaintext = pattern(1, 3 * PAYLOAD);
    let sample = file(1, &plaintext);
    let cut = &sample.bytes[..3 * PAGE];
    let expected = plaintext[..2 * PAYLOAD].to_vec();
    assert_eq!(read(cut, 1, &sample.dek, true), Ok(expected));
}

#[test]
fn blocks_zeroed_at_the_end_are_not_noticed_even_on_a_strict_volume() {
    let plaintext = pattern(1, 3 * PAYLOAD);
    let mut sample = file(1, &plaintext);
    sample.bytes[3 * PAGE..].fill(0);
    let expected = plaintext[..2 * PAYLOAD].to_vec();
    assert_eq!(read(&sample.bytes, 1, &sample.dek, true), Ok(expected));
}

#[test]
fn an_older_key_slot_put_back_is_not_noticed() {
    let mut sample = file(1, b"x");
    let older = sample.bytes.clone();
    rewrap(&mut sample.bytes, "v2");
    assert_eq!(header(&sample.bytes).current().unwrap().1.keys()[0].version, "v2");
    sample.bytes[..PAGE].copy_from_slice(&older[..PAGE]);
    assert_eq!(header(&sample.bytes).current().unwrap().1.keys()[0].version, "v1");
    assert_eq!(read(&sample.bytes, 1, &sample.dek, true), Ok(b"x".to_vec()));
}

#[test]
fn an_older_version_of_a_whole_file_is_not_noticed() {
    let sample = file(1, b"old contents");
    let mut newer = Sample { dek: sample.dek, bytes: sample.bytes.clone() };
    overwrite(&mut newer, 0, b"new contents");
    assert_eq!(read(&newer.bytes, 1, &newer.dek, true), Ok(b"new contents".to_vec()));
    assert_eq!(read(&sample.bytes, 1, &newer.dek, true), Ok(b"old contents".to_vec()));
}

#[test]
fn two_files_exchanged_under_each_others_names_are_not_noticed() {
    // The KMS gives each header its own DEK, whatever the file is called: nothing in the bytes names a path.
    let (a, b) = (file(1, b"to alice"), file(1, b"to bob"));
    let (at_a, at_b) = (b, a);
    assert_eq!(read(&at_a.bytes, 1, &at_a.dek, true), Ok(b"to bob".to_vec()));
    assert_eq!(read(&at_b.bytes, 1, &at_b.dek, true), Ok(b"to alice".to_vec()));
}

#[test]
fn a_file_emptied_from_outside_reads_as_empty() {
    let sample = file(1, &pattern(1, PAYLOAD));
    assert_eq!(read(&[], 1, &sample.dek, true), Ok(vec![]));
    assert_eq!(read(&sample.bytes[..PAGE], 1, &sample.dek, true), Ok(vec![]));
    let mut zeroed = sample.bytes.clone();
    zeroed[..PAGE].fill(0);
    assert_eq!(read(&zeroed, 1, &sample.dek, true), Ok(vec![]));
}

#[test]
fn sizes_and_which_blocks_changed_are_visible() {
    let plaintext = pattern(1, PAYLOAD + 7);
    let mut sample = file(1, &plaintext);
    let before = sample.bytes.clone();
    overwrite(&mut sample, 0, &plaintext[..PAYLOAD]);
    let changed: Vec<usize> =
        (0..3).filter(|page| before[page * PAGE..][..PAGE] != sample.bytes[page * PAGE..][..PAGE]).collect();
    assert_eq!(changed, [1]);
    let head = sample.bytes[2 * PAGE..].first_chunk().unwrap();
    assert_eq!(envelope::peek_len(head).unwrap().claimed(), Some(7));
}

#[test]
fn blocks_cut_off_while_the_seal_is_open_are_not_noticed() {
    let plaintext = pattern(1, 3 * PAYLOAD);
    let sample = sealed_file(&plaintext, Seal::Open);
    let expected = plaintext[..2 * PAYLOAD].to_vec();
    assert_eq!(read(&sample.bytes[..3 * PAGE], 1, &sample.dek, true), Ok(expected));
}

#[test]
fn an_older_seal_put_back_with_the_size_that_it_says_is_not_noticed() {
    let plaintext = pattern(1, 3 * PAYLOAD);
    let sample = sealed_file(&plaintext, Seal::Closed(plaintext.len() as u64));
    // What stood there when the file had two blocks, and while it was being written.
    let key = seal_key(&sample.dek, header(&sample.bytes).preamble()).unwrap();
    for (older, blocks) in [(Seal::Closed(2 * PAYLOAD as u64), 2), (Seal::Open, 1)] {
        let mut cut = sample.bytes[..(1 + blocks) * PAGE].to_vec();
        assert!(matches!(read(&cut, 1, &sample.dek, true), Err(ReadError::Size { .. })));
        cut[512..1024].copy_from_slice(&key.make(older));
        assert_eq!(read(&cut, 1, &sample.dek, true), Ok(plaintext[..blocks * PAYLOAD].to_vec()));
    }
}

#[test]
fn a_file_with_a_seal_that_is_cut_to_nothing_reads_as_empty() {
    let sample = sealed_file(&pattern(1, PAYLOAD), Seal::Closed(PAYLOAD as u64));
    assert_eq!(read(&[], 1, &sample.dek, true), Ok(vec![]));
    let mut zeroed = sample.bytes;
    zeroed[..PAGE].fill(0);
    assert_eq!(read(&zeroed, 1, &sample.dek, true), Ok(vec![]));
}
