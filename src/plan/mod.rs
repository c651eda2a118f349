//! The plan: the frozen list of everything a run will do. Every choice is made in it; it has a digest.
//!
//! Invariant: a plan is complete. From its journaling on the catalog is not read again, so that what is judged is what was
//! planned, whatever happens to the files meanwhile.

pub mod build;
pub mod bundle;
mod environment;
#[cfg(test)]
pub(crate) mod examples;
mod foreign;
pub mod lint;
pub mod pairwise;
pub mod required;
mod shared;

pub use build::{NoPlan, PreparedSuite, Request, SealedImage, plan, plan_together, unknown};
pub use bundle::{Bundle, NoBundle};
pub use required::required;
pub use shared::Shared;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::catalog::environment::{Ready, Subnet};
use crate::catalog::hardware::Hardware;
use crate::catalog::image::Os;
use crate::catalog::patch::{Patch, Reboot};
use crate::catalog::suite::Case;
use crate::catalog::text::Span;
use crate::id::{CellId, Digest, Name};

/// The version of the plan's form. It goes into the digest.
pub const VERSION: u32 = 2;

/// Everything that one run will do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Plan {
    pub version: u32,
    pub patch: PlannedPatch,
    /// Patches that go onto the machines after it, in this order: all of them are tested together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<PlannedPatch>,
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

    /// What is tested, in the order in which it is applied.
    pub fn patches(&self) -> impl Iterator<Item = &PlannedPatch> + Clone {
        std::iter::once(&self.patch).chain(&self.beside)
    }

    /// Whether several patches are tested together.
    pub fn is_together(&self) -> bool {
        !self.beside.is_empty()
    }

    /// The patch of these bytes, if it is among those that are tested.
    pub fn holds(&self, patch: Digest) -> Option<&PlannedPatch> {
        self.patches().find(|one| one.sha256 == patch)
    }

    /// What is tested, as one digest: the patch's own, or one over those of all patches in their order.
    pub fn tested(&self) -> Digest {
        if self.is_together() { Digest::of_json(&self.patches().map(|patch| patch.sha256).collect::<Vec<_>>()) } else { self.patch.sha256 }
    }

    /// What the patches together ask for.
    pub fn reboot(&self) -> Reboot {
        let wanted: Vec<Reboot> = self.patches().map(|patch| patch.manifest.reboot).collect();
        [Reboot::Required, Reboot::Auto].into_iter().find(|one| wanted.contains(one)).unwrap_or(Reboot::Never)
    }

    /// The patches that go onto a machine, each with its place among all.
    pub fn patches_for<'a>(&'a self, machine: &'a PlannedMachine) -> impl Iterator<Item = (usize, &'a PlannedPatch)> {
        self.patches().enumerate().filter(|(_, patch)| machine.takes(patch.sha256))
    }

    /// Every machine of every cell.
    pub fn machines(&self) -> impl Iterator<Item = &PlannedMachine> {
        self.cells.iter().flat_map(|cell| &cell.machines)
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

/// One line of the plan: these machines on this hardware at this patch level, unpatched and then patched, with these suites.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PlannedCell {
    pub id: CellId,
    pub customer: Name,
    pub subject: Subject,
    /// In the order in which they are started. A build's cell has one.
    pub machines: Vec<PlannedMachine>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<PlannedSegment>,
    pub suites: Vec<Shared<PlannedSuite>>,
    /// Fresh clones on which bad news is tried again.
    pub confirmations: u32,
    /// Attempts at a pass that the lab itself spoils.
    pub attempts: u32,
    /// How long what a case gave unpatched in an earlier run counts as its baseline; zero where each run has its own.
    #[serde(default = "nothing", skip_serializing_if = "is_nothing")]
    pub baseline_valid_for: Span,
    /// Labels that a host must have to run it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub host_labels: BTreeSet<Name>,
}

const fn nothing() -> Span {
    Span::secs(0)
}

const fn is_nothing(span: &Span) -> bool {
    span.0.is_zero()
}

/// What a cell validates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    Build(Name),
    Environment(Name),
}

