//! What the runs of a patch say about one cell that must pass.
//!
//! Invariants: good news counts from an ended run that covers the cell alone, and only if it is known how old it is; bad news counts from
//! wherever the same machines were tried, also from a run that was given up. So no amount of trying again turns a failure into a pass.
//!
//! Where several patches were tested together, a pass speaks for each of them, and says in whose company. Bad news speaks against one of
//! them only where all the others passed without it, and else against nobody: an innocent patch is not rejected for the company that it
//! was in, and none is let through by bad news about others.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::cover::{self, Relation};
use super::inputs::{GateInputs, RunEvidence};
use super::{DecidedPatch, GateFinding};
use crate::cell::next::main_stages;
use crate::cell::{Cause, Pass, Stage, StageOutcome};
use crate::id::{Digest, Name};
use crate::journal::{CellRecord, PassRecord, RunState};
use crate::plan::{Plan, PlannedCell};
use crate::verdict::evidence::{Observations, keys};
use crate::verdict::fold::{essence, fold, identity};
use crate::verdict::{CellJudgement, Comparison, Fault, Verdict};

/// It blocks as long as nobody takes it upon himself; so does what could not be tried again.
pub(super) const FLAKY: &str = Fault::FLAKY;

/// What one run says about the cell.
pub(super) struct Observed<'a> {
    pub run: &'a RunState,
    pub customer: &'a Name,
    pub relation: Relation,
    pub progress: Progress,
    /// Bad news that stands unless it is waived, or clears up while the run goes on.
    pub bad: BTreeSet<GateFinding>,
    /// The patches that were on the machines too.
    pub beside: Vec<DecidedPatch>,
}

impl Observed<'_> {
    /// Whether a finding is among its bad news, waived or not.
    pub fn shows(&self, finding: &GateFinding) -> bool {
        self.bad.iter().any(|one| one.fingerprint == finding.fingerprint && one.subject() == finding.subject())
    }
}

pub(super) enum Progress {
    Queued,
    Running,
    Ended {
        at: Timestamp,
        /// The oldest of what it rests on: its end, or an earlier run's baseline.
        since: Timestamp,
        /// Whether it rests on a baseline that does not count for the wanted cell.
        worn: bool,
        passed: bool,
        /// By a clock that was ahead: its good news may be older than it says.
        ahead: bool,
        /// Why it says nothing about the patch, where the lab is to blame.
        errored: Option<String>,
    },
}

/// Everything that the runs say about a cell that must pass.
pub(super) fn observed<'a>(inputs: &'a GateInputs, wanted: &PlannedCell, as_of: Timestamp) -> Vec<Observed<'a>> {
    let speaks = |run: &&RunEvidence| run.state.planned <= as_of && run.is_simulated(inputs.requirements.simulated);
    let (patch, brings) = (inputs.requirements.patch, inputs.requirements.plan.patch.brings);
    let about = |run: &&RunEvidence| run.state.plan.holds(patch).is_some_and(|one| one.brings == brings);
    let mut all = Vec::new();
    for run in inputs.runs.iter().filter(speaks).filter(about) {
        for tried in &run.state.plan.cells {
            let own = tried.customer == inputs.requirements.customer;
            let relation = cover::relation(patch, wanted, tried);
            let known = own || inputs.requirements.policy.accept_from.contains(&tried.customer);
            if !known || relation == Relation::None || (relation == Relation::OtherBytes && !own) {
                continue;
            }
            let Some(mut seen) = observe(run, wanted, tried, relation, as_of) else { continue };
            seen.beside = beside(&run.state.plan, tried, patch);
            if !seen.beside.is_empty() {
                let mut others = inputs.runs.iter().filter(speaks).filter(|other| !about(other));
                let involved = others.any(|other| passed_without(other, patch, wanted, &seen.beside, as_of));
                match seen.progress {
                    Progress::Ended { passed: false, .. } if !involved => continue,
                    _ if !involved => seen.bad.clear(),
                    _ => {}
                }
            }
            all.push(seen);
        }
    }
    all
}

/// The patches that went onto a cell's machines besides this one.
fn beside(plan: &Plan, tried: &PlannedCell, patch: Digest) -> Vec<DecidedPatch> {
    let others = plan.patches().filter(|one| one.sha256 != patch && tried.machines.iter().any(|machine| machine.takes(one.sha256)));
    others.map(|one| DecidedPatch { id: one.manifest.id.clone(), sha256: one.sha256 }).collect()
}

/// Whether a run shows that all of these patches pass the cell together where this one is not among them.
fn passed_without(run: &RunEvidence, patch: Digest, wanted: &PlannedCell, others: &[DecidedPatch], as_of: Timestamp) -> bool {
    let plan = &run.state.plan;
    let ended = run.state.ended.is_some_and(|(at, _)| at <= as_of);
    let shows = |tried: &PlannedCell| {
        let holds = |other: &DecidedPatch| beside(plan, tried, patch).contains(other);
        let passed = run.judgement.cells.iter().any(|cell| cell.id == tried.id && cell.verdict == Verdict::Pass);
        passed && cover::same_place(wanted, tried) && others.iter().all(holds)
    };
    ended && plan.holds(patch).is_none() && plan.cells.iter().any(shows)
}

