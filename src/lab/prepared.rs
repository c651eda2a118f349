//! What was fetched for the suites that others have written, outside git: packages by their digests, and for each suite and image the list
//! of those that its tests need there. `scripts/fetch-autopkgtest` writes both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use crate::id::{Digest, Name};
use crate::plan::{PlannedFile, PreparedSuite};

/// A list that can't be read.
#[derive(Debug, Error)]
#[error("the list of fetched packages {} can't be used: {found}; make it anew: scripts/fetch-autopkgtest --dependencies SUITE BUILD", path.display())]
pub struct BadList {
    pub path: PathBuf,
    pub found: String,
}

/// `<state>/suites/<suite>@<image>.toml`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct List {
    /// The digest of the suite that it was made for.
    suite: Digest,
    /// The digest of the image that it was made for.
    image: Digest,
    #[serde(default, rename = "package")]
    packages: Vec<PlannedFile>,
    #[serde(default)]
    lacking: Vec<Lacking>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Lacking {
    case: Name,
    reason: String,
}

/// What was fetched for a suite on an image; `None` when nothing was, or for an image of other bytes.
///
/// # Errors
/// When the list is there and makes no sense.
pub fn read(state: &Path, suite: &Name, image: &Name, sealed: Digest) -> Result<Option<PreparedSuite>, BadList> {
    let path = state.join("suites").join(format!("{suite}@{image}.toml"));
    let bad = |found: String| BadList { path: path.clone(), found };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(bad(error.to_string())),
    };
    let list: List = toml_edit::de::from_str(&text).map_err(|error| bad(error.to_string()))?;
    if let Some(file) = list.packages.iter().find(|package| !is_deb(&package.file)) {
        return Err(bad(format!("{:?} can't be the name of a package's file", file.file)));
    }
    let lacking: BTreeMap<Name, String> = list.lacking.into_iter().map(|one| (one.case, one.reason)).collect();
    Ok((list.image == sealed).then_some(PreparedSuite { suite: list.suite, packages: list.packages, lacking }))
}

/// Where a fetched package is.
pub fn package(state: &Path, sha256: &Digest) -> PathBuf {
    state.join("packages").join(format!("{}.deb", sha256.hex()))
}

fn is_deb(file: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "+-._~%".contains(c);
    file.ends_with(".deb") && file.starts_with(|c: char| c.is_ascii_alphanumeric()) && file.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    #[test]
    fn a_list_speaks_for_its_image_alone_and_names_plain_files() {
        let state = tempfile::tempdir().expect("a folder");
        let (suite, image) = (Digest::of("suite"), Digest::of("image"));
        let ask = |sealed| read(state.path(), &name("sed"), &name("web"), sealed);
        assert_eq!(ask(image).expect("no list"), None);
        let write = |file: &str| {
            let text = format!(
                "suite = \"{suite}\"\nimage = \"{image}\"\n[[package]]\nfile = \"{file}\"\nsha256 = \"{image}\"\n\
                 [[lacking]]\ncase = \"t\"\nreason = \"too old\"\n"
            );
            std::fs::create_dir_all(state.path().join("suites")).expect("a folder");
            std::fs::write(state.path().join("suites/sed@web.toml"), text).expect("a file");
        };
        write("a_1%3a2~x+y_all.deb");
        let list = ask(image).expect("a list").expect("for this image");
        assert_eq!((list.packages.len(), list.lacking[&name("t")].as_str()), (1, "too old"));
        assert_eq!(ask(Digest::of("rebuilt")).expect("a list"), None);
        for bad in ["../a.deb", "/a.deb", "a", "-o.deb", "a b.deb"] {
            write(bad);
            assert!(ask(image).is_err(), "{bad}");
        }
        std::fs::write(state.path().join("suites/sed@web.toml"), "suite = 3\n").expect("a file");
        assert!(ask(image).is_err());
    }
}