/// One machine of a cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PlannedMachine {
    pub role: Name,
    pub build: Name,
    pub os: Os,
    pub image: PlannedImage,
    pub hardware: Shared<PlannedHardware>,
    /// Whether the patch goes onto it.
    pub patched: bool,
    /// Those of several patches that have nothing to do on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spared: Vec<Digest>,
    /// Units that must be active.
    pub services: Shared<Vec<String>>,
    /// Paths that change by themselves (shell patterns).
    pub volatile: Shared<Vec<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nics: Vec<PlannedNic>,
    /// Names that the others find it under, besides its role.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// What must hold before the next machine is started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ready: Vec<Ready>,
    pub ready_within: Span,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PlannedNic {
    pub segment: Name,
    pub address: Ipv4Addr,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PlannedSegment {
    pub name: Name,
    pub subnet: Subnet,
}

impl PlannedMachine {
    /// A patched machine without a network.
    pub fn alone(role: Name, build: Name, os: Os, image: PlannedImage, hardware: Shared<PlannedHardware>) -> Self {
        Self {
            role,
            build,
            os,
            image,
            hardware,
            patched: true,
            spared: Vec::new(),
            services: Vec::new().into(),
            volatile: Vec::new().into(),
            nics: Vec::new(),
            names: Vec::new(),
            ready: Vec::new(),
            ready_within: Span::secs(0),
        }
    }

    /// Whether a patch of the plan goes onto it.
    pub fn takes(&self, patch: Digest) -> bool {
        self.patched && !self.spared.contains(&patch)
    }
}

impl PlannedCell {
    /// The build's or environment's name.
    pub fn subject_name(&self) -> &Name {
        match &self.subject {
            Subject::Build(name) | Subject::Environment(name) => name,
        }
    }

    pub fn is_environment(&self) -> bool {
        matches!(self.subject, Subject::Environment(_))
    }

    /// The machines that the patch goes onto, by their place in the cell.
    pub fn patched(&self) -> impl Iterator<Item = usize> + use<'_> {
        self.machines.iter().enumerate().filter(|(_, machine)| machine.patched).map(|(at, _)| at)
    }

    /// The patched roles in a word: `server`, `client+db`, `all`.
    pub fn level(&self) -> String {
        if self.machines.iter().all(|machine| machine.patched) {
            return "all".to_owned();
        }
        self.patched().filter_map(|at| self.machines.get(at)).map(|machine| machine.role.as_str()).collect::<Vec<_>>().join("+")
    }

    /// The hardware profiles in a word: one where all machines have the same.
    pub fn hardware_label(&self) -> String {
        let mut names: Vec<&str> = self.machines.iter().map(|machine| machine.hardware.name.as_str()).collect();
        if names.windows(2).all(|pair| pair.first() == pair.last()) {
            names.truncate(1);
        }
        names.join("+")
    }

    /// Whether a patched machine's hardware profile asks for a second cold boot.
    pub fn second_cold_boot(&self) -> bool {
        self.machines.iter().any(|machine| machine.patched && machine.hardware.profile.second_cold_boot)
    }

    /// The names of a pass's machines in the hypervisor, in the order of the cell: the pass's own, or with the role where there are several.
    pub fn machine_names(&self, pass: &str) -> Vec<String> {
        match self.machines.as_slice() {
            [_] => vec![pass.to_owned()],
            several => several.iter().map(|machine| format!("{pass}-{}", machine.role)).collect(),
        }
    }

    /// All that a pass makes in the hypervisor: its machines, then the network that they were on.
    pub fn objects(&self, pass: &str) -> Vec<String> {
        let network = (!self.segments.is_empty()).then(|| pass.to_owned());
        self.machine_names(pass).into_iter().chain(network).collect()
    }

    /// Each case with its suite, in the order of the plan. The health suite's checks are not among them: every cell has them.
    pub fn cases(&self) -> impl Iterator<Item = (&PlannedSuite, &Case)> {
        self.suites.iter().flat_map(|suite| suite.cases.iter().map(move |case| (&**suite, case)))
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
    /// Who plays the suite's roles: role of the suite, role of the machine. Empty for a build's cell.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cast: BTreeMap<Name, Name>,
    /// The cases that apply to the cell's role.
    pub cases: Vec<Case>,
    /// Packages that are installed into every clone before anything is measured, because the suite's tests depend on them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<PlannedFile>,
}

/// A file that goes into the machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PlannedFile {
    /// Its name, without a folder.
    pub file: String,
    pub sha256: Digest,
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
