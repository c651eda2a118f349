//! Runs a plan's cells, as many machines at once as there are slots, and ends the run.

use std::cmp::Reverse;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};

use super::runner::CellRunner;
use super::{Lab, RunFiles};
use crate::id::RunId;
use crate::journal::{CellRecord, Event, Journal, JournalError, RunState};
use crate::plan::PlannedCell;
use crate::verdict::Verdict;
use crate::verdict::judge::{judge, judge_cell, overall};

/// Works through the cells that have not ended and ends the run with its verdict.
///
/// # Errors
/// When the journal cannot be written. Machines are then left to the reaper.
pub async fn work(lab: &Lab, state: &RunState, files: RunFiles) -> Result<Verdict, JournalError> {
    let verdict = cells(lab, state, files).await?;
    conclude(&lab.journal, state.run, lab.clock.now(), verdict).await
}

/// Works through the cells that have not ended, or those of them that are begun before the lab is cancelled. The answer is what all cells
/// mean together, if the run ends with that. Each is judged as its worker is done with it, so that nothing is kept of what has ended.
///
/// # Errors
/// See [`work`].
pub async fn cells(lab: &Lab, state: &RunState, files: RunFiles) -> Result<Verdict, JournalError> {
    let run = state.run;
    let plan = Arc::new(state.plan.clone());
    let files = Arc::new(files);
    let fresh = CellRecord::default();
    let record = |cell: &PlannedCell| state.cells.get(&cell.id).unwrap_or(&fresh);
    let (mut open, done): (Vec<_>, Vec<_>) = plan.cells.iter().enumerate().partition(|(_, cell)| !record(cell).ended);
    let mut verdicts: Tally = done.into_iter().map(|(_, cell)| judge_cell(cell, record(cell)).verdict).collect();
    // The longest first, so that the last worker does not end long after the others.
    open.sort_by_cached_key(|(_, cell)| Reverse(lab.history.cell(cell)));
    let slots = u32::try_from(lab.settings.slots.max(1)).unwrap_or(u32::MAX);
    let free = Arc::new(Semaphore::new(slots as usize));
    let mut workers: JoinSet<Result<Verdict, JournalError>> = JoinSet::new();
    let worked = async {
        let mut open = open.into_iter();
        for (place, cell) in open.by_ref() {
            let machines = u32::try_from(cell.machines.len()).unwrap_or(u32::MAX).clamp(1, slots);
            // All of the cell's machines at once, and no cell before those ahead of it.
            let held = loop {
                tokio::select! {
                    held = free.clone().acquire_many_owned(machines) => break held,
                    Some(ended) = workers.join_next() => verdicts.add(outcome(ended)?),
                }
            };
            while let Some(ended) = workers.try_join_next() {
                verdicts.add(outcome(ended)?);
            }
            // A closed semaphore does not happen: nobody closes it.
            let Some(held) = held.ok().filter(|_| !*lab.cancelled.borrow()) else {
                verdicts.add(judge_cell(cell, record(cell)).verdict);
                break;
            };
            let runner = CellRunner::new(lab.clone(), run, plan.clone(), (place, cell.clone()), files.clone(), record(cell).clone());
            workers.spawn(async move {
                let _held = held;
                runner.run().await
            });
        }
        open.for_each(|(_, cell)| verdicts.add(judge_cell(cell, record(cell)).verdict));
        while let Some(ended) = workers.join_next().await {
            verdicts.add(outcome(ended)?);
        }
        Ok(())
    };
    let worked: Result<(), JournalError> = worked.await;
    if worked.is_err() {
        // Nothing can be recorded any more: the other workers must not go on.
        workers.shutdown().await;
    }
    worked.map(|()| verdicts.0.unwrap_or(Verdict::Inconclusive))
}

/// What the cells that were judged so far mean together; nothing yet where there was none.
#[derive(Default)]
struct Tally(Option<Verdict>);

impl Tally {
    fn add(&mut self, verdict: Verdict) {
        self.0 = Some(overall(true, self.0.into_iter().chain([verdict])));
    }
}

impl FromIterator<Verdict> for Tally {
    fn from_iter<I: IntoIterator<Item = Verdict>>(verdicts: I) -> Self {
        verdicts.into_iter().fold(Self::default(), |mut tally, verdict| {
            tally.add(verdict);
            tally
        })
    }
}

/// What became of a worker; its panic goes on here.
fn outcome(ended: Result<Result<Verdict, JournalError>, JoinError>) -> Result<Verdict, JournalError> {
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
    conclude(journal, run, now, verdict).await
}

/// Ends a run with a verdict that its cells gave.
///
/// # Errors
/// When the journal cannot be written.
pub async fn conclude(journal: &Journal, run: RunId, now: Timestamp, verdict: Verdict) -> Result<Verdict, JournalError> {
    journal.append(run, now, Event::RunEnded { verdict }).await?;
    Ok(verdict)
}
