//! The verdict: walks the plan, not the arrivals.
//!
//! Invariants: a pass needs every planned cell ended, every planned case observed on both sides and nothing bad unexplained; zero
//! cases is not a pass; bad news that did not show again is flaky, and flaky is never a pass.

use std::collections::BTreeSet;

use crate::cell::{Blame, CaseOutcome, Pass, Phase, Stage, StageOutcome, Trouble, blame};
use crate::id::Digest;
use crate::journal::{CellRecord, PassRecord, RunState};
use crate::plan::PlannedCell;

use super::compare::{Pair, PairMeaning, comparison};
use super::evidence::{CaseKey, Observations, is_clean, keys, lost_twins};
use super::fold::{essence, fingerprint, fold, identity};
use super::health::SUITE;
use super::results::some_of;
use super::trend::warnings;
use super::{CaseJudgement, CellJudgement, Comparison, Fault, Finding, Judgement, Verdict};

/// Notes of the health checks kept of a cell.
const HEALTH_NOTES: usize = 40;

/// What the run's observations mean so far. An unfinished run is never a pass.
pub fn judge(state: &RunState) -> Judgement {
    let mut cells: Vec<CellJudgement> =
        state.plan.cells.iter().map(|cell| judge_cell(cell, state.cells.get(&cell.id).unwrap_or(&CellRecord::default()))).collect();
    let mut warnings = warnings(state);
    for cell in &mut cells {
        cell.notes.extend(warnings.remove(&cell.id).unwrap_or_default());
    }
    let verdict = overall(state.is_finished(), cells.iter().map(|cell| cell.verdict));
    Judgement { verdict, finished: state.is_finished(), cells }
}

/// What the verdicts of all cells of a plan give together.
pub fn overall(finished: bool, cells: impl IntoIterator<Item = Verdict>) -> Verdict {
    let worse = |one: Verdict, other: Verdict| match (one, other) {
        (Verdict::Fail, _) | (_, Verdict::Fail) => Verdict::Fail,
        (Verdict::Inconclusive, _) | (_, Verdict::Inconclusive) => Verdict::Inconclusive,
        (Verdict::Pass, Verdict::Pass) => Verdict::Pass,
    };
    match cells.into_iter().reduce(worse) {
        None => Verdict::Inconclusive,
        Some(Verdict::Pass) if !finished => Verdict::Inconclusive,
        Some(verdict) => verdict,
    }
}

/// What one cell's observations mean.
pub fn judge_cell(cell: &PlannedCell, record: &CellRecord) -> CellJudgement {
    let mut judgement = CellJudgement {
        id: cell.id.clone(),
        verdict: Verdict::Inconclusive,
        cases: Vec::new(),
        findings: Vec::new(),
        faults: Vec::new(),
        notes: Vec::new(),
    };
    stages(cell, record, &mut judgement);
    // Where the patch could not be applied or booted with, that finding says why nothing came after it.
    let explained = judgement.findings.first().map(|finding| finding.code.clone());
    let observations = Observations::of(record);
    for key in keys(cell, record) {
        case((cell, record), &observations, &key, explained.as_deref(), &mut judgement);
    }
    // Where cases are planned, one of them has to have passed: the health checks alone are no regression test.
    let counts = |case: &CaseJudgement| cell.cases().next().is_none() || case.suite.as_str() != SUITE;
    let superficial = |case: &CaseJudgement| {
        let test = cell.case(&case.suite, &case.case).and_then(|case| case.autopkgtest.as_ref());
        test.is_some_and(|test| test.superficial)
    };
    let passed = |case: &&CaseJudgement| case.patched == Some(CaseOutcome::Pass);
    let weak = judgement.cases.iter().filter(passed).filter(|case| superficial(case));
    let weak: Vec<_> = weak.map(|case| format!("{}/{}: passed, and is superficial: weak evidence", case.suite, case.case)).collect();
    judgement.notes.extend(weak);
    judgement.notes.extend(health_notes(record));
    let speaks = |case: &CaseJudgement| counts(case) && passed(&case) && !superficial(case);
    if judgement.findings.is_empty() && !judgement.cases.iter().any(speaks) {
        judgement.faults.push(fault(
            "no-required-cases",
            "not one case passed on this cell (superficial ones do not count), so nothing speaks for the patch",
        ));
    }
    // Of machines among their peers, each build's own cell looks at the health.
    if !cell.is_environment() && !judgement.cases.iter().any(|case| case.suite.as_str() == SUITE) {
        judgement.faults.push(fault("missing", "the health checks gave no result"));
    }
    if !record.ended {
        judgement.faults.push(fault("unfinished", "the cell has not ended"));
    }
    judgement.verdict = match () {
        () if !judgement.findings.is_empty() => Verdict::Fail,
        () if judgement.faults.iter().any(|fault| !fault.recovered) => Verdict::Inconclusive,
        () => Verdict::Pass,
    };
    judgement
}

