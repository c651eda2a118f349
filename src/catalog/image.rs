//! Golden images: `images/<image>/image.toml`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::hardware::Firmware;
use super::text::Size;
use crate::id::Digest;

/// The smallest disk on which a Debian with a kernel and boot loaders fits.
pub const SMALLEST_DISK: Size = Size::mib(1 << 10);
/// A disk that claims to be larger is a mistake or an attack.
pub const LARGEST_DISK: Size = Size::mib(4 << 20);

/// How a golden image comes to be: built from a recipe, or imported. Exactly one of the two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Image {
    /// One line for people.
    #[schemars(length(min = 1))]
    pub title: String,
    /// The family of operating system, which decides how the guest is spoken to.
    pub os: Os,
    /// The firmwares that the image boots on.
    #[schemars(length(min = 1))]
    pub firmware: Vec<Firmware>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<Recipe>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub import: Option<Import>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Os {
    /// Debian or a derivative with dpkg, apt and systemd.
    Debian,
}

/// A Debian image made by mmdebstrap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Recipe {
    /// The release, for example `bookworm`.
    pub suite: String,
    /// The complete sources list, one line each. Nothing is added to it: an image that is meant to be behind names no security suite.
    #[schemars(length(min = 1))]
    pub sources: Vec<String>,
    /// Packages besides those that every image carries (kernel, boot loaders, systemd, guest agent).
    #[serde(default)]
    pub packages: Vec<String>,
    /// Files to copy in: path in the image -> path in the image's folder.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// A script in the image's folder, run inside the new root once everything is installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup: Option<String>,
    /// The size of the virtual disk.
    pub disk: Size,
}

/// An existing disk file, brought in once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Import {
    /// The disk file, absolute or relative to the image's folder.
    pub source: String,
    /// What the file holds.
    pub format: DiskFormat,
    /// The sha256 that the source file must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DiskFormat {
    Qcow2,
    Raw,
    Vmdk,
    Vhdx,
}

impl DiskFormat {
    /// As the catalog and qemu-img call it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
            Self::Vmdk => "vmdk",
            Self::Vhdx => "vhdx",
        }
    }
}

/// Whether a text can be the name of a release: `bookworm`, `trixie-backports`.
pub fn is_release(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
}

/// Whether a text can be the name of a Debian package (deb-control(5)): no version, no architecture.
pub fn is_package_name(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'+' | b'-' | b'.');
    text.bytes().next().is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit()) && text.bytes().all(plain)
}

/// Whether a text can be a line of binary packages in a sources list.
pub fn is_source_line(text: &str) -> bool {
    text.starts_with("deb ") && !text.contains(char::is_control)
}
