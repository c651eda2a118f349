//! What can go wrong with an image: what was tried, what was expected, what was found, and apart from that a hint.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::catalog::diagnostic::is_fault;
use crate::id::{Digest, Name};

#[derive(Debug, Error)]
pub enum ImageError {
    #[error("image {image}: expected {expected}, found {found}")]
    Description { image: Name, expected: &'static str, found: &'static str },

    #[error("{what} in {}: expected {expected}, found {found}", file.display())]
    Source { what: &'static str, file: PathBuf, expected: &'static str, found: String },

    #[error("refused to import {}: expected {expected}, found {found}", file.display())]
    Refused { file: PathBuf, expected: String, found: String },

    #[error("image {image}: {doing} failed: {tool} ended with {status}\n{tail}")]
    Tool { image: Name, doing: &'static str, tool: String, status: String, tail: String },

    #[error("image {image}: {doing}: expected an end within {}, found {tool} still at work\n{tail}", humantime::format_duration(*limit))]
    Deadline { image: Name, doing: &'static str, tool: String, limit: Duration, tail: String },

    #[error("can't run {tool}: {source}")]
    Missing { tool: String, source: io::Error },

    #[error("image {0} has not been made yet")]
    NotMade(Name),

    #[error("{} is not the image it is named for: expected {expected}, found {found}", file.display())]
    Damaged { file: PathBuf, expected: String, found: String },

    #[error("the store {} is in use by another build", store.display())]
    Busy { store: PathBuf },

    #[error("can't {doing} {}: {source}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },

    #[error("the record {} can't be read: {source}", path.display())]
    Record { path: PathBuf, source: serde_json::Error },

    #[error("image {0} was called off; nothing of it was kept")]
    Cancelled(Name),

    #[error("image {image}: expected the digest {expected}, found {found}")]
    Pinned { image: Name, expected: Digest, found: Digest },
}

impl ImageError {
    pub(super) fn io(doing: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.as_ref().to_owned(), source }
    }

    /// Whether the host let the lab down, rather than the description or the files being wrong.
    pub fn is_fault(&self) -> bool {
        match self {
            Self::Io { source, .. } => is_fault(source),
            Self::Deadline { .. } | Self::Cancelled(_) => true,
            Self::Tool { tail, .. } => tail.contains("No space left on device"),
            Self::Description { .. }
            | Self::Source { .. }
            | Self::Refused { .. }
            | Self::Missing { .. }
            | Self::NotMade(_)
            | Self::Damaged { .. }
            | Self::Busy { .. }
            | Self::Record { .. }
            | Self::Pinned { .. } => false,
        }
    }

    /// What the reader can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Description { image, .. } => format!("give images/{image}/image.toml a [recipe] or an [import]"),
            Self::Source { .. } => "keep only plain files and folders there, and name them in image.toml".to_owned(),
            Self::Refused { .. } => {
                "flatten it first where you trust its origin, for example: qemu-img convert -O qcow2 FILE flat.qcow2".to_owned()
            }
            Self::Tool { .. } if self.is_fault() => {
                "make room in the temporary folder ($TMPDIR), then run the same command again".to_owned()
            }
            Self::Tool { .. } => {
                "the last lines above are the tool's own words; a build that failed for the network's sake can just be run again".to_owned()
            }
            Self::Deadline { .. } => "see whether the Debian archive answers, then run the same command again".to_owned(),
            Self::Missing { tool, .. } => match tool.as_str() {
                "mmdebstrap" => "apt-get install mmdebstrap mtools fdisk e2fsprogs uidmap".to_owned(),
                "qemu-img" => "apt-get install qemu-utils".to_owned(),
                _ => "patchlab doctor tells which packages are missing".to_owned(),
            },
            Self::NotMade(name) => format!("patchlab image build {name}"),
            Self::Damaged { .. } => "something wrote to a sealed file or the disk lost it: patchlab image build --rebuild makes it anew, \
                                     under a new digest if the archive has moved on"
                .to_owned(),
            Self::Busy { .. } => "wait for it to end; builds take turns".to_owned(),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "make room, then run the same command again".to_owned()
            }
            Self::Io { .. } => "check that the path exists and may be read and written".to_owned(),
            Self::Record { path, .. } => format!("remove {} and build the image again", path.display()),
            Self::Cancelled(_) => "the same command begins it anew".to_owned(),
            Self::Pinned { .. } => {
                "this is another file than the one image.toml names: fetch the right one, or name the new digest".to_owned()
            }
        }
    }
}