/// What the health checks noted after the patch: once, however many clones and points showed it.
fn health_notes(record: &CellRecord) -> Vec<String> {
    let checks =
        record.passes.iter().filter(|pass| is_clean(pass)).flat_map(|pass| &pass.cases).filter(|seen| seen.suite.as_str() == SUITE);
    let after = checks.filter(|seen| seen.point.phase() == Phase::Patched);
    let all = after.flat_map(|seen| seen.notes.iter().map(move |note| format!("{}: {}", seen.case, note.trim())));
    let mut known = BTreeSet::new();
    let mut notes: Vec<String> = all.filter(|note| known.insert(fold(note))).collect();
    let dropped = notes.len().saturating_sub(HEALTH_NOTES);
    notes.truncate(HEALTH_NOTES);
    if dropped > 0 {
        notes.push(format!("the health checks noted {dropped} more"));
    }
    notes
}

fn fault(code: &str, message: impl Into<String>) -> Fault {
    Fault {
        code: code.to_owned(),
        message: message.into(),
        stage: None,
        case: None,
        recovered: false,
        detail: String::new(),
        evidence: Vec::new(),
    }
}

fn stages(cell: &PlannedCell, record: &CellRecord, judgement: &mut CellJudgement) {
    let recovered = |spoilt: &PassRecord| record.passes.iter().any(|pass| pass.pass == spoilt.pass && is_clean(pass));
    for pass in &record.passes {
        for (stage, trouble) in pass.troubles() {
            match blame(&trouble.cause, stage.side()) {
                Blame::Lab => judgement.faults.push(Fault {
                    code: trouble.cause.code().to_owned(),
                    message: format!("{stage} ({}, attempt {}): {}", pass.pass, pass.attempt, trouble.message),
                    stage: Some(stage),
                    case: None,
                    recovered: stage == Stage::Teardown || recovered(pass),
                    detail: trouble.detail.clone(),
                    evidence: trouble.evidence.clone(),
                }),
                Blame::Patch if pass.pass == Pass::Main => stage_finding(cell, record, stage, trouble, judgement),
                Blame::Patch => later_trouble(record, pass, stage, trouble, judgement),
            }
        }
        for stage in &pass.stages {
            if let (Pass::Main, Some((_, StageOutcome::Skipped { reason }))) = (&pass.pass, &stage.ended) {
                judgement.notes.push(format!("{} skipped: {reason}", stage.stage));
            }
        }
    }
}

/// Bad news on a clone other than the first: the confirmation of the first one's, a destructive case that loses its machine, or
/// something that the first clone did not show.
fn later_trouble(record: &CellRecord, pass: &PassRecord, stage: Stage, trouble: &Trouble, judgement: &mut CellJudgement) {
    let first = record.passes.iter().find(|pass| pass.pass == Pass::Main && is_clean(pass)).and_then(|pass| pass.trouble());
    if first.is_some_and(|(same, _)| same == stage) {
        return;
    }
    let shown = Finding {
        code: trouble.cause.code().to_owned(),
        message: format!("{stage} ({}): {}", pass.pass, trouble.message),
        stage: Some(stage),
        case: None,
        confirmed: (0, 0),
        detail: trouble.detail.clone(),
        evidence: trouble.evidence.clone(),
        fingerprint: of_stage(stage, trouble),
    };
    if let Pass::Twin { suite, case, round, .. } = &pass.pass {
        let (lost, all) = lost_twins(record, &(suite.clone(), case.clone()));
        if lost == all && (all > 1 || !record.ended) {
            if *round == 0 {
                judgement.findings.push(Finding { case: Some(format!("{suite}/{case}")), confirmed: (lost - 1, all - 1), ..shown });
            }
            return;
        }
    }
    judgement.faults.push(Fault {
        code: Fault::FLAKY.to_owned(),
        message: format!("{}; the first clone did not show it", shown.message),
        stage: Some(stage),
        case: None,
        recovered: false,
        detail: shown.detail,
        evidence: shown.evidence,
    });
}

