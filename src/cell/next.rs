//! What a cell does next: a pure function of its plan and of what happened so far.
//!
//! Invariants: the number of passes is bounded (attempts and confirmations are in the plan); every pass that began is torn down;
//! the answer depends on nothing but the arguments, so a controller that died is followed by one that goes on where it was.

use std::collections::BTreeSet;

use super::{Blame, Cause, Pass, Phase, Stage, blame};
use crate::id::Name;
use crate::journal::{CellRecord, PassRecord};
use crate::plan::PlannedCell;
use crate::verdict::evidence::{CaseKey, came_with_cases, is_clean, suspects};

/// The next thing to do for a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Begin a pass on a fresh clone.
    Begin { pass: Pass, attempt: u32 },
    /// Run a stage of the pass that is under way.
    Run(Stage),
    /// The pass under way is over.
    EndPass,
    /// All is done.
    End,
}

/// What a pass is there to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    pub stages: Vec<Stage>,
    /// The suites' cases, in the plan's order.
    pub cases: Vec<(Name, Name)>,
}

/// What the cell does next.
pub fn next(cell: &PlannedCell, record: &CellRecord) -> Next {
    match record.passes.last() {
        Some(pass) if !pass.ended => in_pass(cell, record, pass),
        _ if record.ended => Next::End,
        _ => match next_pass(cell, record) {
            Some((pass, attempt)) => Next::Begin { pass, attempt },
            None => Next::End,
        },
    }
}

/// The stages and cases of a pass.
pub fn work(cell: &PlannedCell, record: &CellRecord, pass: &Pass) -> Work {
    // Looked for only where they matter: every case of every clone is compared for them.
    let suspects: BTreeSet<CaseKey> = match pass {
        Pass::Main | Pass::Twin { .. } => BTreeSet::new(),
        Pass::Confirm { .. } => suspects(cell, record).into_iter().collect(),
    };
    // A machine that was lost while cases ran may have been lost to any of them.
    let lost_in_cases = record
        .passes
        .iter()
        .any(|done| done.pass == Pass::Main && is_clean(done) && matches!(done.trouble(), Some((Stage::Suites | Stage::ColdBoot, _))));
    let all = lost_in_cases || came_with_cases(record);
    let belongs = |suite: &Name, case: &crate::catalog::suite::Case| match pass {
        Pass::Main => !case.destructive,
        Pass::Twin { suite: s, case: c, .. } => s == suite && *c == case.name,
        Pass::Confirm { .. } => !case.destructive && (all || suspects.contains(&(suite.clone(), case.name.clone()))),
    };
    let cases =
        cell.cases().filter(|(suite, case)| belongs(&suite.name, case)).map(|(suite, case)| (suite.name.clone(), case.name.clone()));
    Work { stages: stages(cell, record, pass), cases: cases.collect() }
}

fn stages(cell: &PlannedCell, record: &CellRecord, pass: &Pass) -> Vec<Stage> {
    match pass {
        Pass::Main => main_stages(cell),
        Pass::Twin { phase: Phase::Baseline, .. } => vec![Stage::Clone, Stage::Boot, Stage::Baseline, Stage::Teardown],
        Pass::Twin { phase: Phase::Patched, .. } => {
            vec![Stage::Clone, Stage::Boot, Stage::Apply, Stage::Reboot, Stage::Suites, Stage::Teardown]
        }
        Pass::Confirm { .. } => {
            let last = furthest_bad_stage(cell, record);
            main_stages(cell).into_iter().filter(|stage| *stage <= last || *stage == Stage::Teardown).collect()
        }
    }
}

/// The destructive cases whose first patched clones are still to begin.
pub fn patched_clones_to_come(cell: &PlannedCell, record: &CellRecord) -> Vec<CaseKey> {
    let begun = |(suite, case): &CaseKey| {
        let first = Pass::Twin { suite: suite.clone(), case: case.clone(), phase: Phase::Patched, round: 0 };
        record.passes.iter().any(|pass| pass.pass == first)
    };
    let destructive = cell.cases().filter(|(_, case)| case.destructive).map(|(suite, case)| (suite.name.clone(), case.name.clone()));
    destructive.filter(|key| !begun(key)).collect()
}

