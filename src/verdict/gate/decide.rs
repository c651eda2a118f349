//! The decision itself.
//!
//! Invariants: nothing is approved without an ended run that passed each required cell, or whose bad news is waived; more bad news never
//! opens the gate; an empty list of requirements never does.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::cover::Relation;
use super::evidence::{FLAKY, Observed, Progress, observed};
use super::inputs::GateInputs;
use super::{DecidedPatch, Decision, Digests, Reason, Requirement, Status, people};
use crate::catalog::text::Span;
use crate::id::{Digest, RunId};
use crate::plan::PlannedCell;
use crate::verdict::results::some_of;

/// What stands in the way besides cells and approvals.
const PATCH: &str = "patch";
const REJECTION: &str = "rejection";

/// Decides. Whatever is later than the moment is not there yet.
pub fn decide(inputs: &GateInputs, as_of: Timestamp) -> Decision {
    let wanted = &inputs.requirements;
    // A plan for another patch requires nothing of this one.
    let planned = if wanted.plan.patch.sha256 == wanted.patch { wanted.plan.cells.as_slice() } else { &[] };
    let cells: Vec<Standing> = planned.iter().map(|cell| stand(inputs, cell, as_of)).collect();
    let (policy, plan) = (wanted.policy.digest(), wanted.plan.digest());
    let told: Vec<_> = cells.iter().map(|cell| &cell.requirement).map(|one| (&one.what, one.reason, &one.from, &one.findings)).collect();
    let company: Vec<_> = cells.iter().map(|cell| (&cell.requirement.what, &cell.requirement.together)).collect();
    let of = (wanted.patch, &wanted.customer, policy, plan, wanted.simulated, told);
    let alone = company.iter().all(|(_, together)| together.is_empty());
    let basis = if alone { Digest::of_json(&of) } else { Digest::of_json(&(of, company)) };
    let launchers: BTreeSet<String> = cells.iter().filter_map(|cell| cell.launcher.clone()).collect();
    let approvals = people::approvals(inputs, basis, &launchers, as_of);
    let refused = rejection(inputs, as_of);
    let status = status(inputs, &cells, &approvals, refused.is_some(), as_of);
    let runs: BTreeMap<RunId, Digest> = cells.iter().filter_map(|cell| cell.rests_on).collect();
    let busy = cells.iter().any(|cell| matches!(cell.requirement.reason, Reason::Queued | Reason::Running));
    let ends = cells.iter().filter_map(|cell| cell.until).chain(wanted.deadline.filter(|_| status == Status::Pending));
    let until = ends.filter(|at| *at > as_of).min();
    let superseded = inputs
        .superseded_by
        .as_ref()
        .map(|by| plain(PATCH, Reason::Superseded, format!("{} ({}) took its place", by.id, by.sha256.short())));
    let requirements: Vec<Requirement> =
        cells.into_iter().map(|cell| cell.requirement).chain(approvals).chain(refused).chain(superseded).collect();
    let mut decision = Decision {
        patch: DecidedPatch { id: wanted.patch_id.clone(), sha256: wanted.patch },
        customer: wanted.customer.clone(),
        status,
        summary: summary(status, &requirements, wanted.simulated),
        requirements,
        digests: Digests { policy, plan, basis, runs },
        revision: 1,
        is_final: status != Status::Pending && !busy,
        as_of,
        until,
        deadline: wanted.deadline,
        lane: wanted.policy.lane.clone(),
        simulated: wanted.simulated,
    };
    if let Some(last) = &inputs.last {
        decision.revision = if decision.says_the_same(last) { last.revision } else { last.revision.saturating_add(1) };
    }
    decision
}

impl Decision {
    /// Whether nothing but the moment differs.
    pub fn says_the_same(&self, other: &Self) -> bool {
        Self { as_of: other.as_of, revision: other.revision, ..self.clone() } == *other
    }
}

