//! Where scenarios are: a path, or a name in `tests/scenarios` of this workspace.

use std::path::{Path, PathBuf};

use truebound_sim::scenario::Scenario;

use super::Mistake;

/// Under cargo that of the workspace, else that of the current directory.
fn folder() -> PathBuf {
    let here = Path::new("tests/scenarios");
    match std::env::var_os("CARGO_MANIFEST_DIR") {
        Some(package) => {
            let of_workspace = Path::new(&package).join("../..").join(here);
            if of_workspace.is_dir() { of_workspace } else { here.to_owned() }
        }
        None => here.to_owned(),
    }
}

/// The scenario of this path or name.
pub(super) fn one(name: &str) -> Result<Scenario, Mistake> {
    let path = Path::new(name);
    if path.is_file() {
        return read(path);
    }
    let (folder, known) = files()?;
    let file = folder.join(name).with_extension("toml");
    if known.contains(&file) {
        return read(&file);
    }
    let names: Vec<_> = known.iter().filter_map(|file| file.file_stem()?.to_str()).collect();
    Err(format!("{name} is no file, and no scenario in {}; these are: {}", folder.display(), names.join(", ")))
}

/// All of them, by name.
pub(super) fn all() -> Result<Vec<Scenario>, Mistake> {
    let (folder, files) = files()?;
    match files.is_empty() {
        true => Err(format!("{} holds no scenario; name a file", folder.display())),
        false => files.iter().map(|file| read(file)).collect(),
    }
}

fn files() -> Result<(PathBuf, Vec<PathBuf>), Mistake> {
    let folder = folder();
    let explain =
        |error| format!("{}: {error}; run this at the root of the workspace, or name a file", folder.display());
    let entries = std::fs::read_dir(&folder).map_err(explain)?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>().map_err(explain)?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    Ok((folder, files))
}

fn read(file: &Path) -> Result<Scenario, Mistake> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Scenario::parse(&text).map_err(|error| format!("{}: {error}", file.display()))
}