/// Bad news about a stage: believed when it showed at that stage on every fresh clone that got there.
fn stage_finding(cell: &PlannedCell, record: &CellRecord, stage: Stage, trouble: &Trouble, judgement: &mut CellJudgement) {
    let tries: Vec<&PassRecord> = record.passes.iter().filter(|pass| matches!(pass.pass, Pass::Confirm { .. }) && is_clean(pass)).collect();
    let again = tries.iter().filter(|pass| pass.trouble().is_some_and(|(other, _)| other == stage)).count();
    if tries.is_empty() && cell.confirmations > 0 && record.ended {
        judgement.faults.push(Fault {
            stage: Some(stage),
            detail: trouble.detail.clone(),
            evidence: trouble.evidence.clone(),
            ..unconfirmed(&format!("{stage} failed ({}): {}", trouble.cause.code(), trouble.message))
        });
    } else if again == tries.len() {
        judgement.findings.push(Finding {
            code: trouble.cause.code().to_owned(),
            message: trouble.message.clone(),
            stage: Some(stage),
            case: None,
            confirmed: (again as u32, tries.len() as u32),
            detail: trouble.detail.clone(),
            evidence: trouble.evidence.clone(),
            fingerprint: of_stage(stage, trouble),
        });
    } else {
        judgement.faults.push(Fault {
            code: Fault::FLAKY.to_owned(),
            message: format!(
                "{stage} failed on the first clone ({}) and on {again} of {} fresh ones: {}",
                trouble.cause.code(),
                tries.len(),
                trouble.message
            ),
            stage: Some(stage),
            case: None,
            recovered: false,
            detail: trouble.detail.clone(),
            evidence: trouble.evidence.clone(),
        });
    }
}

fn of_stage(stage: Stage, trouble: &Trouble) -> Digest {
    identity(trouble.cause.code(), stage.as_str(), &[essence(None, &trouble.message)].into())
}

/// Bad news that no fresh clone could be asked about.
fn unconfirmed(what: &str) -> Fault {
    fault(Fault::UNCONFIRMED, format!("{what}; the lab did not manage to try it again on a fresh clone"))
}

