//! The newest migration that there was when this release was built.

use std::io::Result;

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=../migrations");
    let mut newest = 0;
    for file in std::fs::read_dir("../migrations")? {
        let name = file?.file_name();
        let version = name.to_str().and_then(|name| name.split_once('_')?.0.parse::<i64>().ok());
        newest = newest.max(version.unwrap_or(0));
    }
    println!("cargo:rustc-env=SCHEMA_VERSION={newest}");
    Ok(())
}
