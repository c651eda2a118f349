//! From a request and the catalog to a plan: the matrix, what is left out and why, and what weakens it.
//!
//! Invariant: pure, and the same request on the same catalog gives the same plan, byte for byte.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::environment::{self, Surroundings};
use super::foreign;
use super::lint::lint;
use super::pairwise;
use super::{
    Exclusion, Plan, PlannedCell, PlannedFile, PlannedHardware, PlannedImage, PlannedMachine, PlannedPatch, PlannedSuite, Shared, Subject,
    VERSION,
};
use crate::catalog::build::Build;
use crate::catalog::hardware::Hardware;
use crate::catalog::image::Os;
use crate::catalog::patch::PatchKind;
use crate::catalog::{Catalog, CustomerEntry};
use crate::id::{CellId, Digest, Name};

/// What someone asks to have validated. An empty list means all; builds alone mean no environment, and the other way round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    pub customers: Vec<Name>,
    pub builds: Vec<Name>,
    pub environments: Vec<Name>,
    /// Patch levels of environments: patched roles joined by `+`, or `all`.
    pub levels: Vec<String>,
    pub hardware: Vec<Name>,
    pub suites: Vec<Name>,
}

impl Request {
    /// Whether a build of this name is asked for.
    pub fn wants_build(&self, name: &Name) -> bool {
        self.builds.contains(name) || self.builds.is_empty() && self.environments.is_empty()
    }

    /// Whether an environment of this name is asked for.
    pub fn wants_environment(&self, name: &Name) -> bool {
        self.environments.contains(name) || self.builds.is_empty() && self.environments.is_empty()
    }
}

/// A golden image as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedImage {
    pub sha256: Digest,
    /// Installed packages and their versions, where they are known.
    pub packages: Option<BTreeMap<String, String>>,
    /// What was fetched for suites that others have written, for this very image.
    pub prepared: BTreeMap<Name, PreparedSuite>,
}

/// What the tests of a suite need on an image beyond what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedSuite {
    /// The suite's digest when it was asked for.
    pub suite: Digest,
    pub packages: Vec<PlannedFile>,
    /// The cases whose dependencies can't be had, each with the reason.
    pub lacking: BTreeMap<Name, String>,
}

