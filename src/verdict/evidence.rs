//! From a cell's passes to the pairs that a comparison is made of.
//!
//! Invariant: what was observed in a pass that the lab spoilt is kept and shown, and decides nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};

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
    let seen = record.passes.iter().flat_map(|pass| &pass.cases).filter(|case| case.suite.as_str() == SUITE);
    let health: BTreeMap<&Name, &Name> = seen.map(|case| (&case.case, &case.suite)).collect();
    let mut health: Vec<CaseKey> = health.into_iter().map(|(case, suite)| (suite.clone(), case.clone())).collect();
    health.sort_by_cached_key(|(_, check)| CHECKS.iter().position(|known| known.name == check.as_str()));
    let planned = cell.cases().map(|(suite, case)| (suite.name.clone(), case.name.clone()));
    health.into_iter().chain(planned).collect()
}

/// A cell's observations, pass by pass and case by case: whoever asks about many cases does not search all that was seen for each.
pub struct Observations<'a> {
    record: &'a CellRecord,
    passes: Vec<Seen<'a>>,
}

struct Seen<'a> {
    pass: &'a PassRecord,
    is_clean: bool,
    cases: HashMap<(&'a Name, &'a Name), Vec<&'a CaseObservation>>,
}

impl<'a> Seen<'a> {
    fn of(pass: &'a PassRecord) -> Self {
        let mut cases: HashMap<_, Vec<_>> = HashMap::with_capacity(pass.cases.len());
        for seen in &pass.cases {
            cases.entry((&seen.suite, &seen.case)).or_default().push(seen);
        }
        Self { pass, is_clean: is_clean(pass), cases }
    }

    /// The worst of a side's points. After the patch it is what means most against the baseline: a failure that was there before must
    /// not hide another one that came with a later boot.
    fn worst(&self, key: &CaseKey, phase: Phase, baseline: Option<&CaseObservation>) -> Option<&'a CaseObservation> {
        let mine = self.cases.get(&(&key.0, &key.1))?.iter().copied().filter(|seen| seen.point.phase() == phase);
        let weight = |seen: &&CaseObservation| {
            let against = Pair { baseline, patched: Some(seen) };
            (baseline.map_or(0, |_| rank(against.meaning())), badness(seen.outcome))
        };
        // The first of equals: the earliest point at which it showed.
        mine.rev().max_by_key(weight)
    }
}

impl<'a> Observations<'a> {
    pub fn of(record: &'a CellRecord) -> Self {
        Self { record, passes: record.passes.iter().map(Seen::of).collect() }
    }

    /// The pairs of one case: one for each clean pass that tried it, or for each round of twins. A baseline that another run has seen
    /// gives way to one that a clone of this run has seen since: no patch is blamed by what only another run saw.
    pub fn pairs(&self, key: &CaseKey) -> Vec<Pair<'a>> {
        let clean = || self.passes.iter().filter(|seen| seen.is_clean);
        let own = || clean().filter_map(|seen| seen.worst(key, Phase::Baseline, None)).find(|seen| seen.origin.is_none());
        let mut pairs: Vec<Pair<'a>> = clean()
            .filter(|seen| matches!(seen.pass.pass, Pass::Main | Pass::Confirm { .. }))
            .map(|seen| {
                let baseline = seen.worst(key, Phase::Baseline, None);
                let baseline = if baseline.is_some_and(|seen| seen.origin.is_some()) { own().or(baseline) } else { baseline };
                Pair { baseline, patched: seen.worst(key, Phase::Patched, baseline) }
            })
            .filter(|pair| pair.baseline.is_some() || pair.patched.is_some())
            .collect();
        let twin = |wanted: u32, side: Phase| {
            clean().find_map(|seen| match &seen.pass.pass {
                Pass::Twin { suite, case, phase, round } if *suite == key.0 && *case == key.1 && *round == wanted && *phase == side => {
                    seen.worst(key, side, None)
                }
                _ => None,
            })
        };
        let rounds = clean().filter_map(|seen| match &seen.pass.pass {
            Pass::Twin { suite, case, round, .. } if *suite == key.0 && *case == key.1 => Some(*round),
            _ => None,
        });
        for round in rounds.collect::<BTreeSet<u32>>() {
            pairs.push(Pair { baseline: twin(round, Phase::Baseline), patched: twin(round, Phase::Patched) });
        }
        pairs
    }

    /// Whether a case went bad in a first pass that the lab spoilt afterwards: no evidence, and reason enough to look again.
    pub fn looked_bad(&self, key: &CaseKey) -> bool {
        let spoilt = self.passes.iter().filter(|seen| seen.pass.ended && seen.pass.pass == Pass::Main && !seen.is_clean);
        spoilt.into_iter().any(|seen| {
            let baseline = seen.worst(key, Phase::Baseline, None);
            let pair = Pair { baseline, patched: seen.worst(key, Phase::Patched, baseline) };
            matches!(pair.meaning(), PairMeaning::Worse | PairMeaning::OtherFailure)
        })
    }

    /// Whether a case's first pair is bad news, or it looked bad before the lab spoilt the pass.
    fn is_suspect(&self, key: &CaseKey) -> bool {
        self.pairs(key).first().is_some_and(Pair::is_suspect) || lost_twins(self.record, key).0 > 0 || self.looked_bad(key)
    }
}

/// The cases that are tried again before what they show is believed.
pub fn suspects(cell: &PlannedCell, record: &CellRecord) -> Vec<CaseKey> {
    let observations = Observations::of(record);
    keys(cell, record).into_iter().filter(|key| observations.is_suspect(key)).collect()
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
        matches!(&pass.pass, Pass::Twin { suite, case, phase: Phase::Patched, .. } if *suite == key.0 && *case == key.1) && is_clean(pass)
    });
    mine.fold((0, 0), |(lost, all), pass| (lost + u32::from(pass.trouble().is_some()), all + 1))
}
