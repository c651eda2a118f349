//! Which of the cells that wait start now, and why the others wait.
//!
//! A cell starts with room for all of its machines or not at all. Lanes come in the order of how soon their policies want an answer; in a
//! lane comes the customer who has had least of the host; of a customer's cells the longest comes first. Where one does not fit, the next
//! one that does goes ahead.
//!
//! So that nothing starves, one start in [`TURN`] belongs to the cell that was asked for first, once it has waited for [`AGED`]. Where it
//! does not fit, its room is kept: others start only in what is left beside it, so it starts when those at work have ended. A cell
//! therefore starts after at most [`TURN`] starts for each cell that was asked for before it, whatever comes in after it.
//!
//! Invariants: pure, without clock or lock; no more is taken than there is; once [`Line::start`] gives nothing, no cell that waits fits
//! but into room that is kept.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::room::{Lack, Room};
use crate::id::{CellId, Name, RunId};
use crate::lab::clock::between;

/// From when on a cell has waited so long that it gets turns of its own.
pub const AGED: Duration = Duration::from_secs(3600);
/// Of so many starts one is for whoever has waited longest.
pub const TURN: u32 = 4;

/// How soon an answer is wanted; the soonest is the most urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lane(pub Duration);

impl Lane {
    /// Nobody set a deadline.
    pub const WHENEVER: Self = Self(Duration::MAX);
}

/// A cell that asks for room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub run: RunId,
    pub cell: CellId,
    pub customer: Name,
    pub lane: Lane,
    /// How long it will take.
    pub expected: Duration,
    /// Since when it waits.
    pub since: Timestamp,
    pub needs: Room,
}

/// A cell's number, given when it asks.
pub type Ticket = u64;

/// Why a cell waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nothing starts.
    Paused,
    /// What it needs and there is too little of. `kept`: its turn has come, and what is let go is kept for it.
    Lacks { lacks: Vec<Lack>, kept: bool },
    /// It would fit, but room is kept for this cell of this run, which waits since then.
    Behind { run: RunId, cell: CellId, since: Timestamp },
    /// Nothing keeps it.
    Next,
}

impl Why {
    /// In a word or two.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Paused => "pause",
            Self::Lacks { kept: true, .. } | Self::Behind { .. } => "kept-room",
            Self::Lacks { lacks, .. } => lacks.first().map_or("nothing", |lack| lack.what.as_str()),
            Self::Next => "nothing",
        }
    }
}

/// Those who wait and those at work.
#[derive(Clone, Debug)]
pub struct Line {
    capacity: Room,
    taken: Room,
    paused: bool,
    cells: BTreeMap<Ticket, Place>,
    accounts: BTreeMap<Name, Account>,
    /// Those who wait, in the order in which they were asked for; of one moment the longest first.
    oldest: BTreeSet<(Timestamp, Reverse<Duration>, Ticket)>,
    /// Starts since the last one that was the oldest cell's.
    passed: u32,
    next: Ticket,
}

#[derive(Clone, Debug)]
struct Place {
    ask: Ask,
    /// Since when it is at work, and on what.
    at_work: Option<(Timestamp, Room)>,
}

/// What a customer has had, and who waits of its cells.
#[derive(Clone, Debug, Default)]
struct Account {
    /// Milliseconds of a core.
    had: u64,
    /// Cells that wait or are at work.
    cells: usize,
    waiting: BTreeMap<Lane, BTreeMap<Room, BTreeSet<Rank>>>,
}

/// The longest first, then the one that waits longest.
type Rank = (Reverse<Duration>, Timestamp, Ticket);

fn work(cores: u32, took: Duration) -> u64 {
    u64::from(cores).saturating_mul(u64::try_from(took.as_millis()).unwrap_or(u64::MAX))
}

impl Line {
    pub fn new(capacity: Room) -> Self {
        Self {
            capacity,
            taken: Room::NONE,
            paused: false,
            cells: BTreeMap::new(),
            accounts: BTreeMap::new(),
            oldest: BTreeSet::new(),
            passed: 0,
            next: 0,
        }
    }

    pub fn capacity(&self) -> Room {
        self.capacity
    }

    pub fn taken(&self) -> Room {
        self.taken
    }

    pub fn free(&self) -> Room {
        self.capacity.less(self.taken)
    }

    /// What there is, found anew. While cells are at work it stays as it is: what they have taken could not be told from the rest.
    pub fn resize(&mut self, capacity: Room) {
        if self.taken == Room::NONE {
            self.capacity = capacity;
        }
    }

