//! The host that all runs of a controller share: their cells wait here together, and each is told when it starts.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::choice::{Ask, Lane, Line, Ticket, Why};
use super::room::Room;
use crate::id::{CellId, Name, RunId};
use crate::lab::clock::{Clock, between};
use crate::lab::pause::Pause;

/// What the host's machines are used for. Clones are the same host.
#[derive(Clone, Debug)]
pub struct Host(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    line: Line,
    pause: Option<Pause>,
    /// Whom to tell that a cell starts, and which of its run's cells it is.
    runs: HashMap<Ticket, (mpsc::UnboundedSender<Start>, usize)>,
    /// Runs of which a cell has started.
    begun: BTreeSet<RunId>,
}

/// A cell may start: its place among those that were asked for, and its room.
type Start = (usize, Lease);

/// How a host stands.
#[derive(Clone, Debug)]
pub struct Standing {
    pub capacity: Room,
    pub taken: Room,
    pub pause: Option<Pause>,
    /// Cells at work, and since when.
    pub at_work: Vec<(RunId, CellId, Timestamp)>,
    /// Those that wait, in the order in which they are expected to start.
    pub waiting: Vec<Waiting>,
}

/// What a host is used for, in numbers.
#[derive(Clone, Debug)]
pub struct Use {
    pub capacity: Room,
    pub taken: Room,
    /// Cells that wait.
    pub waiting: usize,
    pub paused: bool,
    /// Runs of which a cell has started, and which are not forgotten.
    pub begun: BTreeSet<RunId>,
}

/// A cell that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub run: RunId,
    pub cell: CellId,
    pub customer: Name,
    pub lane: Lane,
    pub since: Timestamp,
    /// In words.
    pub why: String,
    /// The same for all cells that wait for the same thing.
    pub kind: &'static str,
}

impl Host {
    pub fn new(capacity: Room, pause: Option<Pause>) -> Self {
        let mut line = Line::new(capacity);
        line.pause(pause.is_some());
        Self(Arc::new(Mutex::new(Inner { line, pause, runs: HashMap::new(), begun: BTreeSet::new() })))
    }

    /// Where no cell is to start.
    pub fn none() -> Self {
        Self::new(Room::NONE, None)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn capacity(&self) -> Room {
        self.inner().line.capacity()
    }

    /// What there is, measured anew; see [`Line::resize`].
    pub fn resize(&self, capacity: Room) {
        self.inner().line.resize(capacity);
    }

    /// What it is used for, in numbers.
    pub fn in_use(&self) -> Use {
        let inner = self.inner();
        Use {
            capacity: inner.line.capacity(),
            taken: inner.line.taken(),
            waiting: inner.line.count(),
            paused: inner.pause.is_some(),
            begun: inner.begun.clone(),
        }
    }

    /// A run is not worked on any more.
    pub fn forget(&self, run: RunId) {
        self.inner().begun.remove(&run);
    }

    /// Lets nothing start from now on, or lets it again.
    pub fn pause(&self, pause: Option<Pause>, clock: Clock) {
        let mut inner = self.inner();
        inner.line.pause(pause.is_some());
        inner.pause = pause;
        drop(inner);
        self.start(clock);
    }

    /// Has a run's cells wait for room.
    pub fn queue(&self, asks: Vec<Ask>, clock: Clock) -> Queued {
        let (tell, starts) = mpsc::unbounded_channel();
        let mut inner = self.inner();
        let tickets: Vec<_> = asks.into_iter().map(|ask| inner.line.ask(ask)).collect();
        inner.runs.extend(tickets.iter().enumerate().map(|(at, ticket)| (*ticket, (tell.clone(), at))));
        drop(inner);
        self.start(clock);
        Queued { host: self.clone(), clock, tickets, starts }
    }

    /// Starts what can start.
    fn start(&self, clock: Clock) {
        let now = clock.now();
        let mut inner = self.inner();
        let mut started = Vec::new();
        while let Some(ticket) = inner.line.start(now) {
            let lease = Lease { host: self.clone(), clock, ticket };
            if let Some(run) = inner.line.run_of(ticket) {
                inner.begun.insert(run);
            }
            started.push((inner.runs.remove(&ticket), lease));
        }
        drop(inner);
        for (run, lease) in started {
            if let Some((tell, at)) = run {
                // Whoever went away lets the room go.
                let _ = tell.send((at, lease));
            }
        }
    }

    fn end(&self, tickets: &[Ticket], clock: Clock, fits: impl Fn(&Line, Ticket) -> bool) {
        let mut inner = self.inner();
        for ticket in tickets {
            if fits(&inner.line, *ticket) {
                inner.line.end(*ticket, clock.now());
                inner.runs.remove(ticket);
            }
        }
        drop(inner);
        self.start(clock);
    }

    /// How it stands; of those that wait, only the cells of one run where one is named.
    pub fn standing(&self, of: Option<RunId>, now: Timestamp) -> Standing {
        let inner = self.inner();
        let told = |(ask, why): (&Ask, Why)| Waiting {
            run: ask.run,
            cell: ask.cell.clone(),
            customer: ask.customer.clone(),
            lane: ask.lane,
            since: ask.since,
            kind: why.kind(),
            why: words(&why, inner.pause.as_ref(), now),
        };
        let waiting = inner.line.waiting(now).into_iter().filter(|(ask, _)| of.is_none_or(|run| ask.run == run));
        Standing {
            capacity: inner.line.capacity(),
            taken: inner.line.taken(),
            pause: inner.pause.clone(),
            at_work: inner.line.at_work().map(|(ask, since)| (ask.run, ask.cell.clone(), since)).collect(),
            waiting: waiting.map(told).collect(),
        }
    }
}

fn words(why: &Why, pause: Option<&Pause>, now: Timestamp) -> String {
    match why {
        Why::Paused => pause.map_or_else(|| "the host is paused".to_owned(), Pause::told),
        Why::Lacks { lacks, kept } => {
            let lacks = lacks.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            if *kept { format!("{lacks}; its turn has come, and what others let go is kept for it") } else { lacks }
        }
        Why::Behind { cell, since, .. } => {
            format!("room is kept for {cell}, which has waited for {} min", between(*since, now).as_secs() / 60)
        }
        Why::Next => "it is about to start".to_owned(),
    }
}

/// A run's cells that wait. Those that have not started when it is dropped wait no more.
#[derive(Debug)]
pub struct Queued {
    host: Host,
    clock: Clock,
    tickets: Vec<Ticket>,
    starts: mpsc::UnboundedReceiver<Start>,
}

impl Queued {
    /// The next cell that may start; nothing once all were told.
    pub async fn next(&mut self) -> Option<Start> {
        self.starts.recv().await
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.host.end(&self.tickets, self.clock, Line::is_waiting);
    }
}

/// The room that a cell has, until this is dropped.
#[derive(Debug)]
pub struct Lease {
    host: Host,
    clock: Clock,
    ticket: Ticket,
}

impl Lease {
    /// Its machines have booted: others may.
    pub fn booted(&self) {
        self.host.inner().line.booted(self.ticket);
        self.host.start(self.clock);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.host.end(&[self.ticket], self.clock, |_, _| true);
    }
}