/// The stages of a main pass. Applying again and taking back are tried on each build by itself, not once more among its peers.
pub fn main_stages(cell: &PlannedCell) -> Vec<Stage> {
    let fits = |stage: &Stage| match stage {
        Stage::ColdBoot => cell.second_cold_boot(),
        Stage::Reapply | Stage::Rollback => !cell.is_environment(),
        Stage::Clone | Stage::Boot | Stage::Baseline | Stage::Apply | Stage::Reboot | Stage::Verify | Stage::Suites | Stage::Teardown => {
            true
        }
    };
    Stage::ALL.into_iter().filter(fits).collect()
}

/// The last stage that a confirming pass has to reach.
fn furthest_bad_stage(cell: &PlannedCell, record: &CellRecord) -> Stage {
    let main = record.passes.iter().rev().find(|pass| pass.pass == Pass::Main && is_clean(pass));
    let Some(main) = main else { return Stage::Suites };
    let trouble = main.trouble().map(|(stage, _)| stage);
    let mut last = trouble.unwrap_or(Stage::Suites);
    let suspects: BTreeSet<CaseKey> = suspects(cell, record).into_iter().collect();
    for seen in &main.cases {
        let bad = seen.outcome != super::CaseOutcome::Pass && suspects.contains(&(seen.suite.clone(), seen.case.clone()));
        if bad && seen.point == super::Point::ColdBooted {
            last = last.max(Stage::ColdBoot);
        }
    }
    last
}

fn in_pass(cell: &PlannedCell, record: &CellRecord, pass: &PassRecord) -> Next {
    if pass.outcome(Stage::Teardown).is_some() {
        return Next::EndPass;
    }
    if pass.trouble().is_some() {
        return Next::Run(Stage::Teardown);
    }
    match stages(cell, record, &pass.pass).into_iter().find(|stage| pass.outcome(*stage).is_none()) {
        Some(stage) => Next::Run(stage),
        None => Next::EndPass,
    }
}

/// How the tries at one pass stand.
enum Tries {
    Done,
    Again(u32),
    GivenUp,
}

fn tries(cell: &PlannedCell, record: &CellRecord, pass: &Pass) -> Tries {
    let mine: Vec<&PassRecord> = record.passes.iter().filter(|done| done.pass == *pass).collect();
    if mine.iter().any(|done| is_clean(done)) {
        return Tries::Done;
    }
    // A controller that died or was told to stop says nothing about the lab's health: those tries are free.
    let free = |done: &PassRecord| matches!(done.trouble(), Some((_, t)) if matches!(t.cause, Cause::ControllerEnded | Cause::Cancelled));
    let spoilt = mine.iter().filter(|done| !free(done)).count();
    if spoilt >= cell.attempts as usize { Tries::GivenUp } else { Tries::Again(mine.len() as u32 + 1) }
}

fn next_pass(cell: &PlannedCell, record: &CellRecord) -> Option<(Pass, u32)> {
    match tries(cell, record, &Pass::Main) {
        Tries::Done => {}
        Tries::Again(attempt) => return Some((Pass::Main, attempt)),
        Tries::GivenUp => return None,
    }
    let suspects = suspects(cell, record);
    let stage_trouble = record
        .passes
        .iter()
        .any(|pass| pass.pass == Pass::Main && pass.trouble().is_some_and(|(stage, t)| blame(&t.cause, stage.side()) == Blame::Patch));
    // Where the patch could not even be applied or booted with, a destructive case would show nothing more.
    if !stage_trouble {
        for (suite, case) in cell.cases().filter(|(_, case)| case.destructive) {
            let again = if suspects.contains(&(suite.name.clone(), case.name.clone())) { cell.confirmations } else { 0 };
            for round in 0..=again {
                for phase in [Phase::Baseline, Phase::Patched] {
                    let pass = Pass::Twin { suite: suite.name.clone(), case: case.name.clone(), phase, round };
                    if let Tries::Again(attempt) = tries(cell, record, &pass) {
                        return Some((pass, attempt));
                    }
                }
            }
        }
    }
    let destructive = |key: &CaseKey| cell.case(&key.0, &key.1).is_some_and(|case| case.destructive);
    if stage_trouble || suspects.iter().any(|key| !destructive(key)) {
        for number in 1..=cell.confirmations {
            let pass = Pass::Confirm { number };
            if let Tries::Again(attempt) = tries(cell, record, &pass) {
                return Some((pass, attempt));
            }
        }
    }
    None
}
