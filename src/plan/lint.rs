//! What a careful reader of a plan should know before believing its verdict.

use std::collections::{BTreeMap, BTreeSet};

use super::build::{Request, SealedImage, wanted};
use super::foreign;
use super::{Lint, Plan, PlannedCell, PlannedPatch};
use crate::catalog::Catalog;
use crate::catalog::patch::{PatchKind, Reboot};
use crate::id::Name;

/// The code of a plan that tries less than its customers have, because no more was asked for.
pub const PARTIAL: &str = "partial";
/// Builds and environments that are named as left out.
const TOLD: usize = 4;

/// The weaknesses of a plan, in a fixed order.
pub fn lint(plan: &Plan, request: &Request, catalog: &Catalog, images: &BTreeMap<Name, SealedImage>) -> Vec<Lint> {
    let mut found = Vec::new();
    let mut say = |code: &str, message: String| found.push(Lint { code: code.to_owned(), message });
    if let Some(message) = partial(request, catalog) {
        say(PARTIAL, message);
    }
    for cell in &plan.cells {
        if cell.cases().next().is_none() {
            say("no-cases", format!("{} runs no case of its own, only the health checks", cell.id));
        }
        if cell.confirmations == 0 {
            say("no-confirmation", format!("{}: bad news is believed at once, without a second clone", cell.id));
        }
        for Lint { code, message } in foreign::lint(cell) {
            say(&code, message);
        }
    }
    if plan.cells.iter().all(PlannedCell::is_environment) {
        say("no-build", "only environments were asked for: health checks, idempotence and rollback are tried on builds".to_owned());
    }
    if !plan.cells.iter().any(PlannedCell::second_cold_boot) {
        say("no-second-boot", "no hardware profile of this plan has a second cold boot: what fails only then is not seen".to_owned());
    }
    if plan.is_together() {
        let count = plan.patches().count();
        say("together", format!("{count} patches are tested together: what passes speaks for each of them in the others' company"));
    }
    for patch in plan.patches() {
        for Lint { code, message } in of_patch(patch, plan, images) {
            say(&code, if plan.is_together() { format!("{}: {message}", patch.manifest.id) } else { message });
        }
    }
    found
}

/// What the customers that were chosen have and was not asked for.
fn partial(request: &Request, catalog: &Catalog) -> Option<String> {
    let chosen = catalog.customers.iter().filter(|(customer, _)| wanted(&request.customers, customer));
    let without = chosen.flat_map(|(customer, entry)| {
        let builds = entry.builds.keys().filter(|name| !request.wants_build(name)).map(move |name| format!("build {customer}.{name}"));
        let environments = entry.environments.keys().filter(|name| !request.wants_environment(name));
        builds.chain(environments.map(move |name| format!("environment {customer}.{name}")))
    });
    let kinds = [
        ("the other hardware", request.hardware.is_empty()),
        ("the other suites", request.suites.is_empty()),
        ("the other patch levels", request.levels.is_empty()),
    ];
    let others = kinds.into_iter().filter(|(_, all)| !all).map(|(what, _)| what.to_owned());
    let mut left: Vec<String> = without.collect();
    if left.len() > TOLD {
        let more = left.len() - TOLD;
        left.truncate(TOLD);
        left.push(format!("{more} more"));
    }
    left.extend(others);
    (!left.is_empty()).then(|| format!("It speaks for no more than was asked for, so not for {}", left.join(", ")))
}

/// What of a patch weakens a plan.
fn of_patch(planned: &PlannedPatch, plan: &Plan, images: &BTreeMap<Name, SealedImage>) -> Vec<Lint> {
    let mut found = Vec::new();
    let mut say = |code: &str, message: String| found.push(Lint { code: code.to_owned(), message });
    let patch = &planned.manifest;
    if patch.kind == PatchKind::Script && patch.verify.is_none() {
        say("no-verify", "the patch brings no `verify`: that it took effect is not confirmed".to_owned());
    }
    if patch.kind == PatchKind::Script && patch.changes.is_empty() {
        say(
            "no-changes",
            "the patch declares no `changes`: new files of its own in /opt, /srv, /usr/local and the like are let pass, all else that \
             it changes is a finding"
                .to_owned(),
        );
    }
    if planned.brings {
        say("new-packages", "no image has any of the patch's packages: they are installed anew, which is no update".to_owned());
    }
    if patch.kind == PatchKind::Script && patch.uninstall.is_none() {
        say("no-uninstall", "the patch brings no `uninstall`: its rollback is the image's revert and is not tried".to_owned());
    }
    let kernel = planned.facts.packages.iter().find(|package| package.name.starts_with("linux-image-"));
    if let (Some(kernel), Reboot::Never) = (kernel, patch.reboot) {
        say(
            "kernel-without-reboot",
            format!("{} is a kernel and the manifest says reboot = \"never\": the new kernel is not tried", kernel.name),
        );
    }
    let used: BTreeSet<&Name> = plan.machines().map(|machine| &machine.image.name).collect();
    for package in &planned.facts.packages {
        for (name, image) in images.iter().filter(|(name, _)| used.contains(name)) {
            if image.packages.as_ref().and_then(|all| all.get(&package.name)) == Some(&package.version) {
                say("already-there", format!("{} {} is in image {name} already", package.name, package.version));
            }
        }
    }
    found
}
