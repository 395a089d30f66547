//! Writes the table of conformance into the page that is named: `cargo xtask generate` calls it.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("name the page")?;
    let page = std::fs::read_to_string(&path)?;
    std::fs::write(path, providers::page::renewed(&page).ok_or("the page lacks its marks")?)?;
    Ok(())
}
