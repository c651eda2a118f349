//! Which of the cells that wait start now, on which host, and why the others wait.
//!
//! A cell starts on a host with its labels and with room for all of its machines or not at all; of several such hosts on the one with the most free cores.
//! Lanes come in the order of how soon their policies want an answer; in a lane comes the customer who has had least of the hosts; of a
//! customer's cells the longest comes first. Where one does not fit, the next one that does goes ahead.
//!
//! So that nothing starves, one start in [`TURN`] belongs to the cell that was asked for first, of those that an open host can bear, once
//! it has waited for [`AGED`]. Where it does not fit, its room is kept on one host: others start only in what is left beside it, so it
//! starts when those at work there have ended. A cell therefore starts after at most [`TURN`] starts for each cell that was asked for
//! before it, whatever comes in after it.
//!
//! Invariants: pure, without clock or lock; no more is taken of a host than it has; once [`Line::start`] gives nothing, no cell that
//! waits fits but into room that is kept.

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
    /// The host that has failed it, if one did: it goes there again only where no other open one can bear it.
    pub not_on: Option<usize>,
    /// What a host must have besides.
    pub labels: BTreeSet<Name>,
}

impl Ask {
    fn kind(&self) -> Kind {
        (self.needs, self.not_on, self.labels.clone())
    }
}

/// What decides where a cell fits: see [`Ask`].
type Kind = (Room, Option<usize>, BTreeSet<Name>);

/// A cell's number, given when it asks.
pub type Ticket = u64;

/// Why a cell waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nothing starts.
    Paused,
    /// Nothing starts on this host.
    Closed,
    /// This host has failed it, and another can bear it.
    Failed,
    /// What this host is not labelled with.
    Unlabelled(Vec<Name>),
    /// What this host has too little of even with nothing else at work; another host has enough.
    Small(Vec<Lack>),
    /// What it needs and there is too little of. `kept`: its turn has come, and what is let go is kept for it.
    Lacks { lacks: Vec<Lack>, kept: bool },
    /// It would fit, but room is kept for this cell of this run, which waits since then.
    Behind { run: RunId, cell: CellId, since: Timestamp },
    /// Nothing keeps it.
    Next,
    /// Of several hosts, in their order, why it does not start on each.
    Each(Vec<Self>),
}

impl Why {
    /// In a word or two.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Paused => "pause",
            Self::Closed | Self::Failed => "host",
            Self::Unlabelled(_) => "labels",
            Self::Lacks { kept: true, .. } | Self::Behind { .. } => "kept-room",
            Self::Lacks { lacks, .. } | Self::Small(lacks) => lacks.first().map_or("nothing", |lack| lack.what.as_str()),
            Self::Next => "nothing",
            Self::Each(hosts) => {
                // Where it could start but for what others have, rather than where it could not.
                let open = hosts.iter().find(|why| matches!(why, Self::Lacks { .. } | Self::Behind { .. }));
                let small = || hosts.iter().find(|why| matches!(why, Self::Small(_))).filter(|_| !hosts.contains(&Self::Closed));
                let closed = || hosts.iter().any(|why| matches!(why, Self::Closed | Self::Failed));
                open.or_else(small).map_or(if closed() { "host" } else { "labels" }, Self::kind)
            }
        }
    }
}

/// A host, as far as room goes.
#[derive(Clone, Debug)]
struct Site {
    capacity: Room,
    taken: Room,
    labels: BTreeSet<Name>,
    /// Whether cells start there.
    open: bool,
}

impl Site {
    fn free(&self) -> Room {
        self.capacity.less(self.taken)
    }
}

/// Those who wait and those at work.
#[derive(Clone, Debug)]
pub struct Line {
    sites: Vec<Site>,
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
    /// Since when it is at work, on what of which host.
    at_work: Option<(Timestamp, Room, usize)>,
}