/// How a required cell stands.
struct Standing {
    requirement: Requirement,
    rests_on: Option<(RunId, Digest)>,
    /// Who launched the run that it rests on.
    launcher: Option<String>,
    /// Until when it stands like this if nothing happens.
    until: Option<Timestamp>,
}

fn plain(what: &str, reason: Reason, message: String) -> Requirement {
    Requirement { what: what.to_owned(), reason, message, run: None, from: None, together: Vec::new(), findings: Vec::new() }
}

/// The newest that ended, and what it says.
struct Newest<'a> {
    seen: &'a Observed<'a>,
    at: Timestamp,
    since: Timestamp,
    worn: bool,
    passed: bool,
    ahead: bool,
    errored: Option<&'a str>,
}

fn stand(inputs: &GateInputs, cell: &PlannedCell, as_of: Timestamp) -> Standing {
    let seen = observed(inputs, cell, as_of);
    let covering = || seen.iter().filter(|one| one.relation == Relation::Covers);
    let ended = |one: &'_ Observed<'_>| matches!(one.progress, Progress::Ended { .. });
    // One whose baselines do not count speaks where there is no other; so does one that ended by a clock that was ahead, which would else be
    // the newest for long.
    let counts = |newest: &Newest<'_>| !newest.worn || newest.errored.is_some();
    let newest = covering().filter_map(newest).max_by_key(|newest| (!newest.ahead, counts(newest), newest.at, newest.seen.run.run));
    let mut until: Option<Timestamp> = None;
    let mut ends = |at: Timestamp| until = Some(until.map_or(at, |until| until.min(at)));
    // Bad news of ended runs, and of runs that go on: the latter may clear up, and until then nothing else counts.
    let mut findings = BTreeSet::new();
    let mut unclear = None;
    for one in &seen {
        for mut finding in one.bad.clone() {
            if let Some(record) = people::waiver(inputs, cell, &finding, as_of) {
                finding.waiver = Some(record.id);
                ends(record.waiver.expires);
            } else if !ended(one) {
                unclear.get_or_insert(one);
            }
            if ended(one) {
                findings.insert(finding);
            }
        }
    }
    let passed = covering().any(|one| matches!(one.progress, Progress::Ended { passed: true, .. }));
    let open: Vec<_> = findings.iter().filter(|finding| finding.waiver.is_none()).collect();
    let under_way = || covering().find(|one| matches!(one.progress, Progress::Running)).or_else(|| covering().find(|one| !ended(one)));
    let valid_for = SignedDuration::try_from(inputs.requirements.policy.valid_for.0).unwrap_or(SignedDuration::ZERO);
    let (reason, message, speaks) = match (&newest, under_way(), unclear) {
        _ if !open.is_empty() => {
            // What passes without the others and fails with them is not flaky.
            let with_others = seen.iter().any(|one| ended(one) && !one.beside.is_empty() && open.iter().any(|bad| one.shows(bad)));
            let one_way = (!passed || with_others) && open.iter().any(|finding| finding.code != FLAKY);
            let mut names: Vec<_> = open.iter().map(|finding| finding.subject()).collect();
            names.dedup();
            let shows = seen.iter().filter(|one| ended(one) && !one.bad.is_empty()).max_by_key(|one| one.run.run);
            (if one_way { Reason::Failed } else { Reason::Flaky }, some_of(&names), shows)
        }
        (_, _, Some(unclear)) => {
            (Reason::Running, "bad news in a run that has not ended: end it with the command that began it".to_owned(), Some(unclear))
        }
        (None | Some(Newest { errored: Some(_), .. }), Some(run), None) => match run.progress {
            Progress::Queued => (Reason::Queued, "launched, not begun".to_owned(), Some(run)),
            Progress::Running | Progress::Ended { .. } => (Reason::Running, "under way".to_owned(), Some(run)),
        },
        (Some(Newest { errored: Some(why), seen, .. }), None, None) => {
            (Reason::Errored, format!("the lab could not say: {why}"), Some(*seen))
        }
        (Some(Newest { at, since, worn, seen, passed, ahead, .. }), run, None) => {
            let end = since.checked_add(valid_for).unwrap_or(*since);
            let told = |why: String| format!("passed at {at}{}, {why}", rests_on(*since, *at));
            let old = match () {
                () if *ahead => {
                    let told = "by a clock that was ahead, so that nobody knows how long ago: run it again";
                    Some(format!("passed at {at} {told}"))
                }
                () if *worn => Some(told(too_old(cell.baseline_valid_for))),
                () if end < as_of => Some(told(format!("which speaks until {end}"))),
                () => None,
            };
            match (old, run) {
                (Some(_), Some(run)) => (Reason::Running, "under way again: what passed is too old".to_owned(), Some(run)),
                (Some(told), None) => (Reason::Stale, told, Some(*seen)),
                (None, _) => {
                    ends(end.checked_add(SignedDuration::from_nanos(1)).unwrap_or(end));
                    match () {
                        () if *passed && findings.is_empty() => (Reason::Passed, "passed".to_owned(), Some(*seen)),
                        () if *passed || !seen.bad.is_empty() => {
                            (Reason::Waived, some_of(&findings.iter().map(|one| one.subject()).collect::<Vec<_>>()), Some(*seen))
                        }
                        () => (Reason::Errored, "it did not pass, and does not say why".to_owned(), Some(*seen)),
                    }
                }
            }
        }
        (None, None, None) => untried(inputs, &seen),
    };
    let own = speaks.is_none_or(|one| *one.customer == inputs.requirements.customer);
    let message = match speaks.map(|one| one.beside.as_slice()) {
        None | Some([]) => message,
        Some(beside) => {
            let ids: Vec<_> = beside.iter().map(|one| one.id.as_str()).collect();
            format!("{message}, tested together with {}", some_of(&ids))
        }
    };
    let requirement = Requirement {
        what: cell.id.to_string(),
        reason,
        message,
        run: speaks.map(|one| one.run.run),
        from: speaks.filter(|_| !own).map(|one| one.customer.clone()),
        together: speaks.map(|one| one.beside.clone()).unwrap_or_default(),
        findings: findings.into_iter().collect(),
    };
    let rests_on = speaks.map(|one| (one.run.run, one.run.plan_digest));
    Standing { requirement, rests_on, launcher: speaks.map(|one| one.run.by.clone()), until }
}

