//! Work on many small files. Invariant: they lie in `small`, a hundred in a directory.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Done;
use crate::ground::{Ground, Numbers};

/// Files.
const FILES: usize = 10_000;
const IN_A_DIRECTORY: usize = 100;

fn names(ground: &Ground<'_>) -> Vec<PathBuf> {
    let base = ground.at("small");
    let name = |at: usize| base.join(format!("d{}/f{}", at / IN_A_DIRECTORY, at % IN_A_DIRECTORY));
    (0..ground.count(FILES)).map(name).collect()
}

pub fn remove(ground: &Ground<'_>) -> Result<()> {
    match fs::remove_dir_all(ground.at("small")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

pub fn create(ground: &Ground<'_>) -> Result<Done> {
    let data = Numbers(19).bytes(4096);
    let names = names(ground);
    for (at, name) in names.iter().enumerate() {
        if at % IN_A_DIRECTORY == 0 {
            fs::create_dir_all(name.parent().context("it lies in a directory")?)?;
        }
        File::create_new(name)?.write_all(&data)?;
    }
    Ok(Done::Amount(names.len() as f64))
}

pub fn make(ground: &Ground<'_>) -> Result<()> {
    if !ground.at("small").exists() {
        create(ground)?;
    }
    Ok(())
}

pub fn read(ground: &Ground<'_>) -> Result<Done> {
    let names = names(ground);
    let mut buffer = [0; 8192];
    for name in &names {
        ensure!(File::open(name)?.read(&mut buffer)? == 4096, "a file is not as it was written");
    }
    Ok(Done::Amount(names.len() as f64))
}

pub fn stat(ground: &Ground<'_>) -> Result<Done> {
    let names = names(ground);
    for name in &names {
        ensure!(rustix::fs::lstat(name)?.st_size == 4096, "a file has another size");
    }
    Ok(Done::Amount(names.len() as f64))
}

pub fn find(ground: &Ground<'_>) -> Result<Done> {
    let mut find = Command::new("find");
    let output = find.arg(ground.at("small")).args(["-type", "f", "-size", "-9", "-printf", "."]).output()?;
    let found = output.stdout.len();
    ensure!(found == ground.count(FILES), "find found {found} files");
    Ok(Done::Amount(found as f64))
}