/// What a customer has had, and who waits of its cells.
#[derive(Clone, Debug, Default)]
struct Account {
    /// Milliseconds of a core.
    had: u64,
    /// Cells that wait or are at work.
    cells: usize,
    waiting: BTreeMap<Lane, BTreeMap<Kind, BTreeSet<Rank>>>,
}

/// The longest first, then the one that waits longest.
type Rank = (Reverse<Duration>, Timestamp, Ticket);

fn work(cores: u32, took: Duration) -> u64 {
    u64::from(cores).saturating_mul(u64::try_from(took.as_millis()).unwrap_or(u64::MAX))
}

impl Line {
    /// Hosts that have this for machines.
    pub fn new(hosts: Vec<Room>) -> Self {
        Self {
            sites: hosts.into_iter().map(|capacity| Site { capacity, taken: Room::NONE, labels: BTreeSet::new(), open: true }).collect(),
            paused: false,
            cells: BTreeMap::new(),
            accounts: BTreeMap::new(),
            oldest: BTreeSet::new(),
            passed: 0,
            next: 0,
        }
    }

    /// What a host has and what is taken of it.
    pub fn room(&self, host: usize) -> (Room, Room) {
        self.sites.get(host).map_or((Room::NONE, Room::NONE), |site| (site.capacity, site.taken))
    }

    /// What a host has, found anew. While cells are at work there it stays as it is: what they have taken could not be told from the rest.
    pub fn resize(&mut self, host: usize, capacity: Room) {
        if let Some(site) = self.sites.get_mut(host).filter(|site| site.taken == Room::NONE) {
            site.capacity = capacity;
        }
    }

    /// What a host is labelled with.
    pub fn label(&mut self, host: usize, labels: BTreeSet<Name>) {
        if let Some(site) = self.sites.get_mut(host) {
            site.labels = labels;
        }
    }