fn observe<'a>(
    run: &'a RunEvidence,
    wanted: &PlannedCell,
    tried: &'a PlannedCell,
    relation: Relation,
    as_of: Timestamp,
) -> Option<Observed<'a>> {
    let judgement = run.judgement.cells.iter().find(|cell| cell.id == tried.id)?;
    let record = run.state.cells.get(&tried.id)?;
    let mut bad: BTreeSet<GateFinding> = findings(judgement).chain(cut_short(tried, record, judgement)).collect();
    if relation != Relation::Covers {
        bad.retain(|finding| cover::concerns(wanted, tried, finding.case.as_deref()));
    }
    if relation == Relation::OtherBytes {
        bad.clear();
    }
    let progress = match run.state.ended {
        Some((at, _)) if at <= as_of => {
            let passed = judgement.verdict == Verdict::Pass;
            let since = taken_over(record).min().map_or(at, |oldest| oldest.min(at));
            let (worn, ahead) = (is_worn(run.state.planned, wanted, record), run.ahead);
            Progress::Ended { at, since, worn, passed, ahead, errored: errored(&run.state.plan, tried, record, judgement) }
        }
        _ if record.passes.is_empty() && !record.ended => Progress::Queued,
        _ => Progress::Running,
    };
    Some(Observed { run: &run.state, customer: &tried.customer, relation, progress, bad, beside: Vec::new() })
}

/// When the baselines were seen that the cell took over.
fn taken_over(record: &CellRecord) -> impl Iterator<Item = Timestamp> + '_ {
    record.passes.iter().flat_map(|pass| &pass.cases).filter_map(|seen| seen.origin.as_ref().map(|origin| origin.at))
}

/// Whether one of them was too old for the wanted cell when the run was planned. How old it was when it was taken over, the run's own limit
/// was for: that of another customer, or of the same one before it changed.
pub(super) fn is_worn(planned: Timestamp, wanted: &PlannedCell, record: &CellRecord) -> bool {
    let limit = SignedDuration::try_from(wanted.baseline_valid_for.0).unwrap_or(SignedDuration::MAX);
    taken_over(record).any(|at| limit.is_zero() || planned.duration_since(at) >= limit)
}

/// The judged bad news that a person could take upon himself.
pub fn findings(judgement: &CellJudgement) -> impl Iterator<Item = GateFinding> + '_ {
    let findings = judgement.findings.iter().map(GateFinding::from);
    findings.chain(judgement.faults.iter().filter(|fault| fault.is_bad_news()).map(|fault| {
        let case = fault.case.clone().or_else(|| fault.stage.map(|stage| stage.to_string()));
        let subject = case.clone().unwrap_or_default();
        let fingerprint = identity(FLAKY, &subject, &[fold(&fault.message)].into());
        GateFinding { code: FLAKY.to_owned(), case, fingerprint, waiver: None }
    }))
}

/// Why a cell's evidence is not whole, apart from bad news about the patch.
fn errored(plan: &Plan, cell: &PlannedCell, record: &CellRecord, judgement: &CellJudgement) -> Option<String> {
    let fault = judgement.faults.iter().find(|fault| !fault.recovered && !fault.is_bad_news()).map(|fault| fault.code.clone());
    // What came after a finding that ended the pass was never tried: a waiver of that finding does not speak for it.
    let untried = || judgement.cases.iter().find(|case| case.comparison == Comparison::Missing);
    let unseen = || untried().map(|case| format!("{}/{} gave no result", case.suite, case.case));
    fault.or_else(unseen).or_else(|| never_tried(plan, cell, record).map(|stage| format!("{stage} was not tried")))
}

/// The first stage that trouble kept the cell from trying, if it would have been tried without.
fn never_tried(plan: &Plan, cell: &PlannedCell, record: &CellRecord) -> Option<Stage> {
    let main = record.passes.iter().rev().find(|pass| pass.pass == Pass::Main)?;
    let (at, _) = main.trouble()?;
    let mut laid = plan.patches().filter(|patch| cell.machines.iter().any(|machine| machine.takes(patch.sha256)));
    let way_back = laid.all(|patch| patch.manifest.has_way_back());
    let owed = |stage: &Stage| *stage > at && *stage != Stage::Teardown && (*stage != Stage::Rollback || way_back);
    main_stages(cell).into_iter().filter(owed).find(|stage| main.outcome(*stage).is_none())
}

/// Cases that went from good to bad in a pass that people or a dying controller cut short, and of which the judgement says nothing: who
/// stops a run when it turns red has seen red all the same.
fn cut_short(cell: &PlannedCell, record: &CellRecord, judgement: &CellJudgement) -> Vec<GateFinding> {
    let stopped = |pass: &PassRecord| {
        let by_people = |cause: &Cause| matches!(cause, Cause::ControllerEnded | Cause::Cancelled);
        !pass.ended || pass.trouble().is_some_and(|(_, trouble)| by_people(&trouble.cause))
    };
    if !record.passes.iter().any(stopped) {
        return Vec::new();
    }
    let whole = |pass: &PassRecord| {
        let mut pass = pass.clone();
        if stopped(&pass) {
            pass.ended = true;
            pass.stages.retain(|stage| !matches!(stage.ended, None | Some((_, StageOutcome::Failed { .. }))));
        }
        pass
    };
    let as_if = CellRecord { passes: record.passes.iter().map(whole).collect(), ended: record.ended };
    let judged = |place: &str| findings(judgement).any(|finding| finding.case.as_deref() == Some(place));
    let mut found = Vec::new();
    let observations = Observations::of(&as_if);
    for key in keys(cell, &as_if) {
        let place = format!("{}/{}", key.0, key.1);
        let pairs = observations.pairs(&key);
        let bad = pairs.iter().filter(|pair| pair.is_suspect()).filter_map(|pair| pair.patched);
        let essences: BTreeSet<String> = bad.map(|seen| essence(seen.fingerprint, &seen.message)).collect();
        if !essences.is_empty() && !judged(&place) {
            let fingerprint = identity(FLAKY, &place, &essences);
            found.push(GateFinding { code: FLAKY.to_owned(), case: Some(place), fingerprint, waiver: None });
        }
    }
    found
}
