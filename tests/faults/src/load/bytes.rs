//! Reading back, and making durable. Invariant: what cannot be read is a finding, wherever it is.

use std::fs::File;
use std::io;
use std::path::Path;

use super::Findings;

/// Makes what stands in a directory durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// What is at `path`: `Ok(None)` if nothing is.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, String> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{}: cannot be read: {error}", path.display())),
    }
}

/// Where `found` is neither what was written nor, from `promised` on, zeros or the end.
pub fn problem(what: &Path, found: &[u8], written: &[u8], promised: usize) -> Option<String> {
    let what = what.display();
    if found.len() < promised {
        return Some(format!("{what}: {} bytes, of which {promised} were promised", found.len()));
    }
    if found.len() > written.len() {
        return Some(format!("{what}: {} bytes, and {} were written", found.len(), written.len()));
    }
    let wrong = |at: &usize| found[*at] != written[*at] && (*at < promised || found[*at] != 0);
    (0..found.len())
        .find(wrong)
        .map(|at| format!("{what}: byte {at} of {} is wrong, {promised} promised", found.len()))
}

/// Reads everything below `dir`.
pub fn read_all(dir: &Path, findings: &mut Findings) {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => return findings.broken.push(format!("{}: cannot be listed: {error}", dir.display())),
    };
    for entry in entries {
        let read = entry.and_then(|entry| {
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() {
                read_all(&path, findings);
            } else if kind.is_symlink() {
                std::fs::read_link(&path)?;
            } else if let Err(error) = std::fs::read(&path) {
                findings.broken.push(format!("{}: cannot be read: {error}", path.display()));
            }
            Ok(())
        });
        if let Err(error) = read {
            findings.broken.push(format!("{}: an entry cannot be read: {error}", dir.display()));
        }
    }
}
