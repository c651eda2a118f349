//! The digest of what an image is made from, so that an unchanged description is not built again.
//!
//! A recipe's digest covers every file in the image's folder (path, whether it may be executed, contents) and the procedure that
//! this version of the lab follows. It says nothing of the archive: what packages a build gets depends on the day.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::error::ImageError;
use super::progress::{Progress, Step, Watcher};
use crate::catalog::image::Import;
use crate::id::{Digest, Name};

/// A folder this full is not a recipe but a mistake.
const MOST_FILES: usize = 10_000;

/// The files below a folder, as sorted paths relative to it.
///
/// # Errors
/// Something unreadable, or anything but plain files and folders (a link could point out of the recipe).
pub(super) fn files_below(folder: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(below) = open.pop() {
        let at = folder.join(&below);
        for entry in fs::read_dir(&at).map_err(ImageError::io("list", &at))? {
            let entry = entry.map_err(ImageError::io("list", &at))?;
            let kind = entry.file_type().map_err(ImageError::io("look at", entry.path()))?;
            let path = below.join(entry.file_name());
            let odd = |what: &str| ImageError::Source {
                what: "an image's description",
                file: folder.join(&path),
                expected: "plain files and folders",
                found: what.to_owned(),
            };
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_file() && found.len() < MOST_FILES {
                found.push(path);
            } else if kind.is_file() {
                return Err(odd("more than 10000 files"));
            } else {
                return Err(odd(if kind.is_symlink() { "a symbolic link" } else { "a special file" }));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The digest of a recipe: its folder, and the lab's own procedure.
pub(super) fn of_recipe(folder: &Path, procedure: &Digest) -> Result<Digest, ImageError> {
    let mut sum = Sha256::new();
    field(&mut sum, procedure.hex().as_bytes());
    for path in files_below(folder)? {
        let at = folder.join(&path);
        let mode = fs::metadata(&at).map_err(ImageError::io("look at", &at))?.permissions().mode();
        let contents = fs::read(&at).map_err(ImageError::io("read", &at))?;
        field(&mut sum, path.as_os_str().as_encoded_bytes());
        field(&mut sum, if mode & 0o100 == 0 { b"plain" } else { b"executable" });
        field(&mut sum, &contents);
    }
    Ok(Digest::from_bytes(sum.finalize().into()))
}

/// The digest of an import: its format and the source file's contents, which must be the pinned ones.
pub(super) async fn of_import(wanted: &Import, file: &Path, watcher: &Watcher, name: &Name) -> Result<Digest, ImageError> {
    let (file, watcher, image) = (file.to_owned(), watcher.clone(), name.clone());
    let found = blocking(move || digest_of(&file, |within| watcher.tell(Progress::at(&image, Step::Read, within, "")))).await?;
    match wanted.sha256 {
        Some(expected) if expected != found => Err(ImageError::Pinned { image: name.clone(), expected, found }),
        _ => Ok(Digest::of_json(&("import/1", wanted.format, found))),
    }
}

/// The sha256 of a file's contents, telling how far it is (0 to 1), and ended by an error of the listener.
pub(in crate::lab) fn digest_of(path: &Path, mut progress: impl FnMut(f64) -> Result<(), ImageError>) -> Result<Digest, ImageError> {
    let mut file = fs::File::open(path).map_err(ImageError::io("open", path))?;
    let size = file.metadata().map_err(ImageError::io("look at", path))?.len().max(1);
    let mut sum = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut done = 0_u64;
    loop {
        let count = file.read(&mut buffer).map_err(ImageError::io("read", path))?;
        if count == 0 {
            return Ok(Digest::from_bytes(sum.finalize().into()));
        }
        sum.update(&buffer[..count]);
        done += count as u64;
        progress(done as f64 / size as f64)?;
    }
}

/// Runs what blocks on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, ImageError> + Send + 'static) -> Result<T, ImageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            Err(ImageError::Io { doing: "finish work on", path: PathBuf::from("an image"), source: std::io::Error::other(error) })
        }
    }
}

/// Adds one field so that no two lists of fields give the same bytes.
fn field(sum: &mut Sha256, bytes: &[u8]) {
    sum.update((bytes.len() as u64).to_le_bytes());
    sum.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_changes_with_anything_in_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let digest = |procedure: &str| of_recipe(folder.path(), &Digest::of(procedure)).expect("a digest");
        fs::create_dir(at("files")).expect("a folder");
        fs::write(at("image.toml"), "one").expect("a file");
        fs::write(at("files/motd"), "hello").expect("a file");
        let mut seen = vec![digest("1")];
        assert_eq!(seen[0], digest("1"), "the same again is the same");
        let mut changed = |what: &str, digest: Digest| {
            assert!(!seen.contains(&digest), "{what} must change the digest");
            seen.push(digest);
        };
        changed("the procedure", digest("2"));
        fs::write(at("files/motd"), "hello!").expect("a file");
        changed("a file's contents", digest("1"));
        fs::set_permissions(at("files/motd"), fs::Permissions::from_mode(0o755)).expect("a mode");
        changed("whether a file may be executed", digest("1"));
        fs::rename(at("files/motd"), at("files/issue")).expect("a rename");
        changed("a file's name", digest("1"));
        fs::write(at("image.toml"), "onehello").expect("a file");
        changed("image.toml", digest("1"));
    }

    #[test]
    fn links_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        std::os::unix::fs::symlink("/etc/shadow", folder.path().join("link")).expect("a link");
        let error = of_recipe(folder.path(), &Digest::of("1")).expect_err("a link");
        assert!(error.to_string().contains("a symbolic link"), "{error}");
    }
}
