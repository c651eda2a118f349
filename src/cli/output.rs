//! Files that a person asked for: reports and schemas.
//!
//! Invariant: a file is written whole or not at all. What is there and is no file (a device, a pipe) is written to, never replaced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tempfile::NamedTempFile;

use super::error::Failure;
use crate::catalog::diagnostic::is_fault;

/// Where something can be written.
pub enum Output {
    /// A draft beside the file that it will become.
    Whole { draft: NamedTempFile, file: PathBuf },
    /// A device or a pipe.
    Stream { open: File, file: PathBuf },
}

impl Output {
    /// Opens the way to a file.
    ///
    /// # Errors
    /// When nothing can be written there: better known before a long run than after it.
    pub fn open(file: &Path) -> Result<Self, Failure> {
        match fs::metadata(file) {
            Ok(found) if found.is_dir() => Err(refused(file, "it is a folder; name a file")),
            Ok(found) if found.is_file() => Self::draft(fs::canonicalize(file).map_err(|error| failed(file, &error))?),
            Ok(_) => Self::stream(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !file.as_os_str().as_encoded_bytes().ends_with(b"/") => {
                Self::draft(file.to_owned())
            }
            Err(error) => Err(failed(file, &error)),
        }
    }

    fn draft(file: PathBuf) -> Result<Self, Failure> {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.is_dir() {
            return Err(refused(&file, &format!("there is no folder {}", folder.display())));
        }
        let draft = NamedTempFile::new_in(folder).map_err(|error| failed(&file, &plain(error)))?;
        Ok(Self::Whole { draft, file })
    }

    fn stream(file: &Path) -> Result<Self, Failure> {
        // A pipe without a reader would be waited for without an end: so it is an error, and what follows is an ordinary stream.
        let open = OpenOptions::new().write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(file);
        let open = open.and_then(|open| {
            let flags = OFlag::from_bits_truncate(fcntl(&open, FcntlArg::F_GETFL)?);
            fcntl(&open, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
            Ok(open)
        });
        Ok(Self::Stream { open: open.map_err(|error| failed(file, &error))?, file: file.to_owned() })
    }

    /// What is there after only a part has come.
    pub fn left_by_halves(&self) -> &'static str {
        match self {
            Self::Whole { .. } => "nothing was written",
            Self::Stream { .. } => "what was written is not whole",
        }
    }

    /// # Errors
    /// When it is not taken. A file that was there is then as it was.
    pub fn write(self, text: &str) -> Result<(), Failure> {
        self.fill(|to| to.write_all(text.as_bytes()))
    }

    /// Has the contents written piece by piece.
    ///
    /// # Errors
    /// As [`Output::write`], and when the writer gives up.
    pub fn fill(self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
        match self {
            Self::Stream { mut open, file } => write(&mut open).map_err(|error| failed(&file, &error)),
            Self::Whole { mut draft, file } => {
                let written = write(&mut draft).map_err(plain);
                let written = written.and_then(|()| draft.as_file().set_permissions(fs::Permissions::from_mode(0o644)));
                written.map_err(|error| failed(&file, &error))?;
                draft.persist(&file).map_err(|error| failed(&file, &error.error))?;
                Ok(())
            }
        }
    }
}

/// Writes a file whole or not at all.
pub fn write(file: &Path, text: &str) -> Result<(), Failure> {
    Output::open(file)?.write(text)
}

/// The error without the name of the draft, which means nothing to the person.
fn plain(error: io::Error) -> io::Error {
    match error.get_ref() {
        Some(_) => io::Error::from(error.kind()),
        None => error,
    }
}

fn refused(file: &Path, why: &str) -> Failure {
    Failure::usage(format!("could not write {}: {why}", file.display()))
}

fn failed(file: &Path, error: &io::Error) -> Failure {
    let told = format!("could not write {}: {error}", file.display());
    if is_fault(error) { Failure::lab(told) } else { Failure::usage(told) }
}