/// A baseline that is older than the run.
fn rests_on(since: Timestamp, at: Timestamp) -> String {
    if since < at { format!(" by baselines of {since}") } else { String::new() }
}

/// Why baselines do not count that another run may take over.
fn too_old(limit: Span) -> String {
    if limit.0.is_zero() {
        return "and by the customer's policy every run has its own".to_owned();
    }
    format!("and by the customer's policy they count for {limit}")
}

fn newest<'a>(seen: &'a Observed<'a>) -> Option<Newest<'a>> {
    match &seen.progress {
        Progress::Ended { at, since, worn, passed, ahead, errored } => {
            Some(Newest { seen, at: *at, since: *since, worn: *worn, passed: *passed, ahead: *ahead, errored: errored.as_deref() })
        }
        Progress::Queued | Progress::Running => None,
    }
}

/// Nothing that covers the cell was ever begun.
fn untried<'a>(inputs: &GateInputs, seen: &'a [Observed<'a>]) -> (Reason, String, Option<&'a Observed<'a>>) {
    let patch = inputs.requirements.patch;
    let in_company = inputs.runs.iter().any(|run| run.state.plan.is_together() && run.state.plan.holds(patch).is_some());
    let of = |relation| seen.iter().filter(move |one| one.relation == relation).max_by_key(|one| one.run.run);
    match (of(Relation::OtherSuites).or(of(Relation::OtherBytes)), of(Relation::Part)) {
        (Some(other), _) => {
            (Reason::Superseded, "only other images, hardware or suites were tried under this name".to_owned(), Some(other))
        }
        (None, Some(_)) => (Reason::Missing, "not every suite that is required was run".to_owned(), None),
        (None, None) if in_company => (Reason::Missing, "tried only together with others, which did not pass".to_owned(), None),
        (None, None) => (Reason::Missing, "not tried".to_owned(), None),
    }
}