    /// Lets cells start on a host, or lets them no more.
    pub fn open(&mut self, host: usize, open: bool) {
        if let Some(site) = self.sites.get_mut(host) {
            site.open = open;
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
        lane.entry(ask.kind()).or_default().insert((Reverse(ask.expected), ask.since, ticket));
        self.oldest.insert((ask.since, Reverse(ask.expected), ticket));
        self.cells.insert(ticket, Place { ask, at_work: None });
        ticket
    }

    /// Which hosts can bear this with nothing else at work: of those with its labels, those that have enough; where none has, those with enough memory and disk, where
    /// it then takes all cores; else a host that is the only one, where it takes all there is. Of several, none: one that is larger may yet
    /// be found to be.
    fn bears<'a>(&self, (needs, _, labels): &'a Kind) -> impl Fn(&Site) -> bool + Copy + use<'a> {
        let each = [*needs, Room { cores: 0, boots: 0, ..*needs }, Room::NONE];
        let has = move |site: &Site, least: Room| site.capacity.cores > 0 && least.fits(site.capacity) && site.labels.is_superset(labels);
        let levels = if self.sites.len() == 1 { 3 } else { 2 };
        let least = each.into_iter().take(levels).find(|least| self.sites.iter().any(|site| has(site, *least)));
        move |site| least.is_some_and(|least| has(site, least))
    }

    /// The open hosts that can bear this.
    fn open_to<'a>(&'a self, kind: &'a Kind) -> impl Iterator<Item = (usize, &'a Site)> {
        let (bears, not_on) = (self.bears(kind), kind.1);
        let open = move |(_, site): &(usize, &Site)| site.open && bears(site);
        let other = not_on.filter(|_| self.sites.iter().enumerate().filter(open).any(|(host, _)| Some(host) != not_on));
        self.sites.iter().enumerate().filter(open).filter(move |(host, _)| Some(*host) != other)
    }

    /// The host where this fits now, if none of the room is touched that is kept on one of them.
    fn place(&self, kind: &Kind, kept: Option<(usize, Room)>) -> Option<usize> {
        let free = |(host, site): (usize, &Site)| site.free().less(kept.filter(|(at, _)| *at == host).map_or(Room::NONE, |(_, room)| room));
        let fitting = self.open_to(kind).filter(|(host, site)| kind.0.least(site.capacity).fits(free((*host, site))));
        fitting.max_by_key(|(host, site)| (free((*host, site)).cores, Reverse(*host))).map(|(host, _)| host)
    }

    /// Where room is kept for this until it fits, and how much: always on the same host, so that it does come to fit.
    fn keep(&self, kind: &Kind) -> Option<(usize, Room)> {
        let largest = self.open_to(kind).max_by_key(|(host, site)| (site.capacity.cores, Reverse(*host)));
        largest.map(|(host, site)| (host, kind.0.least(site.capacity)))
    }

    /// The one that has waited longest, of those that an open host can bear.
    fn first(&self) -> Option<(Ticket, &Ask)> {
        let asks = self.oldest.iter().filter_map(|(.., ticket)| Some((*ticket, &self.cells.get(ticket)?.ask)));
        let mut asks = asks.filter(|(_, ask)| self.keep(&ask.kind()).is_some());
        asks.next()
    }

    /// Whose turn it is, for having waited longest.
    fn turn(&self, now: Timestamp) -> Option<(Ticket, &Ask)> {
        self.first().filter(|(_, ask)| self.passed + 1 >= TURN && between(ask.since, now) >= AGED)
    }

    /// Who starts next, and where.
    fn pick(&self, now: Timestamp) -> Option<(Ticket, usize)> {
        let mut kept = None;
        if let Some((ticket, ask)) = self.turn(now) {
            if let Some(host) = self.place(&ask.kind(), None) {
                return Some((ticket, host));
            }
            kept = self.keep(&ask.kind());
        }
        if self.sites.iter().all(|site| !site.open || site.free().cores == 0) {
            return None;
        }
        let mut best: Option<(Lane, u64, Rank)> = None;
        for account in self.accounts.values() {
            for (lane, kinds) in &account.waiting {
                if best.is_some_and(|(other, had, _)| (other, had) < (*lane, account.had)) {
                    break;
                }
                let fitting = kinds.iter().filter(|(kind, _)| self.place(kind, kept).is_some());
                if let Some(rank) = fitting.filter_map(|(_, cells)| cells.first()).min() {
                    let found = (*lane, account.had, *rank);
                    best = Some(best.map_or(found, |best| best.min(found)));
                    break;
                }
            }
        }
        let (.., ticket) = best?.2;
        Some((ticket, self.place(&self.cells.get(&ticket)?.ask.kind(), kept)?))
    }

    /// The next cell that starts and its host, with its room taken. To be asked until it gives nothing.
    pub fn start(&mut self, now: Timestamp) -> Option<(Ticket, usize)> {
        if self.paused {
            return None;
        }
        let (ticket, host) = self.pick(now)?;
        let is_first = self.first().is_some_and(|(first, _)| first == ticket);
        self.passed = if is_first { 0 } else { self.passed.saturating_add(1) };
        self.leave(ticket);
        let (place, site) = (self.cells.get_mut(&ticket)?, self.sites.get_mut(host)?);
        let takes = place.ask.needs.least(site.capacity);
        place.at_work = Some((now, takes, host));
        site.taken = site.taken.plus(takes);
        if let Some(account) = self.accounts.get_mut(&place.ask.customer) {
            account.had = account.had.saturating_add(work(takes.cores, place.ask.expected));
        }
        Some((ticket, host))
    }

    /// Takes a cell out of those who wait.
    fn leave(&mut self, ticket: Ticket) {
        let Some(Place { ask, .. }) = self.cells.get(&ticket) else { return };
        self.oldest.remove(&(ask.since, Reverse(ask.expected), ticket));
        let Some(account) = self.accounts.get_mut(&ask.customer) else { return };
        let Some(kinds) = account.waiting.get_mut(&ask.lane) else { return };
        if let Some(cells) = kinds.get_mut(&ask.kind()) {
            cells.remove(&(Reverse(ask.expected), ask.since, ticket));
            if cells.is_empty() {
                kinds.remove(&ask.kind());
            }
        }
        if kinds.is_empty() {
            account.waiting.remove(&ask.lane);
        }
    }

    /// A cell at work has booted its machines.
    pub fn booted(&mut self, ticket: Ticket) {
        let Some((_, takes, host)) = self.cells.get_mut(&ticket).and_then(|place| place.at_work.as_mut()) else { return };
        let boots = std::mem::take(&mut takes.boots);
        if let Some(site) = self.sites.get_mut(*host) {
            site.taken.boots = site.taken.boots.saturating_sub(boots);
        }
    }

    /// A cell waits no more, or its work is done.
    pub fn end(&mut self, ticket: Ticket, now: Timestamp) {
        self.leave(ticket);
        let Some(Place { ask, at_work }) = self.cells.remove(&ticket) else { return };
        let Some(account) = self.accounts.get_mut(&ask.customer) else { return };
        account.cells = account.cells.saturating_sub(1);
        if let Some((started, takes, host)) = at_work {
            if let Some(site) = self.sites.get_mut(host) {
                site.taken = site.taken.less(takes);
            }
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

    /// Those at work, since when, and on which host.
    pub fn at_work(&self) -> impl Iterator<Item = (&Ask, Timestamp, usize)> {
        self.cells.values().filter_map(|place| place.at_work.map(|(since, _, host)| (&place.ask, since, host)))
    }

    /// Why a cell waits.
    fn why(&self, ticket: Ticket, ask: &Ask, now: Timestamp) -> Why {
        if self.paused {
            return Why::Paused;
        }
        let (kind, turn) = (ask.kind(), self.turn(now));
        let bears = self.bears(&kind);
        let kept = turn.and_then(|(_, first)| self.keep(&first.kind())).map(|(host, _)| host);
        let on = |(host, site): (usize, &Site)| {
            let unlabelled: Vec<_> = ask.labels.difference(&site.labels).cloned().collect();
            if !unlabelled.is_empty() {
                return Why::Unlabelled(unlabelled);
            }
            if !bears(site) {
                return Why::Small(ask.needs.lacks(site.capacity, site.capacity));
            }
            if !site.open {
                return Why::Closed;
            }
            if ask.not_on == Some(host) && !self.open_to(&kind).any(|(open, _)| open == host) {
                return Why::Failed;
            }
            let lacks = ask.needs.least(site.capacity).lacks(site.free(), site.capacity);
            match turn.filter(|_| kept == Some(host)) {
                turn if !lacks.is_empty() => Why::Lacks { lacks, kept: turn.is_some_and(|(first, _)| first == ticket) },
                Some((first, ask)) if first != ticket => Why::Behind { run: ask.run, cell: ask.cell.clone(), since: ask.since },
                _ => Why::Next,
            }
        };
        let mut each: Vec<_> = self.sites.iter().enumerate().map(on).collect();
        match each.as_slice() {
            [_] => each.remove(0),
            several if several.contains(&Why::Next) => Why::Next,
            _ => Why::Each(each),
        }
    }

    /// Those who wait, in the order in which they would start if nobody else came and each found room in its turn.
    pub fn waiting(&self, now: Timestamp) -> Vec<(&Ask, Why)> {
        let mut later = self.clone();
        later.paused = false;
        later.sites.iter_mut().for_each(|site| site.open = true);
        let mut order = Vec::with_capacity(self.oldest.len());
        loop {
            later.sites.iter_mut().for_each(|site| site.taken = Room::NONE);
            let Some((ticket, _)) = later.start(now) else { break };
            order.push(ticket);
        }
        // Those that no host has anything for.
        order.extend(later.oldest.iter().map(|(.., ticket)| *ticket));
        let told = |ticket| self.cells.get(&ticket).map(|Place { ask, .. }| (ask, self.why(ticket, ask, now)));
        order.into_iter().filter_map(told).collect()
    }
}

#[cfg(test)]
#[path = "choice_tests.rs"]
mod tests;
