//! Which policy a run may be said to have been judged against.
//!
//! Invariant: a policy is named only of a run that tried all of what it requires of runs, so that nobody reads a pass of a part as a pass
//! of the whole, or one by baselines that are too old for the policy as one that counts. What people add (approvals, waivers) is in the
//! decision alone.

use super::Requirements;
use super::cover::{Relation, relation};
use super::evidence::is_worn;
use crate::id::{Digest, Name};
use crate::journal::{Entry, Event, Record, RunState};
use crate::plan::{Plan, PlannedCell};

/// A customer's policy, as the gate knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedPolicy {
    pub customer: Name,
    /// As in a decision's digests.
    pub sha256: Digest,
}

/// The one customer whose builds a plan is about. Several have no policy in common.
pub fn sole_customer(plan: &Plan) -> Option<&Name> {
    let (first, rest) = plan.cells.split_first()?;
    rest.iter().all(|cell| cell.customer == first.customer).then_some(&first.customer)
}

/// The policy of the run's customer, given the records about its patch and customer, and the entry that ended it: as it was required when
/// the run ended, or when the gate was first asked after that. `None` where the run is held to its plan alone,
/// or tested several patches together.
pub fn applied(run: &RunState, ended: u64, records: &[Entry]) -> Option<AppliedPolicy> {
    let customer = sole_customer(&run.plan).filter(|_| !run.plan.is_together())?;
    let of_run = |one: &Requirements| one.patch == run.plan.patch.sha256 && one.customer == *customer;
    let (before, after): (Vec<_>, Vec<_>) =
        records.iter().filter_map(required).filter(|(_, one)| of_run(one)).partition(|(seq, _)| *seq < ended);
    let (_, requirements) = before.last().or(after.first())?;
    let wanted = &requirements.plan.cells;
    let simulated = run.is_simulated();
    let covers = |cell: &PlannedCell, tried: &PlannedCell| {
        let worn = run.cells.get(&tried.id).is_some_and(|record| is_worn(run.planned, cell, record));
        relation(run.plan.patch.sha256, cell, tried) == Relation::Covers && !worn
    };
    let covered = wanted.iter().all(|cell| run.plan.cells.iter().any(|tried| covers(cell, tried)));
    let holds = !wanted.is_empty() && covered && simulated == requirements.simulated;
    holds.then(|| AppliedPolicy { customer: customer.clone(), sha256: requirements.policy_digest })
}

fn required(entry: &Entry) -> Option<(u64, &Requirements)> {
    match &entry.event {
        Event::Recorded { record } => match &**record {
            Record::RequirementsSet { requirements } => Some((entry.seq, requirements)),
            _ => None,
        },
        _ => None,
    }
}