/// A person's word against the patch.
fn rejection(inputs: &GateInputs, as_of: Timestamp) -> Option<Requirement> {
    let stands = |revoked: &Option<super::Act>| revoked.as_ref().is_none_or(|act| act.at > as_of);
    let record = inputs.rejections.iter().find(|record| record.at <= as_of && stands(&record.revoked))?;
    Some(plain(REJECTION, Reason::Failed, format!("rejected by {} ({}): {}", record.rejection.by, record.id, record.rejection.reason)))
}

fn status(inputs: &GateInputs, cells: &[Standing], approvals: &[Requirement], refused: bool, as_of: Timestamp) -> Status {
    let any = |wanted: &[Reason]| cells.iter().any(|cell| wanted.contains(&cell.requirement.reason));
    let late = inputs.requirements.deadline.is_some_and(|deadline| deadline <= as_of);
    let pending = if late { Status::Inconclusive } else { Status::Pending };
    match () {
        () if inputs.superseded_by.is_some() => Status::Superseded,
        () if refused || cells.iter().any(|cell| blamed(&cell.requirement)) => Status::Rejected,
        () if cells.is_empty() => Status::Inconclusive,
        () if any(&[Reason::Queued, Reason::Running]) => pending,
        () if any(&[Reason::Failed, Reason::Flaky, Reason::Errored]) => Status::Inconclusive,
        () if any(&[Reason::Missing]) => pending,
        () if any(&[Reason::Superseded]) => Status::Superseded,
        () if any(&[Reason::Stale]) => Status::Expired,
        () if !approvals.iter().all(|approval| approval.reason.is_met()) => pending,
        () if any(&[Reason::Waived]) => Status::ApprovedWithWaivers,
        () if cells.iter().all(|cell| cell.requirement.reason == Reason::Passed) => Status::Approved,
        () => Status::Inconclusive,
    }
}

/// Whether there is bad news that the patch is to blame for and nobody waived.
fn blamed(requirement: &Requirement) -> bool {
    requirement.findings.iter().any(|finding| finding.waiver.is_none() && finding.code != FLAKY)
}

/// Where a requirement comes among those that are open: what the status follows from first, so that people read the failure before what
/// was not tried.
fn place(status: Status, one: &Requirement) -> u8 {
    let first = match status {
        Status::Rejected => blamed(one) || one.what == REJECTION,
        Status::Inconclusive => matches!(one.reason, Reason::Failed | Reason::Flaky | Reason::Errored),
        Status::Superseded if one.what == PATCH => return 0,
        Status::Superseded => one.reason == Reason::Superseded,
        Status::Expired => one.reason == Reason::Stale,
        Status::Pending | Status::Approved | Status::ApprovedWithWaivers => true,
    };
    if first { 1 } else { 2 }
}

fn summary(status: Status, requirements: &[Requirement], simulated: bool) -> String {
    let met = requirements.iter().filter(|one| one.reason.is_met()).count();
    let mut open: Vec<&Requirement> = requirements.iter().filter(|one| !one.reason.is_met()).collect();
    open.sort_by_key(|one| place(status, one));
    let told = match open.as_slice() {
        _ if requirements.is_empty() => "nothing is required, so nothing speaks for the patch".to_owned(),
        [] => format!("{met} of {met} requirements are met"),
        [first, rest @ ..] => {
            let more = if rest.is_empty() { String::new() } else { format!("; {} more open", rest.len()) };
            format!("{} {}: {}{more}", first.what, first.reason, first.message)
        }
    };
    format!("{status}: {told}{}", if simulated { " (on the simulator)" } else { "" })
}
