//! How a planned case or stage stands: passed, skipped, a finding or a fault. JUnit's elements and the signs of every other form
//! follow from it.
//!
//! Invariant: fail closed. `Passed` needs an observed pass (or a failure that was there before, unchanged); findings come before faults,
//! faults before everything else.

use crate::catalog::patch::Reboot;
use crate::cell::next::main_stages;
use crate::cell::{Blame, CaseOutcome, Stage, StageOutcome, blame};
use crate::journal::StageRecord;
use crate::verdict::{CaseJudgement, Comparison};

use super::view::CellView;

/// How something that was planned stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// `note`: what a reader should know all the same.
    Passed {
        note: Option<String>,
    },
    Skipped {
        reason: String,
    },
    /// The patch is to blame.
    Finding(News),
    /// The lab is to blame, or nobody can be blamed.
    Fault(News),
}

/// Bad news, as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    pub code: String,
    pub message: String,
    pub detail: String,
}

impl News {
    fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), detail: String::new() }
    }

    fn with_detail(mut self, detail: &str) -> Self {
        self.detail = detail.to_owned();
        self
    }
}

/// How a case of the cell stands.
pub fn of_case(cell: &CellView<'_>, case: &CaseJudgement) -> Standing {
    let name = format!("{}/{}", case.suite, case.case);
    if let Some(bad) = reported(cell, |_, at| at == Some(name.as_str())) {
        return bad;
    }
    let seen = case.patched == Some(CaseOutcome::Pass);
    let told = |code: &str| News::new(code, case.message.clone()).with_detail(&case.detail);
    match case.comparison {
        Comparison::Unchanged if seen => Standing::Passed { note: None },
        Comparison::Fixed if seen => Standing::Passed { note: Some(format!("fixed: {}", case.message)) },
        Comparison::New if seen => Standing::Passed { note: Some(format!("new, without a baseline: {}", case.message)) },
        Comparison::PreExisting if case.baseline.is_some() && case.patched.is_some() => {
            let note = format!("pre-existing: it fails without the patch as well, in the same way, and blocks nothing. {}", case.message);
            Standing::Passed { note: Some(note) }
        }
        Comparison::Regression | Comparison::ChangedFailure => Standing::Finding(told(case.comparison.as_str())),
        Comparison::Flaky => Standing::Fault(told("flaky")),
        Comparison::Skipped => Standing::Skipped { reason: case.message.clone() },
        Comparison::Missing | Comparison::Unchanged | Comparison::Fixed | Comparison::New | Comparison::PreExisting => {
            Standing::Fault(told(if cell.finished { "missing" } else { "unfinished" }))
        }
    }
}

/// How a stage of the cell's main pass stands. `reboot` is what the patch's manifest asks for.
pub fn of_stage(cell: &CellView<'_>, stage: Stage, reboot: Reboot) -> Standing {
    if let Some(bad) = reported(cell, |at, case| at == Some(stage) && case.is_none()) {
        return bad;
    }
    let pass = cell.main_pass();
    let record = pass.and_then(|pass| pass.stages.iter().rev().find(|record| record.stage == stage));
    match record.and_then(|record| record.ended.as_ref()).map(|(_, outcome)| outcome) {
        Some(StageOutcome::Passed) => Standing::Passed { note: recovered(cell, stage) },
        Some(StageOutcome::Skipped { reason }) => Standing::Skipped { reason: reason.clone() },
        Some(StageOutcome::Failed { trouble }) => {
            let news = News::new(trouble.cause.code(), trouble.message.clone()).with_detail(&trouble.detail);
            match blame(&trouble.cause, stage.side()) {
                Blame::Patch => Standing::Finding(news),
                Blame::Lab => Standing::Fault(news),
            }
        }
        None => unseen(cell, stage, reboot, record),
    }
}

/// A stage that gave no outcome.
fn unseen(cell: &CellView<'_>, stage: Stage, reboot: Reboot, record: Option<&StageRecord>) -> Standing {
    if record.is_none() && !main_stages(cell.planned).contains(&stage) {
        let reason = match stage {
            Stage::ColdBoot => "the hardware profile asks for no second cold boot",
            _ => "tried on each build by itself",
        };
        return Standing::Skipped { reason: reason.to_owned() };
    }
    if record.is_none() && stage == Stage::Reboot && reboot == Reboot::Never {
        return Standing::Skipped { reason: "the patch asks for no reboot".to_owned() };
    }
    if !cell.finished {
        let message = if record.is_some() { "begun, and not ended" } else { "not begun: the run has not ended" };
        return Standing::Fault(News::new("unfinished", message));
    }
    match cell.main_pass().and_then(|pass| pass.trouble()) {
        Some((at, trouble)) => {
            Standing::Fault(News::new("not-run", format!("not run: the pass was over at {at} ({})", trouble.cause.code())))
        }
        None => Standing::Fault(News::new("missing", "planned, and without a result")),
    }
}

/// What the judgement says of a place: its findings, else the faults that were not made up for.
fn reported(cell: &CellView<'_>, at: impl Fn(Option<Stage>, Option<&str>) -> bool) -> Option<Standing> {
    let findings: Vec<_> = cell.findings.iter().filter(|finding| at(finding.stage, finding.case.as_deref())).collect();
    if let Some(first) = findings.first() {
        let messages: Vec<_> = findings.iter().map(|finding| finding.message.as_str()).collect();
        return Some(Standing::Finding(News::new(&first.code, messages.join("; ")).with_detail(&first.detail)));
    }
    let faults: Vec<_> = cell.faults.iter().filter(|fault| !fault.recovered && at(fault.stage, fault.case.as_deref())).collect();
    faults.first().map(|first| {
        let messages: Vec<_> = faults.iter().map(|fault| fault.message.as_str()).collect();
        // What is missing while the cell goes on is only outstanding.
        let code = if first.code == "missing" && !cell.finished { "unfinished" } else { &first.code };
        Standing::Fault(News::new(code, messages.join("; ")).with_detail(&first.detail))
    })
}

/// The faults that trying again made up for.
fn recovered(cell: &CellView<'_>, stage: Stage) -> Option<String> {
    let faults: Vec<_> = cell.faults.iter().filter(|fault| fault.recovered && fault.stage == Some(stage)).collect();
    let told: Vec<_> =
        faults.iter().map(|fault| format!("passed on another attempt; before that, {}: {}", fault.code, fault.message)).collect();
    (!told.is_empty()).then(|| told.join("\n"))
}

/// Bad news of the cell that belongs to no stage and to none of its cases, and a verdict that nothing else explains.
pub fn of_cell(cell: &CellView<'_>, explained: bool) -> Option<Standing> {
    let known = |case: &str| cell.cases.iter().any(|judged| case.split_once('/') == Some((judged.suite.as_str(), judged.case.as_str())));
    let loose = |stage: Option<Stage>, case: Option<&str>| case.map_or(stage.is_none(), |case| !known(case));
    if let Some(bad) = reported(cell, loose) {
        return Some(bad);
    }
    match cell.verdict() {
        _ if explained => None,
        crate::verdict::Verdict::Pass => None,
        crate::verdict::Verdict::Fail => Some(Standing::Finding(News::new("fail", "the patch is to blame; no finding says why"))),
        crate::verdict::Verdict::Inconclusive if !cell.finished => Some(Standing::Fault(News::new("unfinished", "the cell has not ended"))),
        crate::verdict::Verdict::Inconclusive => Some(Standing::Fault(News::new("inconclusive", "the lab cannot say; no fault says why"))),
    }
}
