//! Writes the custom resource definitions into the folders that it is given; `cargo xtask generate` runs it.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folders: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if folders.is_empty() {
        return Err("say which folders to write to".into());
    }
    for folder in folders {
        std::fs::create_dir_all(&folder)?;
        for (name, crd) in api::crd::all() {
            let text = format!("{}{}", api::crd::HEADER, serde_saphyr::to_string(&crd)?);
            std::fs::write(folder.join(name), text)?;
        }
    }
    Ok(())
}
