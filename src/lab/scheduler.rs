//! Runs a plan's cells, as many machines at once as there are slots, and ends the run.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};

use super::runner::CellRunner;
use super::{Lab, RunFiles};
use crate::id::RunId;
use crate::journal::{CellRecord, Event, Journal, JournalError, RunState};
use crate::verdict::Verdict;
use crate::verdict::judge::judge;

/// Works through the cells that have not ended and ends the run with its verdict.
///
/// # Errors
/// When the journal cannot be written. Machines are then left to the reaper.
pub async fn work(lab: &Lab, state: &RunState, files: RunFiles) -> Result<Verdict, JournalError> {
    cells(lab, state, files).await?;
    end(&lab.journal, state.run, lab.clock.now()).await
}

/// Works through the cells that have not ended, or those of them that are begun before the lab is cancelled.
///
/// # Errors
/// See [`work`].
pub async fn cells(lab: &Lab, state: &RunState, files: RunFiles) -> Result<(), JournalError> {
    let run = state.run;
    let plan = Arc::new(state.plan.clone());
    let files = Arc::new(files);
    let mut open: Vec<_> = plan.cells.iter().filter(|cell| state.cells.get(&cell.id).is_none_or(|record| !record.ended)).collect();
    // The longest first, so that the last worker does not end long after the others.
    open.sort_by_key(|cell| std::cmp::Reverse(lab.history.cell(cell)));
    let slots = u32::try_from(lab.settings.slots.max(1)).unwrap_or(u32::MAX);
    let free = Arc::new(Semaphore::new(slots as usize));
    let mut workers: JoinSet<Result<(), JournalError>> = JoinSet::new();
    let worked = async {
        for cell in open {
            let machines = u32::try_from(cell.machines.len()).unwrap_or(u32::MAX).clamp(1, slots);
            // All of the cell's machines at once, and no cell before those ahead of it.
            let held = loop {
                tokio::select! {
                    held = free.clone().acquire_many_owned(machines) => break held,
                    Some(ended) = workers.join_next() => outcome(ended)?,
                }
            };
            // A closed semaphore does not happen: nobody closes it.
            let Ok(held) = held else { break };
            if *lab.cancelled.borrow() {
                break;
            }
            let record: CellRecord = state.cells.get(&cell.id).cloned().unwrap_or_default();
            let runner = CellRunner::new(lab.clone(), run, plan.clone(), cell.clone(), files.clone(), record);
            workers.spawn(async move {
                let _held = held;
                runner.run().await
            });
        }
        while let Some(ended) = workers.join_next().await {
            outcome(ended)?;
        }
        Ok(())
    };
    let worked = worked.await;
    if worked.is_err() {
        // Nothing can be recorded any more: the other workers must not go on.
        workers.shutdown().await;
    }
    worked
}

/// What became of a worker; its panic goes on here.
fn outcome(ended: Result<Result<(), JournalError>, JoinError>) -> Result<(), JournalError> {
    ended.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
}

/// Ends a run with the verdict that its observations give.
///
/// # Errors
/// When the journal cannot be read or written.
pub async fn end(journal: &Journal, run: RunId, now: Timestamp) -> Result<Verdict, JournalError> {
    // Judged as ended: what has not ended is never a pass.
    let ended = |state: RunState| judge(&RunState { ended: Some((now, Verdict::Inconclusive)), ..state }).verdict;
    let verdict = journal.state(run).await?.map_or(Verdict::Inconclusive, ended);
    journal.append(run, now, Event::RunEnded { verdict }).await?;
    Ok(verdict)
}