    pub fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// A cell comes to wait.
    pub fn ask(&mut self, ask: Ask) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        // Who comes anew has no claim on what others have had meanwhile.
        let least = self.accounts.values().filter(|account| account.cells > 0).map(|account| account.had).min();
        let account = self.accounts.entry(ask.customer.clone()).or_default();
        if account.cells == 0 {
            account.had = account.had.max(least.unwrap_or(0));
        }
        account.cells += 1;
        let lane = account.waiting.entry(ask.lane).or_default();
        lane.entry(ask.needs).or_default().insert((Reverse(ask.expected), ask.since, ticket));
        self.oldest.insert((ask.since, Reverse(ask.expected), ticket));
        self.cells.insert(ticket, Place { ask, at_work: None });
        ticket
    }

    /// What a cell takes. One that needs more than there is takes all.
    fn takes(&self, needs: Room) -> Room {
        needs.least(self.capacity)
    }

    /// Whose turn it is, for having waited longest.
    fn turn(&self, now: Timestamp) -> Option<(Ticket, &Ask)> {
        let (since, _, ticket) = self.oldest.first()?;
        let due = self.passed + 1 >= TURN && between(*since, now) >= AGED;
        Some((*ticket, &self.cells.get(ticket)?.ask)).filter(|_| due)
    }

    fn pick(&self, now: Timestamp) -> Option<Ticket> {
        let mut free = self.free();
        if let Some((ticket, ask)) = self.turn(now) {
            let takes = self.takes(ask.needs);
            if takes.fits(free) {
                return Some(ticket);
            }
            free = free.less(takes);
        }
        if free.cores == 0 {
            return None;
        }
        let mut best: Option<(Lane, u64, Rank)> = None;
        for account in self.accounts.values() {
            for (lane, kinds) in &account.waiting {
                if best.is_some_and(|(other, had, _)| (other, had) < (*lane, account.had)) {
                    break;
                }
                let fitting = kinds.iter().filter(|(needs, _)| self.takes(**needs).fits(free));
                if let Some(rank) = fitting.filter_map(|(_, cells)| cells.first()).min() {
                    let found = (*lane, account.had, *rank);
                    best = Some(best.map_or(found, |best| best.min(found)));
                    break;
                }
            }
        }
        best.map(|(_, _, (_, _, ticket))| ticket)
    }

    /// The next cell that starts, with its room taken. To be asked until it gives nothing.
    pub fn start(&mut self, now: Timestamp) -> Option<Ticket> {
        if self.paused {
            return None;
        }
        let ticket = self.pick(now)?;
        let is_oldest = self.oldest.first().is_some_and(|(_, _, oldest)| *oldest == ticket);
        self.passed = if is_oldest { 0 } else { self.passed.saturating_add(1) };
        self.leave(ticket);
        let place = self.cells.get_mut(&ticket)?;
        let takes = place.ask.needs.least(self.capacity);
        place.at_work = Some((now, takes));
        self.taken = self.taken.plus(takes);
        if let Some(account) = self.accounts.get_mut(&place.ask.customer) {
            account.had = account.had.saturating_add(work(takes.cores, place.ask.expected));
        }
        Some(ticket)
    }

    /// Takes a cell out of those who wait.
    fn leave(&mut self, ticket: Ticket) {
        let Some(Place { ask, .. }) = self.cells.get(&ticket) else { return };
        self.oldest.remove(&(ask.since, Reverse(ask.expected), ticket));
        let Some(account) = self.accounts.get_mut(&ask.customer) else { return };
        let Some(kinds) = account.waiting.get_mut(&ask.lane) else { return };
        if let Some(cells) = kinds.get_mut(&ask.needs) {
            cells.remove(&(Reverse(ask.expected), ask.since, ticket));
            if cells.is_empty() {
                kinds.remove(&ask.needs);
            }
        }
        if kinds.is_empty() {
            account.waiting.remove(&ask.lane);
        }
    }

    /// A cell at work has booted its machines.
    pub fn booted(&mut self, ticket: Ticket) {
        let Some((_, takes)) = self.cells.get_mut(&ticket).and_then(|place| place.at_work.as_mut()) else { return };
        self.taken.boots -= std::mem::take(&mut takes.boots).min(self.taken.boots);
    }

    /// A cell waits no more, or its work is done.
    pub fn end(&mut self, ticket: Ticket, now: Timestamp) {
        self.leave(ticket);
        let Some(Place { ask, at_work }) = self.cells.remove(&ticket) else { return };
        let Some(account) = self.accounts.get_mut(&ask.customer) else { return };
        account.cells = account.cells.saturating_sub(1);
        if let Some((started, takes)) = at_work {
            self.taken = self.taken.less(takes);
            // What it has really had.
            let expected = work(takes.cores, ask.expected);
            account.had = account.had.saturating_sub(expected).saturating_add(work(takes.cores, between(started, now)));
        }
    }

    pub fn run_of(&self, ticket: Ticket) -> Option<RunId> {
        self.cells.get(&ticket).map(|place| place.ask.run)
    }

    pub fn is_waiting(&self, ticket: Ticket) -> bool {
        self.cells.get(&ticket).is_some_and(|place| place.at_work.is_none())
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.oldest.len()
    }

    /// Those at work, and since when.
    pub fn at_work(&self) -> impl Iterator<Item = (&Ask, Timestamp)> {
        self.cells.values().filter_map(|place| Some((&place.ask, place.at_work?.0)))
    }

    /// Why a cell waits.
    fn why(&self, ticket: Ticket, ask: &Ask, now: Timestamp) -> Why {
        if self.paused {
            return Why::Paused;
        }
        let turn = self.turn(now);
        let lacks = self.takes(ask.needs).lacks(self.free(), self.capacity);
        match turn {
            _ if !lacks.is_empty() => Why::Lacks { lacks, kept: turn.is_some_and(|(oldest, _)| oldest == ticket) },
            Some((oldest, first)) if oldest != ticket => Why::Behind { run: first.run, cell: first.cell.clone(), since: first.since },
            _ => Why::Next,
        }
    }

    /// Those who wait, in the order in which they would start if nobody else came and each found room in its turn.
    pub fn waiting(&self, now: Timestamp) -> Vec<(&Ask, Why)> {
        let mut later = self.clone();
        later.paused = false;
        let mut order = Vec::with_capacity(self.oldest.len());
        loop {
            later.taken = Room::NONE;
            let Some(ticket) = later.start(now) else { break };
            order.push(ticket);
        }
        let told = |ticket| self.cells.get(&ticket).map(|Place { ask, .. }| (ask, self.why(ticket, ask, now)));
        order.into_iter().filter_map(told).collect()
    }
}

#[cfg(test)]
#[path = "choice_tests.rs"]
mod tests;
