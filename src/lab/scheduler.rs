//! Runs a plan's cells as the host has room for them, and ends the run.
//!
//! `choice` says which of the cells of all runs start, `host` tells the runs, `room` is what they share.

pub mod choice;
pub mod host;
pub mod room;

use std::sync::Arc;

use jiff::Timestamp;
use tokio::task::{JoinError, JoinSet};

use self::choice::{Ask, Lane};
use self::room::Room;
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
    let (open, done): (Vec<_>, Vec<_>) = plan.cells.iter().enumerate().partition(|(_, cell)| !record(cell).ended);
    let mut verdicts: Tally = done.into_iter().map(|(_, cell)| judge_cell(cell, record(cell)).verdict).collect();
    let ask = |(_, cell): &(usize, &PlannedCell)| Ask {
        run,
        cell: cell.id.clone(),
        customer: cell.customer.clone(),
        lane: lab.lanes.get(&cell.customer).copied().unwrap_or(Lane::WHENEVER),
        expected: lab.history.cell(cell),
        since: state.planned,
        needs: Room::of(cell, &files.disks),
    };
    let mut waiting = vec![true; open.len()];
    let mut queued = lab.host.queue(open.iter().map(ask).collect(), lab.clock);
    let mut cancelled = lab.cancelled.clone();
    let mut workers: JoinSet<Result<Verdict, JournalError>> = JoinSet::new();
    let worked = async {
        loop {
            let (place, cell, lease) = tokio::select! {
                // A sender that is gone can cancel nothing.
                Ok(_) = cancelled.wait_for(|cancelled| *cancelled) => break,
                Some(ended) = workers.join_next() => {
                    verdicts.add(outcome(ended)?);
                    continue;
                }
                start = queued.next() => {
                    let Some((at, lease)) = start else { break };
                    let (Some(&(place, cell)), Some(waits)) = (open.get(at), waiting.get_mut(at)) else { continue };
                    *waits = false;
                    (place, cell, lease)
                }
            };
            let runner = CellRunner::new(lab.clone(), run, plan.clone(), (place, cell.clone()), files.clone(), record(cell).clone(), lease);
            workers.spawn(runner.run());
        }
        drop(queued);
        let left = open.iter().zip(&waiting).filter(|(_, waits)| **waits);
        left.for_each(|((_, cell), _)| verdicts.add(judge_cell(cell, record(cell)).verdict));
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
