//! Removes what nobody owns any more.
//!
//! Every host that answers is looked at; what is left on one that is away is removed when it is back and proves itself.
//!
//! Invariants: only what bears this lab's own tag is touched; what a person keeps stays until it is let go; the journal says why
//! a stage ended before its machine is removed.

use std::collections::BTreeSet;

use super::Lab;
use super::chronicle::captures;
use crate::cell::{Cause, Next, Stage, StageOutcome, Trouble, next};
use crate::hypervisor::{HypervisorError, Owned, Tag};
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
    Ok(find(lab, |_| true).await?.into_iter().map(|(_, one)| one).collect())
}

/// What bears this lab's tag and is not kept, of the kind that is asked for, with the lab on its host. Where there are several hosts, those
/// that do not answer are told of in the log and left alone.
async fn find(lab: &Lab, wanted: impl Fn(&Owned) -> bool) -> Result<Vec<(Lab, Owned)>, ReapError> {
    let kept = kept(lab).await?;
    let (labs, mut away) = lab.everywhere().await;
    let (mut found, several) = (Vec::new(), labs.len() + away.len() > 1);
    for on in labs {
        match (on.hypervisor.owned().await, &on.placed) {
            (Ok(owned), _) => {
                let left = owned.into_iter().filter(|one| !kept.contains(&one.machine) && wanted(one));
                found.extend(left.map(|one| (on.clone(), one)));
            }
            (Err(error), Some(placed)) if several => away.push((placed.host.clone(), error.to_string())),
            (Err(error), _) => return Err(error.into()),
        }
    }
    for (host, why) in away {
        tracing::warn!(%host, why, "a host does not answer: what was left there stays until it is back");
        lab.hosts.doubt(&host, &why, lab.clock.now());
    }
    Ok(found)
}

/// Removes what was found, and returns it.
async fn remove(found: Vec<(Lab, Owned)>) -> Result<Vec<Owned>, ReapError> {
    let mut removed = Vec::new();
    for (on, one) in found {
        tracing::info!(machine = one.machine, "removing what nobody owns");
        match (on.hypervisor.destroy(&one.machine).await, &on.placed) {
            (Ok(()), _) => removed.push(one),
            (Err(error), None) => return Err(error.into()),
            (Err(error), Some(placed)) => {
                tracing::warn!(host = %placed.host, machine = one.machine, %error, "could not be removed; it is tried again when its host proves itself");
                on.hosts.doubt(&placed.host, &error.to_string(), on.clock.now());
            }
        }
    }
    Ok(removed)
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
    remove(find(lab, |_| true).await?).await
}

/// Removes the machines that cells of a run have left, and returns them. The run is not worked on any more.
///
/// # Errors
/// As [`reap`].
pub async fn reap_run(lab: &Lab, run: RunId) -> Result<Vec<Owned>, ReapError> {
    remove(find(lab, |one| one.tag.as_ref().is_some_and(|tag| tag.run == run)).await?).await
}

/// Removes what is left on the host that this lab is on, but for that of cells that are at work there, and for what is being made. A cell that
/// was lost there and is at work elsewhere has nothing there any more.
///
/// # Errors
/// When the host or the journal fail.
pub async fn reap_idle(lab: &Lab) -> Result<(), ReapError> {
    let (kept, at_work) = (kept(lab).await?, lab.hosts.at_work(lab.placed.as_ref().map(|placed| &placed.host)));
    let idle = |tag: &Tag| !at_work.contains(&(tag.run, tag.cell.clone()));
    for one in lab.hypervisor.owned().await? {
        if !kept.contains(&one.machine) && one.tag.as_ref().is_some_and(idle) {
            tracing::info!(machine = one.machine, "removing what nobody owns");
            lab.hypervisor.destroy(&one.machine).await?;
        }
    }
    Ok(())
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
        let on = match &pass.placed {
            // What is on a host that is away is removed when it is back.
            Some(placed) => lab.on(&placed.host).await.ok(),
            None => Some(lab.clone()),
        };
        // What can't be kept of it holds nothing up.
        if let Some(on) = &on
            && let Ok(wire) = on.hypervisor.wire(&machine).await
            && let Ok(evidence) = captures(&lab.evidence, &wire, None).await
            && !evidence.is_empty()
        {
            append(lab, state.run, Event::EvidenceKept { cell: cell.id.clone(), case: None, evidence }).await?;
        }
        for (on, machine) in on.iter().flat_map(|on| cell.objects(&machine).into_iter().map(move |machine| (on, machine))) {
            match (on.hypervisor.destroy(&machine).await, &on.placed) {
                (Ok(()), _) => {}
                (Err(error), None) => return Err(error.into()),
                (Err(error), Some(placed)) => lab.hosts.doubt(&placed.host, &error.to_string(), lab.clock.now()),
            }
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
