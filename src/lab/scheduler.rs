//! Runs a plan's cells as the hosts have room for them, has hosts prove themselves, and ends the run.
//!
//! `choice` says which of the cells of all runs start, `host` keeps the hosts and tells the runs, `room` is what they share, `standing` is
//! how it all looks from outside.

pub mod choice;
pub mod host;
pub mod room;
pub mod standing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use self::choice::{Ask, Lane};
use self::host::Trial;
use self::room::Room;
use super::clock::between;
use super::runner::{CellRunner, Done};
use super::{Lab, RunFiles, proof};
use crate::id::{Name, RunId};
use crate::journal::{CellRecord, Event, Journal, JournalError, RunState};
use crate::plan::{Plan, PlannedCell};
use crate::verdict::Verdict;
use crate::verdict::judge::{judge, judge_cell, overall};

/// How long a run waits while all hosts are out. Each is tried about seven times in it.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// Works through the cells that have not ended and ends the run with its verdict.
///
/// # Errors
/// When the journal cannot be written. Machines are then left to the reaper.
pub async fn work(lab: &Lab, state: &RunState, files: RunFiles) -> Result<Verdict, JournalError> {
    let verdict = cells(lab, state, files).await?;
    conclude(&lab.journal, state.run, lab.clock.now(), verdict).await
}

