//! From a cell's passes to the pairs that a comparison is made of.
//!
//! Invariant: what was observed in a pass that the lab spoilt is kept and shown, and decides nothing.

use std::collections::BTreeSet;

use crate::cell::{Blame, CaseObservation, CaseOutcome, Pass, Phase, Stage, StageOutcome, blame};
use crate::id::Name;
use crate::journal::{CellRecord, PassRecord};
use crate::plan::PlannedCell;

use super::compare::{Pair, PairMeaning, badness, rank};
use super::health::{CHECKS, SUITE};

/// A suite's name and a case's.
pub type CaseKey = (Name, Name);

/// Whether the pass ended and the lab kept its side of it up. Bad news of the patch's does not spoil a pass.
pub fn is_clean(pass: &PassRecord) -> bool {
    let spoilt = pass.stages.iter().any(|record| match &record.ended {
        // The machine is gone or will be reaped: what was seen before is sound.
        _ if record.stage == Stage::Teardown => false,
        Some((_, StageOutcome::Failed { trouble })) => blame(&trouble.cause, record.stage.side()) == Blame::Lab,
        Some((_, StageOutcome::Passed | StageOutcome::Skipped { .. })) => false,
        None => true,
    });
    pass.ended && !spoilt
}

/// Every case that the cell has results for or owes: the plan's cases and each health check seen, in a fixed order.
pub fn keys(cell: &PlannedCell, record: &CellRecord) -> Vec<CaseKey> {
    let seen = record.passes.iter().flat_map(|pass| &pass.cases);
    let health: BTreeSet<CaseKey> =
        seen.filter(|case| case.suite.as_str() == SUITE).map(|case| (case.suite.clone(), case.case.clone())).collect();
    let mut health: Vec<CaseKey> = health.into_iter().collect();
    health.sort_by_key(|(_, check)| CHECKS.iter().position(|known| known.name == check.as_str()));
    let planned = cell.cases().map(|(suite, case)| (suite.name.clone(), case.name.clone()));
    health.into_iter().chain(planned).collect()
}

/// The worst of a side's points. After the patch it is what means most against the baseline: a failure that was there before must
/// not hide another one that came with a later boot.
fn worst<'a>(pass: &'a PassRecord, key: &CaseKey, phase: Phase, baseline: Option<&CaseObservation>) -> Option<&'a CaseObservation> {
    let mine = pass.cases.iter().filter(|seen| seen.suite == key.0 && seen.case == key.1 && seen.point.phase() == phase);
    let weight = |seen: &&CaseObservation| {
        let against = Pair { baseline, patched: Some(seen) };
        (baseline.map_or(0, |_| rank(against.meaning())), badness(seen.outcome))
    };
    // The first of equals: the earliest point at which it showed.
    mine.rev().max_by_key(weight)
}

/// The pairs of one case: one for each clean pass that tried it, or for each round of twins. A baseline that another run has seen gives
/// way to one that a clone of this run has seen since: no patch is blamed by what only another run saw.
pub fn pairs<'a>(record: &'a CellRecord, key: &CaseKey) -> Vec<Pair<'a>> {
    let clean = || record.passes.iter().filter(|pass| is_clean(pass));
    let own = || clean().filter_map(|pass| worst(pass, key, Phase::Baseline, None)).find(|seen| seen.origin.is_none());
    let mut pairs: Vec<Pair<'a>> = clean()
        .filter(|pass| matches!(pass.pass, Pass::Main | Pass::Confirm { .. }))
        .map(|pass| {
            let baseline = worst(pass, key, Phase::Baseline, None);
            let baseline = if baseline.is_some_and(|seen| seen.origin.is_some()) { own().or(baseline) } else { baseline };
            Pair { baseline, patched: worst(pass, key, Phase::Patched, baseline) }
        })
        .filter(|pair| pair.baseline.is_some() || pair.patched.is_some())
        .collect();
    let twin = |wanted: u32, side: Phase| {
        clean().find_map(|pass| match &pass.pass {
            Pass::Twin { suite, case, phase, round } if *suite == key.0 && *case == key.1 && *round == wanted && *phase == side => {
                worst(pass, key, side, None)
            }
            _ => None,
        })
    };
    let rounds = clean().filter_map(|pass| match &pass.pass {
        Pass::Twin { suite, case, round, .. } if *suite == key.0 && *case == key.1 => Some(*round),
        _ => None,
    });
    for round in rounds.collect::<BTreeSet<u32>>() {
        pairs.push(Pair { baseline: twin(round, Phase::Baseline), patched: twin(round, Phase::Patched) });
    }
    pairs
}

/// The cases whose first pair is bad news, or that looked bad before the lab spoilt the pass: they are tried again before they are
/// believed.
pub fn suspects(cell: &PlannedCell, record: &CellRecord) -> Vec<CaseKey> {
    let bad = |key: &CaseKey| {
        pairs(record, key).first().is_some_and(Pair::is_suspect) || lost_twins(record, key).0 > 0 || looked_bad(record, key)
    };
    keys(cell, record).into_iter().filter(bad).collect()
}

/// Whether a case went bad in a first pass that the lab spoilt afterwards: no evidence, and reason enough to look again.
pub fn looked_bad(record: &CellRecord, key: &CaseKey) -> bool {
    let spoilt = record.passes.iter().filter(|pass| pass.ended && pass.pass == Pass::Main && !is_clean(pass));
    spoilt.into_iter().any(|pass| {
        let baseline = worst(pass, key, Phase::Baseline, None);
        let pair = Pair { baseline, patched: worst(pass, key, Phase::Patched, baseline) };
        matches!(pair.meaning(), PairMeaning::Worse | PairMeaning::OtherFailure)
    })
}

/// Whether a health check went bad only when the patched machine's cases had run: a clone that is to confirm it has to run them too.
pub fn came_with_cases(record: &CellRecord) -> bool {
    let first = record.passes.iter().rev().find(|pass| pass.pass == Pass::Main && is_clean(pass));
    let checks = || first.into_iter().flat_map(|pass| &pass.cases).filter(|seen| seen.suite.as_str() == SUITE);
    let before = |later: &CaseObservation| checks().find(|seen| seen.case == later.case && seen.point == later.point);
    let turned = |later: &CaseObservation| {
        let bad = matches!(later.outcome, CaseOutcome::Fail | CaseOutcome::TimedOut);
        bad && later.point.phase() == Phase::Patched && before(later).is_some_and(|seen| seen.outcome == CaseOutcome::Pass)
    };
    checks().any(turned)
}

/// How many patched clones of a destructive case were lost to the patch, of those that were tried.
pub fn lost_twins(record: &CellRecord, key: &CaseKey) -> (u32, u32) {
    let mine = record.passes.iter().filter(|pass| {
        is_clean(pass) && matches!(&pass.pass, Pass::Twin { suite, case, phase: Phase::Patched, .. } if *suite == key.0 && *case == key.1)
    });
    mine.fold((0, 0), |(lost, all), pass| (lost + u32::from(pass.trouble().is_some()), all + 1))
}
