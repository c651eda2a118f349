//! Gives a run's cells to a few workers and ends the run.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::runner::CellRunner;
use super::{Lab, RunFiles};
use crate::id::RunId;
use crate::journal::{CellRecord, Event, JournalError, RunState};
use crate::verdict::Verdict;
use crate::verdict::judge::judge;

/// Works through the cells that have not ended and ends the run with its verdict.
///
/// # Errors
/// When the journal cannot be written. Machines are then left to the reaper.
pub async fn work(lab: &Lab, state: &RunState, files: RunFiles) -> Result<Verdict, JournalError> {
    let run = state.run;
    let plan = Arc::new(state.plan.clone());
    let files = Arc::new(files);
    let mut open: Vec<_> = plan.cells.iter().filter(|cell| state.cells.get(&cell.id).is_none_or(|record| !record.ended)).collect();
    // The longest first, so that the last worker does not end long after the others.
    open.sort_by_key(|cell| std::cmp::Reverse(lab.history.cell(cell)));
    let queue: Arc<Mutex<VecDeque<_>>> = Arc::new(Mutex::new(open.into_iter().cloned().collect()));
    let records = Arc::new(state.cells.clone());
    let mut workers: JoinSet<Result<(), JournalError>> = JoinSet::new();
    for _ in 0..lab.settings.workers.max(1) {
        let (lab, plan, files, queue, records) = (lab.clone(), plan.clone(), files.clone(), queue.clone(), records.clone());
        workers.spawn(async move {
            loop {
                let Some(cell) = queue.lock().await.pop_front() else { return Ok(()) };
                let record: CellRecord = records.get(&cell.id).cloned().unwrap_or_default();
                if *lab.cancelled.borrow() {
                    return Ok(());
                }
                CellRunner::new(lab.clone(), run, plan.clone(), cell, files.clone(), record).run().await?;
            }
        });
    }
    while let Some(ended) = workers.join_next().await {
        let failed = match ended {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        };
        // Nothing can be recorded any more: the other workers must not go on.
        workers.shutdown().await;
        return Err(failed);
    }
    end(lab, run).await
}

async fn end(lab: &Lab, run: RunId) -> Result<Verdict, JournalError> {
    let verdict = lab.journal.state(run).await?.map_or(Verdict::Inconclusive, |state| judge(&state).verdict);
    lab.journal.append(run, lab.clock.now(), Event::RunEnded { verdict }).await?;
    Ok(verdict)
}
