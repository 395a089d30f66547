//! How fast one core seals and opens blocks: `cargo run --release -p cofferdam-envelope --example throughput`.
//!
//! Prints megabytes (10^6) of plaintext per second. A figure to read, not a test.

use std::hint::black_box;
use std::time::Instant;

use envelope::{BlockCipher, Dek, FileId, Geometry, PAGE, PAYLOAD, Preamble, VolumeId};

const BLOCKS: u32 = 256;
const ROUNDS: u32 = 200;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dek = Dek::generate()?;
    let preamble = Preamble::create(&dek, FileId::generate()?, VolumeId::generate()?, Geometry::new(1)?);
    let cipher = BlockCipher::new(&dek, &preamble)?;
    let plaintext = vec![7; BLOCKS as usize * PAYLOAD];
    let mut sealed = vec![0; BLOCKS as usize * PAGE];
    cipher.seal_run(0, &plaintext, &mut sealed)?;

    report("seal, runs of 256 blocks", || cipher.seal_run(0, &plaintext, &mut sealed))?;
    report("seal, block by block", || {
        let pages = sealed.as_chunks_mut::<PAGE>().0.iter_mut();
        (0..)
            .zip(pages.zip(plaintext.chunks(PAYLOAD)))
            .try_for_each(|(index, (page, plain))| cipher.seal_block(index, plain, page))
    })?;
    let mut out = vec![0; BLOCKS as usize * PAYLOAD];
    report("open, block by block", || {
        let pages = sealed.as_chunks::<PAGE>().0.iter();
        let outs = out.as_chunks_mut::<PAYLOAD>().0.iter_mut();
        (0..).zip(pages.zip(outs)).try_for_each(|(index, (page, out))| {
            cipher.open_block(index, page, out).map(|opened| {
                black_box(opened);
            })
        })
    })?;
    let start = Instant::now();
    for _ in 0..10_000 {
        black_box(BlockCipher::new(&dek, &preamble)?);
    }
    println!("verify a key and derive the cipher: {:.1} µs", start.elapsed().as_secs_f64() * 100.0);
    println!("size of a cipher: {} bytes", size_of::<BlockCipher>());
    Ok(())
}

fn report<E>(what: &str, mut round: impl FnMut() -> Result<(), E>) -> Result<(), E> {
    round()?;
    let start = Instant::now();
    for _ in 0..ROUNDS {
        round()?;
    }
    let bytes = f64::from(ROUNDS) * f64::from(BLOCKS * PAYLOAD as u32);
    println!("{what}: {:.0} MB/s", bytes / start.elapsed().as_secs_f64() / 1e6);
    Ok(())
}
