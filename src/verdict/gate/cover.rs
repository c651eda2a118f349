//! Whether what a run tried is what the gate wants, byte by byte.
//!
//! Invariant: names decide nothing. A build, image or profile counts by its digest, a suite by its digest and the cases that were run.

use crate::id::Digest;
use crate::plan::{PlannedCell, PlannedMachine};

/// What a cell that was tried is to one that must pass. Who else is patched, and with what, is told apart from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    /// The same machines, and every suite that is wanted.
    Covers,
    /// The same machines, and not every suite: its bad news counts, its good news does not.
    Part,
    /// The same machines and suites by their names, and a suite is another edition: as with a part.
    OtherSuites,
    /// The same cell by its name, with other bytes.
    OtherBytes,
    /// About something else.
    None,
}

pub(super) fn relation(patch: Digest, wanted: &PlannedCell, tried: &PlannedCell) -> Relation {
    let alike = |(wanted, tried): (&PlannedMachine, &PlannedMachine)| alike(wanted, tried) && wanted.takes(patch) == tried.takes(patch);
    let machines = wanted.machines.len() == tried.machines.len() && wanted.machines.iter().zip(&tried.machines).all(alike);
    let place = wanted.is_environment() == tried.is_environment() && wanted.segments == tried.segments;
    match () {
        () if machines && place && wanted.suites.iter().all(|suite| tried.suites.contains(suite)) => Relation::Covers,
        () if machines && place && wanted.suites.iter().all(|suite| tried.suites.iter().any(|one| one.name == suite.name)) => {
            Relation::OtherSuites
        }
        () if machines && place => Relation::Part,
        () if wanted.id == tried.id => Relation::OtherBytes,
        () => Relation::None,
    }
}

/// Whether both are about the same machines and suites, whatever goes onto them.
pub(super) fn same_place(wanted: &PlannedCell, tried: &PlannedCell) -> bool {
    let machines = wanted.machines.len() == tried.machines.len() && wanted.machines.iter().zip(&tried.machines).all(|(a, b)| alike(a, b));
    machines && wanted.segments == tried.segments && wanted.suites.iter().all(|suite| tried.suites.contains(suite))
}

fn alike(wanted: &PlannedMachine, tried: &PlannedMachine) -> bool {
    // Taken apart, so that a new field of a machine has to be thought about here.
    let PlannedMachine { role, build: _, os, image, hardware, patched: _, spared: _, services, volatile, nics, names, ready, ready_within } =
        wanted;
    *role == tried.role
        && *os == tried.os
        && image.sha256 == tried.image.sha256
        && hardware.sha256 == tried.hardware.sha256
        && *services == tried.services
        && *volatile == tried.volatile
        && *nics == tried.nics
        && *names == tried.names
        && *ready == tried.ready
        && *ready_within == tried.ready_within
}

/// Whether bad news about this case of a cell that is a part of the wanted one is bad news about that. Health checks and stages are the
/// same everywhere; a suite counts where it is the same suite.
pub(super) fn concerns(wanted: &PlannedCell, tried: &PlannedCell, case: Option<&str>) -> bool {
    let Some((suite, _)) = case.and_then(|case| case.split_once('/')) else { return true };
    let digest = |cell: &PlannedCell| cell.suites.iter().find(|one| one.name.as_str() == suite).map(|one| one.sha256);
    suite == crate::verdict::health::SUITE || digest(wanted).is_some() && digest(wanted) == digest(tried)
}
