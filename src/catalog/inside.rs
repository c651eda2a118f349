//! Files that a description names in its own folder: found, held inside the folder, and digested.
//!
//! Invariant: a path that leaves here is a regular file inside the folder, whatever links lie on the way.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::diagnostic::Diagnostic;
use crate::id::Digest;

/// Why a named file can't be used.
#[derive(Debug, Error)]
pub enum Outside {
    #[error("an empty path")]
    Empty,
    #[error("an absolute path")]
    Absolute,
    #[error("a path that leaves the folder")]
    Leaves,
    #[error("a path with control characters")]
    Unprintable,
    #[error("too long a path")]
    Long,
    #[error("a link that leaves the folder")]
    LinkLeaves,
    #[error("a file that does not exist")]
    Missing,
    #[error("something that is not a regular file")]
    NotAFile,
    #[error("a file that can't be read ({0})")]
    Unreadable(io::Error),
}

impl Outside {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Empty => "name a file",
            Self::Absolute | Self::Leaves | Self::LinkLeaves => "copy the file into the folder and name it by its path there",
            Self::Unprintable | Self::Long => "rename the file",
            Self::Missing => "create the file or correct the path; paths start from the folder of the file that names them",
            Self::NotAFile => "name a regular file",
            Self::Unreadable(_) => "make it readable for the user who runs patchlab",
        }
    }
}

/// Checks a relative path by its text alone.
pub fn relative(path: &str) -> Result<&Path, Outside> {
    if path.is_empty() {
        return Err(Outside::Empty);
    }
    if path.chars().any(char::is_control) {
        return Err(Outside::Unprintable);
    }
    if path.len() > 1000 || path.split('/').any(|part| part.len() > 255) {
        return Err(Outside::Long);
    }
    let path = Path::new(path);
    if path.is_absolute() {
        return Err(Outside::Absolute);
    }
    let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
    if inside { Ok(path) } else { Err(Outside::Leaves) }
}

/// Finds a file that a description in `folder` names.
pub fn file(folder: &Path, path: &str) -> Result<PathBuf, Outside> {
    let full = folder.join(relative(path)?);
    let problem = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Outside::Missing,
        _ => Outside::Unreadable(error),
    };
    let real = fs::canonicalize(&full).map_err(problem)?;
    if !real.starts_with(fs::canonicalize(folder).map_err(problem)?) {
        return Err(Outside::LinkLeaves);
    }
    if !fs::metadata(&real).map_err(problem)?.is_file() {
        return Err(Outside::NotAFile);
    }
    File::open(&real).map_err(Outside::Unreadable)?;
    Ok(full)
}

/// Whether a path in a guest is absolute and plain: no `.` or `..`, no control characters, more than `/`.
pub fn plain_absolute(path: &str) -> bool {
    let rest = path.strip_prefix('/');
    rest.is_some_and(|rest| relative(rest).is_ok() && !rest.ends_with('/') && !rest.split('/').any(|part| part.is_empty() || part == "."))
}

/// Every file in a folder, by its relative path, sorted. Refuses what is neither a file nor a folder, and links that leave.
///
/// Diagnostics name the folder `shown`.
pub fn files(folder: &Path, shown: &Path) -> Result<BTreeSet<String>, Box<Diagnostic>> {
    const MOST: usize = 10_000;
    let mut found = BTreeSet::new();
    let mut left = vec![String::new()];
    while let Some(at) = left.pop() {
        let unreadable = |error: io::Error| Box::new(Diagnostic::error(shown.join(&at), format!("can't be read: {error}")));
        for entry in fs::read_dir(folder.join(&at)).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                return Err(Box::new(Diagnostic::error(shown.join(&at).join(&name), "a name that is not UTF-8").hint("rename it")));
            };
            let path = if at.is_empty() { name.to_owned() } else { format!("{at}/{name}") };
            if entry.file_type().map_err(unreadable)?.is_dir() {
                left.push(path);
                continue;
            }
            if let Err(outside) = file(folder, &path) {
                return Err(Box::new(Diagnostic::error(shown.join(&path), outside.to_string()).hint(outside.hint())));
            }
            found.insert(path);
            if found.len() > MOST {
                return Err(Box::new(Diagnostic::error(shown, format!("more than {MOST} files"))));
            }
        }
    }
    Ok(found)
}

