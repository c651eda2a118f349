//! Removes what nobody owns any more.
//!
//! Invariants: only what bears this lab's own tag is touched; what a person keeps stays until it is let go; the journal says why
//! a stage ended before its machine is removed.

use std::collections::BTreeSet;

use super::Lab;
use super::chronicle::captures;
use crate::cell::{Cause, Next, Stage, StageOutcome, Trouble, next};
use crate::hypervisor::{HypervisorError, Owned};
use crate::id::RunId;
use crate::journal::{Event, JournalError, RunState};
use thiserror::Error;

/// The lab could not clean up.
#[derive(Debug, Error)]
pub enum ReapError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
}

/// Everything with this lab's tag that no lease holds. Only the holder of the state lock may ask: all other leases are dead then.
///
/// # Errors
/// When hypervisor or journal cannot be read.
pub async fn orphans(lab: &Lab) -> Result<Vec<Owned>, ReapError> {
    let kept = kept(lab).await?;
    let owned = lab.hypervisor.owned().await?;
    Ok(owned.into_iter().filter(|one| !kept.contains(&one.machine)).collect())
}

/// Machines that people keep and whose leases have not run out.
///
/// # Errors
/// When the journal cannot be read.
pub async fn kept(lab: &Lab) -> Result<BTreeSet<String>, JournalError> {
    let mut kept = BTreeSet::new();
    let now = lab.clock.now();
    for run in lab.journal.keepers(now).await? {
        if let Some(state) = lab.journal.state(run).await? {
            let held = |machine: &String| state.leases.get(machine).is_some_and(|until| now < *until);
            kept.extend(state.kept.iter().filter(|machine| held(machine)).cloned());
        }
    }
    Ok(kept)
}

/// Removes the orphans and returns them.
///
/// # Errors
/// When hypervisor or journal fail. What was removed until then stays removed.
pub async fn reap(lab: &Lab) -> Result<Vec<Owned>, ReapError> {
    let orphans = orphans(lab).await?;
    for one in &orphans {
        tracing::info!(machine = one.machine, "removing what nobody owns");
        lab.hypervisor.destroy(&one.machine).await?;
    }
    Ok(orphans)
}

/// Removes the machines that cells of a run have left, and returns them. The run is not worked on any more.
///
/// # Errors
/// As [`reap`].
pub async fn reap_run(lab: &Lab, run: RunId) -> Result<Vec<Owned>, ReapError> {
    let kept = kept(lab).await?;
    let of_run = |one: &Owned| one.tag.as_ref().is_some_and(|tag| tag.run == run) && !kept.contains(&one.machine);
    let left: Vec<_> = lab.hypervisor.owned().await?.into_iter().filter(of_run).collect();
    for one in &left {
        tracing::info!(machine = one.machine, "removing what its cell has left");
        lab.hypervisor.destroy(&one.machine).await?;
    }
    Ok(left)
}

/// Ends what an earlier controller had under way in a run: the open stage as a fault, its machine, its pass.
///
/// # Errors
/// When hypervisor or journal fail.
pub async fn take_over(lab: &Lab, state: &RunState) -> Result<(), ReapError> {
    for cell in &state.plan.cells {
        let Some(record) = state.cells.get(&cell.id) else { continue };
        let Some(pass) = record.passes.last().filter(|pass| !pass.ended) else { continue };
        let open = pass.stages.last().filter(|stage| stage.ended.is_none()).map(|stage| stage.stage);
        let machine = pass.machine.clone();
        let cut = match (open, next(cell, record)) {
            (Some(stage), _) => Some(stage),
            (None, Next::Run(stage)) => {
                append(lab, state.run, Event::StageStarted { cell: cell.id.clone(), stage }).await?;
                Some(stage)
            }
            (None, Next::Begin { .. } | Next::EndPass | Next::End) => None,
        };
        if let Some(stage) = cut.filter(|stage| *stage != Stage::Teardown) {
            let trouble = Trouble::new(Cause::ControllerEnded, format!("the controller ended during {stage}; the pass is done again"));
            append(lab, state.run, Event::StageEnded { cell: cell.id.clone(), stage, outcome: StageOutcome::Failed { trouble } }).await?;
            append(lab, state.run, Event::StageStarted { cell: cell.id.clone(), stage: Stage::Teardown }).await?;
        }
        // What can't be kept of it holds nothing up.
        if let Ok(wire) = lab.hypervisor.wire(&machine).await
            && let Ok(evidence) = captures(&lab.evidence, &wire, None).await
            && !evidence.is_empty()
        {
            append(lab, state.run, Event::EvidenceKept { cell: cell.id.clone(), case: None, evidence }).await?;
        }
        for machine in cell.objects(&machine) {
            lab.hypervisor.destroy(&machine).await?;
        }
        if cut.is_some() {
            let outcome = StageOutcome::Passed;
            append(lab, state.run, Event::StageEnded { cell: cell.id.clone(), stage: Stage::Teardown, outcome }).await?;
        }
        append(lab, state.run, Event::PassEnded { cell: cell.id.clone(), kept: false }).await?;
    }
    Ok(())
}

async fn append(lab: &Lab, run: RunId, event: Event) -> Result<(), JournalError> {
    lab.journal.append(run, lab.clock.now(), event).await.map(|_| ())
}
