//! Candidate patches: `patch.toml` and the payload files beside it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::Span;
use crate::id::Name;

/// What a `patch.toml` says. The payload outranks it where the two disagree on a fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Patch {
    pub id: Name,
    /// One line for people.
    #[schemars(length(min = 1))]
    pub title: String,
    pub kind: PatchKind,
    /// The payload files, relative to the manifest.
    #[schemars(length(min = 1))]
    pub payload: Vec<String>,
    /// Whether the machine is rebooted after applying. `auto`: when the guest says that it needs one.
    pub reboot: Reboot,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    #[serde(default)]
    pub cves: Vec<String>,
    /// Ids of patches that this one replaces.
    #[serde(default)]
    pub supersedes: Vec<Name>,
    /// Ids of patches that must be there first.
    #[serde(default)]
    pub requires: Vec<Name>,
    /// Kind `script` alone: the command line that applies it, run by `sh` as root in a writable copy of the payload folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub install: Option<String>,
    /// The command line that takes it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uninstall: Option<String>,
    /// The command line that confirms its effect with exit code 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<String>,
    /// How long applying may take. Default 15 minutes.
    #[serde(default = "Patch::default_timeout")]
    pub timeout: Span,
    /// Kind `files`: where each payload file goes.
    #[serde(default, rename = "file")]
    pub files: Vec<FileTarget>,
    /// Kind `diff`: the folder that the diff's paths start from. Default `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// Kind `diff`: leading path components to strip, as `patch -p` counts them. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strip: Option<u32>,
    /// Packages whose removal is part of the patch (kind `deb`). Any other removal is refused.
    #[serde(default)]
    pub removes: Vec<String>,
    /// Paths outside packages that the patch means to change (shell patterns). Changes elsewhere are findings.
    #[serde(default)]
    pub changes: Vec<String>,
}

impl Patch {
    /// Whether it can be taken back from inside the guest.
    pub const fn has_way_back(&self) -> bool {
        self.uninstall.is_some() || matches!(self.kind, PatchKind::Files | PatchKind::Diff)
    }

    fn default_timeout() -> Span {
        Span::secs(900)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PatchKind {
    /// Debian packages, installed together.
    Deb,
    /// A command line of the manifest's.
    Script,
    /// Files put into place.
    Files,
    /// A unified diff.
    Diff,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Reboot {
    Never,
    Auto,
    Required,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    Low,
    Moderate,
    Important,
    Critical,
}

/// One file of a `files` patch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FileTarget {
    /// The payload file.
    pub source: String,
    /// Its absolute path in the guest.
    pub target: String,
    /// Octal permission bits.
    #[serde(default = "FileTarget::default_mode")]
    #[schemars(regex(pattern = "^[0-7]{3,4}$"))]
    pub mode: String,
    /// `user:group`.
    #[serde(default = "FileTarget::default_owner")]
    #[schemars(regex(pattern = "^[a-z_][a-z0-9_-]*:[a-z_][a-z0-9_-]*$"))]
    pub owner: String,
}

impl FileTarget {
    fn default_mode() -> String {
        "0644".to_owned()
    }

    fn default_owner() -> String {
        "root:root".to_owned()
    }
}