/// The digest of some files of a folder: over their sorted relative paths, whether each is executable, and their contents. A link
/// counts as the file that it leads to. Lengths go in before contents, so that no two sets of files look alike.
pub fn folder_digest(folder: &Path, files: &BTreeSet<String>) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    for path in files {
        let mut file = File::open(folder.join(path))?;
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(io::Error::other(format!("{path} is not a regular file")));
        }
        hash.update((path.len() as u64).to_le_bytes());
        hash.update(path);
        hash.update([u8::from(about.permissions().mode() & 0o111 != 0)]);
        hash.update(about.len().to_le_bytes());
        let mut buffer = vec![0; 1 << 16];
        let mut length = 0u64;
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            length += read as u64;
            hash.update(&buffer[..read]);
        }
        if length != about.len() {
            return Err(io::Error::other(format!("{path} changed while it was read")));
        }
    }
    Ok(Digest::from_bytes(hash.finalize().into()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::Builder::new().prefix("cat-").tempdir().unwrap()
    }

    #[test]
    fn only_files_inside_are_found() {
        let (dir, other) = (folder(), folder());
        let root = dir.path();
        fs::write(root.join("a"), "").unwrap();
        fs::create_dir(root.join("d")).unwrap();
        fs::write(other.path().join("secret"), "").unwrap();
        symlink(other.path().join("secret"), root.join("out")).unwrap();
        symlink(other.path(), root.join("outdir")).unwrap();
        symlink("a", root.join("in")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let verdict = |path: &str| match file(root, path) {
            Ok(_) => "fine".to_owned(),
            Err(outside) => outside.to_string().split(" (").next().unwrap().to_owned(),
        };
        for (path, expected) in [
            ("a", "fine"),
            ("in", "fine"),
            ("", "an empty path"),
            ("/etc/passwd", "an absolute path"),
            ("../a", "a path that leaves the folder"),
            ("d/../../a", "a path that leaves the folder"),
            ("a\0", "a path with control characters"),
            ("out", "a link that leaves the folder"),
            ("outdir/secret", "a link that leaves the folder"),
            ("loop", "a file that can't be read"),
            ("d", "something that is not a regular file"),
            ("gone", "a file that does not exist"),
            ("a/b", "a file that does not exist"),
        ] {
            assert_eq!(verdict(path), expected, "{path:?}");
        }
    }

    #[test]
    fn the_digest_sees_path_mode_and_contents_and_nothing_else() {
        let digest = |entries: &[(&str, &str, u32)]| {
            let dir = folder();
            for (path, text, mode) in entries {
                let path = dir.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, text).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
            }
            folder_digest(dir.path(), &files(dir.path(), Path::new("x")).unwrap()).unwrap()
        };
        let base = digest(&[("a", "1", 0o644), ("b/c", "2", 0o644)]);
        assert_eq!(base, digest(&[("b/c", "2", 0o600), ("a", "1", 0o444)]), "order and read bits don't count");
        for other in [
            &[("a", "1", 0o755), ("b/c", "2", 0o644)][..],
            &[("a", "2", 0o644), ("b/c", "2", 0o644)],
            &[("a", "1", 0o644), ("b/d", "2", 0o644)],
            &[("a", "1", 0o644)],
            &[("a", "1b/c2", 0o644)],
        ] {
            assert_ne!(base, digest(other));
        }
    }

    #[test]
    fn paths_in_a_guest() {
        for good in ["/etc/x", "/a b/é", "/..x"] {
            assert!(plain_absolute(good), "{good}");
        }
        for bad in ["", "/", "x", "/a/../b", "/a//b", "/a/", "/./a", "//a", "/a\n"] {
            assert!(!plain_absolute(bad), "{bad:?}");
        }
    }
}
