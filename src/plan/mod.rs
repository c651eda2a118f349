//! The plan: the frozen list of everything a run will do. Every choice is made in it; it has a digest.
//!
//! Invariant: a plan is complete. From its journaling on the catalog is not read again, so that what is judged is what was
//! planned, whatever happens to the files meanwhile.

pub mod build;
#[cfg(test)]
pub(crate) mod examples;
pub mod lint;

pub use build::{NoPlan, Request, SealedImage, plan};

use serde::{Deserialize, Serialize};

use crate::catalog::build::Role;
use crate::catalog::hardware::Hardware;
use crate::catalog::image::Os;
use crate::catalog::patch::Patch;
use crate::catalog::suite::Case;
use crate::id::{CellId, Digest, Name};

/// The version of the plan's form. It goes into the digest.
pub const VERSION: u32 = 1;

/// Everything that one run will do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Plan {
    pub version: u32,
    pub patch: PlannedPatch,
    pub cells: Vec<PlannedCell>,
    /// What was asked for or possible and is not done, each with its reason.
    pub excluded: Vec<Exclusion>,
    /// What a careful reader of the plan should know before believing its verdict.
    pub lint: Vec<Lint>,
}

impl Plan {
    pub fn digest(&self) -> Digest {
        Digest::of_json(self)
    }

    pub fn cell(&self, id: &CellId) -> Option<&PlannedCell> {
        self.cells.iter().find(|cell| cell.id == *id)
    }
}

/// The candidate, as its bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PlannedPatch {
    pub sha256: Digest,
    pub manifest: Patch,
    pub facts: PayloadFacts,
    /// Kind `deb`: none of its packages is on any image of the lab, so that it is no update but brings them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub brings: bool,
}

/// What the payload itself says. It outranks the manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PayloadFacts {
    /// Kind `deb`: the packages in the payload.
    pub packages: Vec<Package>,
    /// Kinds `files` and `diff`: the absolute paths in the guest that are changed.
    pub paths: Vec<String>,
    /// The size of all payload files together.
    pub bytes: u64,
}

/// A Debian package, from its control file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Package {
    pub name: String,
    pub version: String,
    pub architecture: String,
    /// The payload file.
    pub file: String,
}

/// One line of the plan: this machine on this hardware, unpatched and then patched, with these suites.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PlannedCell {
    pub id: CellId,
    pub customer: Name,
    pub build: Name,
    pub role: Role,
    pub os: Os,
    pub image: PlannedImage,
    pub hardware: PlannedHardware,
    pub suites: Vec<PlannedSuite>,
    /// Units that must be active.
    pub services: Vec<String>,
    /// Paths that change by themselves (shell patterns).
    pub volatile: Vec<String>,
    /// Fresh clones on which bad news is tried again.
    pub confirmations: u32,
    /// Attempts at a pass that the lab itself spoils.
    pub attempts: u32,
}

impl PlannedCell {
    /// Each case with its suite, in the order of the plan. The health suite's checks are not among them: every cell has them.
    pub fn cases(&self) -> impl Iterator<Item = (&PlannedSuite, &Case)> {
        self.suites.iter().flat_map(|suite| suite.cases.iter().map(move |case| (suite, case)))
    }

    pub fn case(&self, suite: &Name, case: &Name) -> Option<&Case> {
        self.cases().find(|(s, c)| s.name == *suite && c.name == *case).map(|(_, c)| c)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PlannedImage {
    pub name: Name,
    pub sha256: Digest,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PlannedHardware {
    pub name: Name,
    pub sha256: Digest,
    pub profile: Hardware,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PlannedSuite {
    pub name: Name,
    /// Over every file of the suite's folder, so that a changed script is another suite.
    pub sha256: Digest,
    /// The cases that apply to the cell's role.
    pub cases: Vec<Case>,
}

/// A cell, suite or case that is left out on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Exclusion {
    /// What is left out, for example `acme.web@ide-rtl8139` or `acme.web: nginx/tls`.
    pub what: String,
    pub reason: String,
}

/// Something about the plan that weakens what its verdict can say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Lint {
    pub code: String,
    pub message: String,
}