fn case(
    (cell, record): (&PlannedCell, &CellRecord),
    observations: &Observations<'_>,
    key: &CaseKey,
    explained: Option<&str>,
    judgement: &mut CellJudgement,
) {
    let pairs = observations.pairs(key);
    let comparison = comparison(&pairs);
    let complete: Vec<&Pair<'_>> = pairs.iter().filter(|pair| pair.meaning() != PairMeaning::Unclear).collect();
    let bad = complete.iter().find(|pair| pair.is_suspect());
    let shown = bad.copied().or(pairs.last());
    let place = format!("{}/{}", key.0, key.1);
    let patched = shown.and_then(|pair| pair.patched);
    let baseline = shown.and_then(|pair| pair.baseline);
    let judged = CaseJudgement {
        suite: key.0.clone(),
        case: key.1.clone(),
        baseline: baseline.map(|seen| seen.outcome),
        patched: patched.map(|seen| seen.outcome),
        comparison,
        message: match explained {
            Some(code) if comparison == Comparison::Missing && baseline.is_some() => format!("not run: {code}"),
            _ => message(comparison, shown),
        },
        detail: patched.or(baseline).filter(|seen| seen.outcome != CaseOutcome::Pass).map(|seen| seen.detail.clone()).unwrap_or_default(),
        baseline_ms: baseline.map(|seen| seen.elapsed_ms),
        patched_ms: patched.map(|seen| seen.elapsed_ms),
        baseline_from: baseline.and_then(|seen| seen.origin.as_deref().cloned()),
    };
    let suspect = complete.iter().filter(|pair| pair.is_suspect()).count();
    match comparison {
        // Nobody is blamed by what another run saw before the patch.
        Comparison::Regression | Comparison::ChangedFailure
            if complete.len() == 1 && cell.confirmations > 0 && record.ended || !complete.iter().any(|pair| is_own(pair)) =>
        {
            let found = unconfirmed(&format!("{place}: {}", judged.message));
            judgement.faults.push(Fault { case: Some(place.clone()), detail: judged.detail.clone(), ..found });
        }
        Comparison::Regression | Comparison::ChangedFailure => judgement.findings.push(Finding {
            code: comparison.as_str().to_owned(),
            message: format!("{place}: {}", judged.message),
            stage: None,
            fingerprint: of_case(comparison, &place, &complete),
            case: Some(place),
            confirmed: (suspect as u32 - 1, complete.len() as u32 - 1),
            detail: judged.detail.clone(),
            evidence: patched.map(|seen| seen.evidence.clone()).unwrap_or_default(),
        }),
        Comparison::Flaky => judgement.faults.push(Fault {
            case: Some(place.clone()),
            detail: judged.detail.clone(),
            ..fault(Fault::FLAKY, format!("{place}: bad on {suspect} of {} clones: {}", pairs.len(), judged.message))
        }),
        Comparison::Missing if baseline.is_some() && explained.is_some() => {}
        Comparison::Missing => {
            judgement.faults.push(Fault { case: Some(place.clone()), detail: judged.detail.clone(), ..missing(&place, baseline, patched) })
        }
        Comparison::New if pairs.iter().any(|pair| pair.meaning() == PairMeaning::NewFailure) => judgement.faults.push(Fault {
            case: Some(place.clone()),
            detail: judged.detail.clone(),
            ..fault("no-baseline", format!("{place}: could not run before the patch and fails after it: {}", judged.message))
        }),
        Comparison::Fixed => judgement.notes.push(format!("{place}: failed before the patch, passes after it")),
        Comparison::Unchanged if observations.looked_bad(key) => {
            judgement.notes.push(format!("{place}: failed in an attempt that the lab spoilt, and on no clone since"));
        }
        Comparison::Unchanged | Comparison::New | Comparison::PreExisting | Comparison::Skipped => {}
    }
    judgement.cases.push(judged);
}