/// Works through the cells that have not ended, or those of them that are begun before the lab is cancelled. The answer is what all cells
/// mean together, if the run ends with that; a run is called off where no host was fit for work for longer than is worth waiting for. Each is judged as its worker is done with it, so that nothing is kept of what has ended.
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
        not_on: None,
        labels: cell.host_labels.clone(),
    };
    // How each stands that has not ended, unless somebody works on it.
    let mut waiting: Vec<Option<CellRecord>> = open.iter().map(|(_, cell)| Some(record(cell).clone())).collect();
    let (mut left, mut at_work, begun) = (open.len(), 0_usize, lab.clock.now());
    // What those that have not ended ask of their hosts, and how many ask for the same.
    let mut asked: BTreeMap<&BTreeSet<Name>, usize> = BTreeMap::new();
    open.iter().for_each(|(_, cell)| *asked.entry(&cell.host_labels).or_default() += 1);
    let mut queued = lab.hosts.queue(open.iter().map(ask).collect(), lab.clock);
    let mut cancelled = lab.cancelled.clone();
    let doubts = lab.hosts.doubts();
    let over = watch::channel(false).0;
    let mut workers: JoinSet<Result<Work, JournalError>> = JoinSet::new();
    let worked = async {
        while left > 0 {
            // Before it is asked: nothing that is told meanwhile is missed.
            let doubted = doubts.notified();
            let fits = |labels: &BTreeSet<Name>| asked.keys().any(|asked| asked.is_subset(labels));
            let (trial, next) = lab.hosts.to_prove(fits, lab.clock.now());
            if let Some(trial) = trial {
                workers.spawn(prove(lab.clone(), run, plan.clone(), files.clone(), (trial, over.subscribe())));
                continue;
            }
            let end = lab.hosts.all_out(fits).filter(|_| at_work == 0).map(|(since, why)| (end_of_patience(since.max(begun)), why));
            if let Some((_, why)) = end.as_ref().filter(|(end, _)| *end <= lab.clock.now()) {
                let minutes = PATIENCE.as_secs() / 60;
                let reason = format!("for {minutes} min no host was fit for work: {why}; see to them and launch it again");
                lab.journal.append(run, lab.clock.now(), Event::RunCalledOff { by: None, reason }).await?;
                break;
            }
            let wake = next.into_iter().chain(end.map(|(end, _)| end)).min();
            let rest = wake.map(|wake| between(lab.clock.now(), wake));
            let (at, lease) = tokio::select! {
                // A sender that is gone can cancel nothing.
                Ok(_) = cancelled.wait_for(|cancelled| *cancelled) => break,
                Some(ended) = workers.join_next() => {
                    match outcome(ended)? {
                        Work::Proof => {}
                        Work::Cell(at, _, Done::Judged(verdict)) => {
                            (left, at_work) = (left - 1, at_work - 1);
                            if let Some(same) = open.get(at).and_then(|(_, cell)| asked.get_mut(&cell.host_labels)) {
                                *same -= 1;
                            }
                            asked.retain(|_, same| *same > 0);
                            verdicts.add(verdict);
                        }
                        Work::Cell(at, host, Done::Elsewhere(so_far)) => {
                            at_work -= 1;
                            let (Some(cell), Some(waits)) = (open.get(at), waiting.get_mut(at)) else { continue };
                            *waits = Some(*so_far);
                            queued.again(at, ask(cell), &host);
                        }
                    }
                    continue;
                }
                Some(start) = queued.next() => start,
                () = doubted => continue,
                () = tokio::time::sleep(rest.unwrap_or_default()), if rest.is_some() => continue,
            };
            let (Some(&(place, cell)), Some(so_far)) = (open.get(at), waiting.get_mut(at).and_then(Option::take)) else { continue };
            let (lab, plan, files, cell) = (lab.clone(), plan.clone(), files.clone(), cell.clone());
            at_work += 1;
            workers.spawn(async move {
                let host = lease.host.clone();
                match lab.on(&host).await {
                    Ok(lab) => {
                        let runner = CellRunner::new(lab, run, plan, (place, cell), files, so_far, lease);
                        Ok(Work::Cell(at, host, runner.run().await?))
                    }
                    Err(why) => {
                        lab.hosts.doubt(&host, &why, lab.clock.now());
                        Ok(Work::Cell(at, host, Done::Elsewhere(Box::new(so_far))))
                    }
                }
            });
        }
        drop(queued);
        over.send_replace(true);
        let unended = |at: usize, so_far: &CellRecord| open.get(at).map(|(_, cell)| judge_cell(cell, so_far).verdict);
        let waited = waiting.iter().enumerate().filter_map(|(at, so_far)| unended(at, so_far.as_ref()?));
        waited.for_each(|verdict| verdicts.add(verdict));
        while let Some(ended) = workers.join_next().await {
            match outcome(ended)? {
                Work::Proof => {}
                Work::Cell(at, _, Done::Elsewhere(so_far)) => unended(at, &so_far).into_iter().for_each(|verdict| verdicts.add(verdict)),
                Work::Cell(_, _, Done::Judged(verdict)) => verdicts.add(verdict),
            }
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

fn end_of_patience(since: Timestamp) -> Timestamp {
    since.checked_add(PATIENCE).unwrap_or(Timestamp::MAX)
}

/// What a worker did.
enum Work {
    /// A host's proof.
    Proof,
    /// A cell, by its place among those that had not ended, on a host.
    Cell(usize, Name, Done),
}

async fn told(over: &mut watch::Receiver<bool>) -> Result<(), watch::error::RecvError> {
    over.wait_for(|over| *over).await.map(drop)
}

/// Makes a host's proof, unless the run is over meanwhile.
async fn prove(
    lab: Lab,
    run: RunId,
    plan: Arc<Plan>,
    files: Arc<RunFiles>,
    (trial, mut over): (Trial, watch::Receiver<bool>),
) -> Result<Work, JournalError> {
    let on = tokio::select! {
        on = lab.on(&trial.host) => on,
        // A sender that is gone ends nothing, here and below.
        Ok(()) = told(&mut over) => return Ok(Work::Proof),
    };
    if let Some(room) = lab.sites.known().await.get(&trial.host).and_then(|site| site.room) {
        lab.hosts.found(&trial.host, room);
    }
    let proved = match on {
        Err(why) => Err(why),
        Ok(on) => tokio::select! {
            proved = proof::prove(&on, run, &trial.labels, &plan, &files) => proved,
            Ok(()) = told(&mut over) => {
                proof::undo(&on, run).await;
                return Ok(Work::Proof);
            }
        },
    };
    tracing::info!(host = %trial.host, ?proved, "a host's proof");
    trial.tell(proved, lab.clock);
    Ok(Work::Proof)
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
fn outcome(ended: Result<Result<Work, JournalError>, JoinError>) -> Result<Work, JournalError> {
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