/// Why there is no plan.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NoPlan {
    #[error("there is no {kind} {name}; there is: {known}")]
    Unknown { kind: &'static str, name: String, known: String },
    #[error("nothing that was chosen has the {kind} {name}; it has: {had}")]
    Unused { kind: &'static str, name: Name, had: String },
    #[error("image {image} of build {customer}/{build} is not there yet; run: patchlab image {verb} {image}")]
    NoImage { image: Name, customer: Name, build: Name, verb: &'static str },
    #[error("nothing is left to validate{}", reasons(.excluded))]
    Nothing { excluded: Vec<Exclusion> },
    #[error("patch {patch} has nothing to do on any machine that was chosen; leave it out of the bundle")]
    Idle { patch: Name },
}

fn reasons(excluded: &[Exclusion]) -> String {
    excluded.iter().map(|one| format!("\n  {}: {}", one.what, one.reason)).collect()
}

/// Makes the plan.
///
/// # Errors
/// All reasons at once: names that do not exist or that nothing chosen has, images that are not built; or that nothing is left.
pub fn plan(request: &Request, catalog: &Catalog, images: &BTreeMap<Name, SealedImage>, patch: &PlannedPatch) -> Result<Plan, Vec<NoPlan>> {
    plan_together(request, catalog, images, (patch, &[]))
}

/// The same for a patch and those that are applied after it.
///
/// # Errors
/// As for one; also when one of the patches has nothing to do on any machine.
pub fn plan_together(
    request: &Request,
    catalog: &Catalog,
    images: &BTreeMap<Name, SealedImage>,
    (patch, beside): (&PlannedPatch, &[PlannedPatch]),
) -> Result<Plan, Vec<NoPlan>> {
    let mut problems = unknown(request, catalog);
    let candidate = |patch: &PlannedPatch| PlannedPatch { brings: brings(patch, images), ..patch.clone() };
    let (patch, beside) = (candidate(patch), beside.iter().map(candidate).collect());
    let mut plan = Plan { version: VERSION, patch, beside, cells: Vec::new(), excluded: Vec::new(), lint: Vec::new() };
    let mut had = Had::default();
    let hardware = &profiles(catalog);
    for (customer, entry) in &catalog.customers {
        if !wanted(&request.customers, customer) {
            continue;
        }
        for (name, build) in &entry.builds {
            if request.wants_build(name) {
                had.add(&build.hardware, &build.suites);
                let place = Place { catalog, request, images, hardware, customer, entry, name, build };
                place.plan(&mut plan, &mut problems);
            }
        }
        for (name, environment) in &entry.environments {
            if request.wants_environment(name) {
                for member in environment.roles.values() {
                    let build = entry.builds.get(&member.build).map(|build| build.hardware.as_slice()).unwrap_or_default();
                    had.add(if member.hardware.is_empty() { build } else { &member.hardware }, &environment.suites);
                }
                let place = Surroundings { catalog, request, images, hardware, customer, entry, name, environment };
                place.plan(&mut plan, &mut problems);
            }
        }
    }
    if problems.is_empty() {
        problems = had.unused(request);
    }
    if problems.is_empty() && plan.cells.is_empty() {
        problems.push(NoPlan::Nothing { excluded: plan.excluded.clone() });
    }
    if problems.is_empty() {
        let idle = |patch: &&PlannedPatch| !plan.machines().any(|machine| machine.takes(patch.sha256));
        problems.extend(plan.patches().filter(idle).map(|patch| NoPlan::Idle { patch: patch.manifest.id.clone() }));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    plan.lint = lint(&plan, request, catalog, images);
    Ok(plan)
}

/// The catalog's hardware profiles by name, as cells hold them.
pub(super) type Profiles = BTreeMap<Name, Shared<PlannedHardware>>;

fn profiles(catalog: &Catalog) -> Profiles {
    let planned = |(name, profile): (&Name, &Hardware)| {
        let hardware = PlannedHardware { name: name.clone(), sha256: Digest::of_json(profile), profile: profile.clone() };
        (name.clone(), hardware.into())
    };
    catalog.hardware.iter().map(planned).collect()
}

pub(super) fn wanted(list: &[Name], name: &Name) -> bool {
    list.is_empty() || list.contains(name)
}

/// What the builds and environments that were chosen have between them.
#[derive(Default)]
struct Had<'a> {
    hardware: BTreeSet<&'a Name>,
    suites: BTreeSet<&'a Name>,
}

impl<'a> Had<'a> {
    fn add(&mut self, hardware: &'a [Name], suites: &'a [Name]) {
        self.hardware.extend(hardware);
        self.suites.extend(suites);
    }

    /// What was asked for in vain: a request that tries less than its words say is refused.
    fn unused(&self, request: &Request) -> Vec<NoPlan> {
        let kinds = [("hardware profile", &request.hardware, &self.hardware), ("suite", &request.suites, &self.suites)];
        let unused = |(kind, asked, had): (&'static str, &Vec<Name>, &BTreeSet<&Name>)| -> Vec<NoPlan> {
            let list = had.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
            asked
                .iter()
                .filter(|name| !had.contains(name))
                .map(|name| NoPlan::Unused { kind, name: name.clone(), had: list.clone() })
                .collect()
        };
        kinds.into_iter().flat_map(unused).collect()
    }
}

/// What a request names and the catalog has not, which can be told before there is a candidate.
pub fn unknown(request: &Request, catalog: &Catalog) -> Vec<NoPlan> {
    let builds: BTreeSet<&Name> = catalog.customers.values().flat_map(|entry| entry.builds.keys()).collect();
    let environments: BTreeSet<&Name> = catalog.customers.values().flat_map(|entry| entry.environments.keys()).collect();
    let kinds: [(&'static str, &[Name], Vec<&Name>); 5] = [
        ("customer", &request.customers, catalog.customers.keys().collect()),
        ("build", &request.builds, builds.into_iter().collect()),
        ("environment", &request.environments, environments.into_iter().collect()),
        ("hardware profile", &request.hardware, catalog.hardware.keys().collect()),
        ("suite", &request.suites, catalog.suites.keys().collect()),
    ];
    let mut problems = Vec::new();
    for (kind, asked, known) in kinds {
        for name in asked.iter().filter(|name| !known.contains(name)) {
            let known = known.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
            problems.push(NoPlan::Unknown { kind, name: name.to_string(), known });
        }
    }
    problems.extend(environment::unknown_levels(request, catalog));
    problems
}

/// One build of one customer, on its way into the plan.
struct Place<'a> {
    catalog: &'a Catalog,
    request: &'a Request,
    images: &'a BTreeMap<Name, SealedImage>,
    hardware: &'a Profiles,
    customer: &'a Name,
    entry: &'a CustomerEntry,
    name: &'a Name,
    build: &'a Build,
}

impl Place<'_> {
    fn plan(&self, plan: &mut Plan, problems: &mut Vec<NoPlan>) {
        let Some(sealed) = self.images.get(&self.build.image) else {
            problems.push(no_image(self.catalog, self.customer, self.name, self.build));
            return;
        };
        let what = format!("{}.{}", self.customer, self.name);
        let spared = match spared(plan, sealed) {
            Ok(spared) => spared,
            Err(reason) => {
                plan.excluded.push(Exclusion { what, reason });
                return;
            }
        };
        let without = spared.iter().map(|(patch, reason)| Exclusion { what: format!("{what}: {}", patch.1), reason: reason.clone() });
        plan.excluded.extend(without);
        let spared: Vec<Digest> = spared.into_iter().map(|((patch, _), _)| patch).collect();
        let suites = self.suites(sealed, &mut plan.excluded);
        let requested = |hardware: &Name| wanted(&self.request.hardware, hardware);
        let mut fitting = Vec::new();
        for hardware in &self.build.hardware {
            let id = CellId::new(self.customer, self.name, hardware);
            let leave = |reason: &str| Exclusion { what: id.to_string(), reason: reason.to_owned() };
            if !requested(hardware) {
                plan.excluded.push(leave("this hardware was not asked for"));
                continue;
            }
            let (Some(profile), Some(image)) = (self.catalog.hardware.get(hardware), self.catalog.images.get(&self.build.image)) else {
                // The catalog is valid as a whole, so this is a request on another catalog's images.
                plan.excluded.push(leave("the catalog lacks its hardware profile or image"));
                continue;
            };
            if !image.image.firmware.contains(&profile.firmware) {
                plan.excluded.push(leave("the image does not boot on this profile's firmware"));
                continue;
            }
            let Some(planned) = self.hardware.get(hardware) else { continue };
            fitting.push((planned.clone(), image.image.os));
        }
        let kinds = || fitting.iter().map(|(hardware, _)| (hardware.name.to_string(), pairwise::attributes(&hardware.profile))).collect();
        let subject = format!("{}.{}", self.customer, self.name);
        let (chosen, left) = pairwise::limit(fitting.len(), kinds, &subject, self.entry.customer.most_hardware);
        plan.excluded.extend(left);
        let Some((first, os)) = fitting.first() else { return };
        let machine = machine(self.build.role.name(), self.name, self.build, *os, sealed, first.clone());
        let machine = PlannedMachine { spared, ..machine };
        for (hardware, _) in fitting.into_iter().enumerate().filter(|(at, _)| chosen.contains(at)).map(|(_, fits)| fits) {
            let id = CellId::new(self.customer, self.name, &hardware.name);
            let machine = PlannedMachine { hardware, ..machine.clone() };
            plan.cells.push(PlannedCell {
                id,
                customer: self.customer.clone(),
                subject: Subject::Build(self.name.clone()),
                host_labels: host_labels(self.entry, std::slice::from_ref(&machine)),
                machines: vec![machine],
                segments: Vec::new(),
                suites: suites.clone(),
                confirmations: self.entry.customer.confirmations,
                attempts: self.entry.customer.attempts,
                baseline_valid_for: self.entry.customer.baseline_valid_for(),
            });
        }
    }

    fn suites(&self, sealed: &SealedImage, excluded: &mut Vec<Exclusion>) -> Vec<Shared<PlannedSuite>> {
        let mut planned = Vec::new();
        for name in &self.build.suites {
            let place = format!("{}.{}: {name}", self.customer, self.name);
            if !wanted(&self.request.suites, name) {
                excluded.push(Exclusion { what: place, reason: "this suite was not asked for".to_owned() });
                continue;
            }
            let Some(entry) = self.catalog.suites.get(name) else { continue };
            let fits = |case: &&crate::catalog::suite::Case| case.role.is_none_or(|role| role == self.build.role);
            for case in entry.suite.cases.iter().filter(|case| !fits(case)) {
                excluded.push(Exclusion { what: format!("{place}/{}", case.name), reason: "it is meant for another role".to_owned() });
            }
            let cases = entry.suite.cases.iter().filter(fits).cloned().collect();
            let mut suite = PlannedSuite { name: name.clone(), sha256: entry.sha256, cast: BTreeMap::new(), cases, packages: Vec::new() };
            foreign::prepare(&mut suite, sealed, &self.build.image);
            planned.push(suite.into());
        }
        planned
    }
}

/// Whether none of the patch's packages is on any image of the lab, as far as is known: then it is no update for somebody else.
fn brings(patch: &PlannedPatch, images: &BTreeMap<Name, SealedImage>) -> bool {
    let mut known = images.values().filter_map(|image| image.packages.as_ref()).peekable();
    patch.manifest.kind == PatchKind::Deb && known.peek().is_some() && known.all(|installed| !updates(patch, installed))
}

fn updates(patch: &PlannedPatch, installed: &BTreeMap<String, String>) -> bool {
    patch.facts.packages.iter().any(|package| installed.contains_key(&package.name))
}

/// What a customer and his machines' hardware ask of a host together.
pub(super) fn host_labels(customer: &CustomerEntry, machines: &[PlannedMachine]) -> BTreeSet<Name> {
    let hardware = machines.iter().flat_map(|machine| &machine.hardware.profile.host_labels);
    customer.customer.host_labels.iter().chain(hardware).cloned().collect()
}

/// The machine that a build is.
pub(super) fn machine(
    role: Name,
    name: &Name,
    build: &Build,
    os: Os,
    sealed: &SealedImage,
    hardware: Shared<PlannedHardware>,
) -> PlannedMachine {
    let image = PlannedImage { name: build.image.clone(), sha256: sealed.sha256 };
    let (services, volatile) = (build.services.clone().into(), build.volatile.clone().into());
    PlannedMachine { services, volatile, ..PlannedMachine::alone(role, name.clone(), os, image, hardware) }
}

pub(super) fn no_image(catalog: &Catalog, customer: &Name, name: &Name, build: &Build) -> NoPlan {
    let imported = catalog.images.get(&build.image).is_some_and(|entry| entry.image.import.is_some());
    let verb = if imported { "import" } else { "build" };
    NoPlan::NoImage { image: build.image.clone(), customer: customer.clone(), build: name.clone(), verb }
}

/// A patch, and why it is not for a build.
pub(super) type Spared = ((Digest, Name), String);

/// Those of the plan's patches that a build has no use for.
///
/// # Errors
/// With the reason why none of them is for it.
pub(super) fn spared(plan: &Plan, image: &SealedImage) -> Result<Vec<Spared>, String> {
    let reason = |patch: &PlannedPatch| Some(((patch.sha256, patch.manifest.id.clone()), not_applicable(patch, image)?));
    let spared: Vec<Spared> = plan.patches().filter_map(reason).collect();
    if spared.len() < plan.patches().count() {
        return Ok(spared);
    }
    Err(match spared.as_slice() {
        [(_, reason)] => reason.clone(),
        several => several.iter().map(|((_, id), reason)| format!("{id}: {reason}")).collect::<Vec<_>>().join("; "),
    })
}

/// Why this build has no use for the patch, where that is known before a machine is started.
fn not_applicable(patch: &PlannedPatch, image: &SealedImage) -> Option<String> {
    let installed = image.packages.as_ref()?;
    let concerns = patch.manifest.kind != PatchKind::Deb || patch.brings || updates(patch, installed);
    let names = || patch.facts.packages.iter().map(|package| package.name.as_str()).collect::<Vec<_>>().join(", ");
    (!concerns).then(|| format!("none of the patch's packages is installed in its image ({})", names()))
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