fn of_case(comparison: Comparison, place: &str, pairs: &[&Pair<'_>]) -> Digest {
    let bad = pairs.iter().filter(|pair| pair.is_suspect()).filter_map(|pair| pair.patched.map(|seen| (pair, seen)));
    let ways = bad.map(|(pair, seen)| match pair.newly_skipped() {
        skipped if skipped.is_empty() => essence(seen.fingerprint, &seen.message),
        skipped => fingerprint(skipped).to_string(),
    });
    identity(comparison.as_str(), place, &ways.collect())
}

/// Whether a clone of this very run showed the baseline.
fn is_own(pair: &Pair<'_>) -> bool {
    pair.baseline.is_some_and(|seen| seen.origin.is_none())
}

type Seen<'a> = Option<&'a crate::cell::CaseObservation>;

fn missing(place: &str, baseline: Seen<'_>, patched: Seen<'_>) -> Fault {
    let harness = [baseline, patched].into_iter().flatten().find(|seen| seen.outcome == CaseOutcome::HarnessError);
    match (harness, baseline, patched) {
        (Some(seen), _, _) => {
            fault("harness-error", format!("{place}: the case itself failed to work {}: {}", seen.point.as_str(), seen.message))
        }
        (None, None, None) => fault("missing", format!("{place}: planned and not run")),
        (None, Some(_), None) => fault("missing", format!("{place}: not run after the patch")),
        (None, None, Some(_)) => fault("missing", format!("{place}: no baseline to compare with")),
        (None, Some(_), Some(_)) => fault("missing", format!("{place}: no two sides of one clone")),
    }
}

fn message(comparison: Comparison, shown: Option<&Pair<'_>>) -> String {
    let (baseline, patched) = (shown.and_then(|pair| pair.baseline), shown.and_then(|pair| pair.patched));
    let text = |seen: Seen<'_>| seen.map(|seen| seen.message.trim().to_owned()).unwrap_or_default();
    let after = patched.map(|seen| seen.point.as_str()).unwrap_or_default();
    match comparison {
        Comparison::Regression => match patched.map(|seen| seen.outcome) {
            Some(CaseOutcome::Skip) => format!("ran before, could not run {after}: {}", text(patched)),
            Some(CaseOutcome::Pass) => {
                format!(
                    "passes, but skips {after} what it did not skip before: {}",
                    some_of(&shown.map(Pair::newly_skipped).unwrap_or_default())
                )
            }
            Some(CaseOutcome::TimedOut) => format!("passed before, exceeded its time limit {after}: {}", text(patched)),
            _ => format!("passed before, failed {after}: {}", text(patched)),
        },
        Comparison::ChangedFailure => format!("failed before ({}), fails differently {after}: {}", text(baseline), text(patched)),
        Comparison::PreExisting => format!("fails the same way with and without the patch: {}", text(patched)),
        Comparison::Skipped if patched.is_none_or(|seen| seen.outcome == CaseOutcome::Pass) => {
            format!("before the patch: {}", text(baseline))
        }
        Comparison::Skipped => text(patched),
        Comparison::Missing if baseline.is_some() => "no result after the patch".to_owned(),
        Comparison::Missing => "no result".to_owned(),
        Comparison::Unchanged | Comparison::Fixed | Comparison::Flaky | Comparison::New => text(patched),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::cell::{CaseObservation, Point};
    use crate::journal::StageRecord;
    use crate::plan::examples::{self, name};

    fn seen(suite: &str, case: &str, point: Point) -> CaseObservation {
        CaseObservation {
            suite: name(suite),
            case: name(case),
            point,
            outcome: CaseOutcome::Pass,
            elapsed_ms: 7,
            message: String::new(),
            detail: String::new(),
            fingerprint: None,
            skipped: Vec::new(),
            notes: Vec::new(),
            evidence: Vec::new(),
            origin: None,
        }
    }

    fn judged(cases: Vec<CaseObservation>) -> CellJudgement {
        let cell = examples::cell("web", "plain", vec![examples::suite("web", vec![examples::case("pages")])]);
        let pass = |pass| PassRecord {
            pass,
            attempt: 1,
            machine: "m".to_owned(),
            placed: None,
            xml: Default::default(),
            starts: Default::default(),
            stages: vec![StageRecord {
                stage: Stage::Suites,
                started: Timestamp::UNIX_EPOCH,
                ended: Some((Timestamp::UNIX_EPOCH, StageOutcome::Passed)),
            }],
            facts: Default::default(),
            gauges: Default::default(),
            cases: cases.clone(),
            anew: Vec::new(),
            evidence: Vec::new(),
            ended: true,
            kept: false,
        };
        judge_cell(&cell, &CellRecord { passes: vec![pass(Pass::Main), pass(Pass::Confirm { number: 1 })], ended: true })
    }

    #[test]
    fn what_the_health_checks_note_is_told_once() {
        let noting = |point, notes: &[&str]| CaseObservation {
            notes: notes.iter().map(|note| (*note).to_owned()).collect(),
            ..seen(SUITE, "listening-ports", point)
        };
        let notes = judged(vec![
            noting(Point::Baseline, &[]),
            noting(Point::Applied, &["x newly listens on tcp 0.0.0.0:8080", "worker pid 17 is new"]),
            noting(Point::Rebooted, &["x newly listens on tcp 0.0.0.0:8080", "worker pid 99 is new"]),
        ])
        .notes;
        assert_eq!(notes, ["listening-ports: x newly listens on tcp 0.0.0.0:8080", "listening-ports: worker pid 17 is new"]);
        let many: Vec<String> = (0..60).map(|at| format!("{} is new", "x".repeat(at + 1))).collect();
        let notes = judged(vec![CaseObservation { notes: many, ..seen(SUITE, "mounts", Point::Applied) }]).notes;
        assert_eq!((notes.len(), notes[HEALTH_NOTES].as_str()), (HEALTH_NOTES + 1, "the health checks noted 20 more"));
    }

    #[test]
    fn a_finding_names_what_a_passed_case_skips_since_the_patch() {
        let after = CaseObservation { skipped: vec!["tls".to_owned()], ..seen("web", "pages", Point::Rebooted) };
        let judged = judged(vec![seen("web", "pages", Point::Baseline), after]);
        assert_eq!(judged.verdict, Verdict::Fail);
        let message = "web/pages: passes, but skips after the reboot what it did not skip before: tls";
        assert_eq!((judged.findings[0].code.as_str(), judged.findings[0].message.as_str()), ("regression", message));
    }
}
