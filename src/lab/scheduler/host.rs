//! The hosts that all runs of a controller share: their cells wait here together, and each is told when and where it starts.
//!
//! Where there are several, each must prove itself before it gets work and after a fault; see [`crate::lab::proof`]. Until then it is
//! out: cells that are at work there go on, others do not start.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, mpsc};

use super::choice::{Ask, Line, Ticket, Why};
use super::room::Room;
use super::standing::{OneHost, Standing, Use, Waiting, words};
use crate::id::{CellId, Name, RunId};
use crate::lab::clock::Clock;
use crate::lab::pause::Pause;

/// What lies between a proof that failed and the next; twice as much after each.
const REST: Duration = Duration::from_secs(20);
/// The most of it.
const LONGEST_REST: Duration = Duration::from_secs(600);

/// What the hosts' machines are used for. Clones are the same hosts.
#[derive(Clone, Debug)]
pub struct Hosts(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    line: Line,
    pause: Option<Pause>,
    hosts: Vec<Host>,
    /// Whom to tell that a cell starts, and which of its run's cells it is.
    runs: HashMap<Ticket, (mpsc::UnboundedSender<Start>, usize)>,
    /// Runs of which a cell has started.
    begun: BTreeSet<RunId>,
    /// Told when a host is to prove itself.
    doubts: Arc<Notify>,
    /// The most machines on each, where somebody bounds them.
    most: Option<u32>,
}

/// One of them, in the order of the line.
#[derive(Debug)]
struct Host {
    name: Name,
    labels: BTreeSet<Name>,
    pause: Option<Pause>,
    out: Option<Out>,
    /// Proofs and cells that failed there since a cell did well.
    failed: u32,
}

impl Host {
    fn is_open(&self) -> bool {
        self.pause.is_none() && self.out.is_none()
    }

    /// It has failed once more: it is to prove itself, at once after the first time.
    fn fail(&mut self, why: String, now: Timestamp) {
        let since = self.out.as_ref().map_or(now, |out| out.since);
        let rest = self.failed.checked_sub(1).map(|before| REST.saturating_mul(1 << before.min(10)).min(LONGEST_REST));
        tracing::warn!(host = %self.name, why, ?rest, "a host is out until it has proved itself");
        let due = rest.map_or(Timestamp::MIN, |rest| now.saturating_add(rest).unwrap_or(Timestamp::MAX));
        self.out = Some(Out { why, since, due: Some(due) });
        self.failed = self.failed.saturating_add(1);
    }
}

/// A host that gets no work until it has proved itself.
#[derive(Debug)]
struct Out {
    why: String,
    since: Timestamp,
    /// When the next is due; `None` while one is under way.
    due: Option<Timestamp>,
}

/// A cell may start: its place among those that were asked for, and its room.
type Start = (usize, Lease);

impl Inner {
    fn each(&self) -> Vec<OneHost> {
        let one = |(at, host): (usize, &Host)| {
            let (capacity, taken) = self.line.room(at);
            let out = host.out.as_ref().map(|out| out.why.clone());
            OneHost { name: host.name.clone(), labels: host.labels.clone(), capacity, taken, pause: host.pause.clone(), out }
        };
        self.hosts.iter().enumerate().map(one).collect()
    }

    fn at(&mut self, host: &Name) -> Option<(usize, &mut Host)> {
        self.hosts.iter_mut().enumerate().find(|(_, one)| one.name == *host)
    }

    /// Lets cells start on each host that is neither paused nor out.
    fn reopen(&mut self) {
        for (at, host) in self.hosts.iter().enumerate() {
            self.line.open(at, host.is_open());
        }
    }
}

/// All of them together.
fn sum(hosts: &[OneHost], of: impl Fn(&OneHost) -> Room) -> Room {
    hosts.iter().map(of).fold(Room::NONE, Room::plus)
}

impl Hosts {
    /// Hosts by their names, with what each has for machines. Of several, each is out until it has proved itself.
    pub fn new(hosts: Vec<(Name, Room)>, pause: Option<Pause>) -> Self {
        let (names, rooms): (Vec<_>, Vec<_>) = hosts.into_iter().unzip();
        let several = names.len() > 1;
        let out =
            || several.then(|| Out { why: "it has not proved itself yet".to_owned(), since: Timestamp::MIN, due: Some(Timestamp::MIN) });
        let hosts = names.into_iter().map(|name| Host { name, labels: BTreeSet::new(), pause: None, out: out(), failed: 0 }).collect();
        let mut line = Line::new(rooms);
        line.pause(pause.is_some());
        let mut inner = Inner { line, pause, hosts, runs: HashMap::new(), begun: BTreeSet::new(), doubts: Arc::default(), most: None };
        inner.reopen();
        Self(Arc::new(Mutex::new(inner)))
    }

    /// With at most so many machines on each.
    pub fn bounded(self, most: Option<u16>) -> Self {
        self.inner().most = most.map(u32::from);
        self
    }

    /// With labels, each by its host's name.
    pub fn labelled(self, labels: impl IntoIterator<Item = (Name, BTreeSet<Name>)>) -> Self {
        let mut inner = self.inner();
        for (host, labels) in labels {
            if let Some((at, host)) = inner.at(&host) {
                host.labels.clone_from(&labels);
                inner.line.label(at, labels);
            }
        }
        drop(inner);
        self
    }

    /// Where no cell is to start.
    pub fn none() -> Self {
        Self::new(Vec::new(), None)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a host has, measured anew; see [`Line::resize`].
    pub fn resize(&self, host: &Name, capacity: Room) {
        let mut inner = self.inner();
        if let Some((at, _)) = inner.at(host) {
            inner.line.resize(at, capacity);
        }
    }

    /// Tells when a host is to prove itself from now on.
    pub fn doubts(&self) -> Arc<Notify> {
        self.inner().doubts.clone()
    }

    /// What a host elsewhere says that it has.
    pub fn found(&self, host: &Name, Room { cores, boots, memory, disk }: Room) {
        let most = self.inner().most.unwrap_or(u32::MAX);
        self.resize(host, Room { cores: cores.min(most), boots: boots.min(most), memory, disk });
    }

    /// What they are used for, in numbers.
    pub fn in_use(&self) -> Use {
        let inner = self.inner();
        let hosts = inner.each();
        Use {
            capacity: sum(&hosts, |host| host.capacity),
            taken: sum(&hosts, |host| host.taken),
            waiting: inner.line.count(),
            paused: inner.pause.is_some(),
            hosts,
            begun: inner.begun.clone(),
        }
    }

    /// A host of several that has failed a cell, or can't be reached, gets no more work until it has proved itself.
    pub fn doubt(&self, host: &Name, why: &str, now: Timestamp) {
        let mut inner = self.inner();
        if inner.hosts.len() < 2 {
            return;
        }
        if let Some((_, host)) = inner.at(host)
            && host.out.is_none()
        {
            host.fail(why.to_owned(), now);
        }
        inner.reopen();
        inner.doubts.notify_waiters();
    }

    /// A cell has ended on a host and had nothing to say against it.
    pub fn did_well(&self, host: &Name) {
        if let Some((_, host)) = self.inner().at(host) {
            host.failed = 0;
        }
    }

    /// A host whose proof is due, which is the caller's to make with cells for a host of such labels; or when the next one will be.
    pub fn to_prove(&self, fits: impl Fn(&BTreeSet<Name>) -> bool, now: Timestamp) -> (Option<Trial>, Option<Timestamp>) {
        let mut inner = self.inner();
        let mut next = None;
        for Host { name, labels, out, .. } in &mut inner.hosts {
            let Some(out) = out.as_mut().filter(|_| fits(labels)) else { continue };
            match out.due {
                Some(due) if due <= now => {
                    out.due = None;
                    return (Some(Trial { hosts: self.clone(), host: name.clone(), labels: labels.clone(), told: false }), None);
                }
                Some(due) => next = Some(next.map_or(due, |next: Timestamp| next.min(due))),
                None => {}
            }
        }
        (None, next)
    }

    /// Since when all hosts of such labels are out, and why each is.
    pub fn all_out(&self, fits: impl Fn(&BTreeSet<Name>) -> bool) -> Option<(Timestamp, String)> {
        let inner = self.inner();
        let hosts = || inner.hosts.iter().filter(|host| fits(&host.labels));
        let since = hosts().map(|host| host.out.as_ref().map(|out| out.since)).collect::<Option<Vec<_>>>()?;
        let told = |host: &Host| host.out.as_ref().map(|out| format!("{}: {}", host.name, out.why));
        let why = hosts().filter_map(told).collect::<Vec<_>>().join("; ");
        match since.into_iter().max() {
            Some(since) => Some((since, why)),
            None => Some((Timestamp::MIN, "no host has the labels that its cells ask for".to_owned())),
        }
    }

    fn proved(&self, host: &Name, proof: Result<(), String>, clock: Clock) {
        let now = clock.now();
        let mut inner = self.inner();
        if let Some((_, host)) = inner.at(host) {
            match proof {
                Ok(()) => host.out = None,
                Err(why) => {
                    // The next is never at once.
                    host.failed = host.failed.max(1);
                    host.fail(why, now);
                }
            }
        }
        inner.reopen();
        inner.doubts.notify_waiters();
        drop(inner);
        self.start(clock);
    }

    /// The cells at work, on one host or on any.
    pub fn at_work(&self, on: Option<&Name>) -> BTreeSet<(RunId, CellId)> {
        let inner = self.inner();
        let here = |at: usize| on.is_none_or(|on| inner.hosts.get(at).is_some_and(|host| host.name == *on));
        inner.line.at_work().filter(|(.., at)| here(*at)).map(|(ask, ..)| (ask.run, ask.cell.clone())).collect()
    }

    /// A run is not worked on any more.
    pub fn forget(&self, run: RunId) {
        self.inner().begun.remove(&run);
    }

    /// Lets nothing start from now on, or lets it again; on one host, or on all.
    pub fn pause(&self, host: Option<&Name>, pause: Option<Pause>, clock: Clock) {
        let mut inner = self.inner();
        match host {
            None => {
                inner.line.pause(pause.is_some());
                inner.pause = pause;
            }
            Some(host) => {
                if let Some((_, host)) = inner.at(host) {
                    host.pause = pause;
                }
                inner.reopen();
            }
        }
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
        Queued { hosts: self.clone(), clock, tell, tickets, starts }
    }

    /// Starts what can start.
    fn start(&self, clock: Clock) {
        let now = clock.now();
        let mut inner = self.inner();
        let mut started = Vec::new();
        while let Some((ticket, at)) = inner.line.start(now) {
            let Some(host) = inner.hosts.get(at).map(|host| host.name.clone()) else { continue };
            let lease = Lease { hosts: self.clone(), host, clock, ticket };
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
        let hosts = inner.each();
        let told = |(ask, why): (&Ask, Why)| Waiting {
            run: ask.run,
            cell: ask.cell.clone(),
            customer: ask.customer.clone(),
            lane: ask.lane,
            since: ask.since,
            kind: why.kind(),
            why: words(&why, inner.pause.as_ref(), &hosts, now),
        };
        let waiting = inner.line.waiting(now).into_iter().filter(|(ask, _)| of.is_none_or(|run| ask.run == run));
        let name = |at: usize| hosts.get(at).map(|host| host.name.clone());
        let at_work = |(ask, since, at): (&Ask, Timestamp, usize)| Some((ask.run, ask.cell.clone(), since, name(at)?));
        Standing {
            capacity: sum(&hosts, |host| host.capacity),
            taken: sum(&hosts, |host| host.taken),
            pause: inner.pause.clone(),
            at_work: inner.line.at_work().filter_map(at_work).collect(),
            waiting: waiting.map(told).collect(),
            hosts,
        }
    }
}

/// A proof that is under way. Dropped without an answer, it is due again.
#[derive(Debug)]
pub struct Trial {
    hosts: Hosts,
    pub host: Name,
    pub labels: BTreeSet<Name>,
    told: bool,
}

impl Trial {
    /// How it went.
    pub fn tell(mut self, proof: Result<(), String>, clock: Clock) {
        self.told = true;
        self.hosts.proved(&self.host, proof, clock);
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if self.told {
            return;
        }
        let mut inner = self.hosts.inner();
        if let Some((_, Host { out: Some(out), .. })) = inner.at(&self.host) {
            out.due = Some(Timestamp::MIN);
        }
        inner.doubts.notify_waiters();
    }
}

/// A run's cells that wait. Those that have not started when it is dropped wait no more.
#[derive(Debug)]
pub struct Queued {
    hosts: Hosts,
    clock: Clock,
    tell: mpsc::UnboundedSender<Start>,
    tickets: Vec<Ticket>,
    starts: mpsc::UnboundedReceiver<Start>,
}

impl Queued {
    /// The next cell that may start. It waits for ever where none does.
    pub async fn next(&mut self) -> Option<Start> {
        self.starts.recv().await
    }

    /// Has a cell wait once more that a host could not bring to its end, by its place among those that were asked for.
    pub fn again(&mut self, at: usize, ask: Ask, host: &Name) {
        let mut inner = self.hosts.inner();
        let ask = Ask { not_on: inner.at(host).map(|(at, _)| at), ..ask };
        let ticket = inner.line.ask(ask);
        inner.runs.insert(ticket, (self.tell.clone(), at));
        drop(inner);
        self.tickets.push(ticket);
        self.hosts.start(self.clock);
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.hosts.end(&self.tickets, self.clock, Line::is_waiting);
    }
}

/// The room that a cell has, until this is dropped.
#[derive(Debug)]
pub struct Lease {
    hosts: Hosts,
    pub host: Name,
    clock: Clock,
    ticket: Ticket,
}

impl Lease {
    /// Its machines have booted: others may.
    pub fn booted(&self) {
        self.hosts.inner().line.booted(self.ticket);
        self.hosts.start(self.clock);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.hosts.end(&[self.ticket], self.clock, |_, _| true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::scheduler::choice::Lane;

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    fn ask(build: &str) -> Ask {
        Ask {
            run: RunId::from_parts(1, [1; 10]),
            cell: CellId::new(&name("acme"), &name(build), &name("virtio-bios")),
            customer: name("acme"),
            lane: Lane::WHENEVER,
            expected: Duration::from_secs(60),
            since: Timestamp::UNIX_EPOCH,
            needs: Room::cores(1),
            not_on: None,
            labels: BTreeSet::new(),
        }
    }

    #[tokio::test]
    async fn a_cell_is_at_work_on_the_host_that_it_was_given_alone() {
        let clock = Clock::starting_at(Timestamp::UNIX_EPOCH);
        let hosts = Hosts::new(vec![(name("alpha"), Room::cores(1)), (name("beta"), Room::cores(1))], None);
        while let (Some(trial), _) = hosts.to_prove(|_| true, clock.now()) {
            trial.tell(Ok(()), clock);
        }
        let mut queued = hosts.queue(vec![ask("web"), ask("desktop")], clock);
        let leases = [queued.next().await.expect("a start"), queued.next().await.expect("another")];
        let cells: Vec<_> = leases.iter().map(|(_, lease)| hosts.at_work(Some(&lease.host))).collect();
        assert!(cells.iter().all(|cells| cells.len() == 1) && cells[0].is_disjoint(&cells[1]), "{cells:?}");
        assert_eq!(hosts.at_work(None).len(), 2);
    }
    #[test]
    fn a_host_proves_itself_only_with_what_may_run_there() {
        let clock = Clock::starting_at(Timestamp::UNIX_EPOCH);
        let label = name("site-b");
        let hosts = Hosts::new(vec![(name("alpha"), Room::cores(1)), (name("beta"), Room::cores(1))], None);
        let hosts = hosts.labelled([(name("beta"), [label.clone()].into())]);
        let may = |labels: &BTreeSet<Name>| labels.contains(&label);
        let (trial, _) = hosts.to_prove(may, clock.now());
        let trial = trial.expect("one is due");
        assert_eq!((&trial.host, &trial.labels), (&name("beta"), &[label.clone()].into()));
        trial.tell(Ok(()), clock);
        assert!(matches!(hosts.to_prove(may, clock.now()), (None, None)), "it is not alpha's turn");
        assert_eq!((hosts.all_out(may), hosts.all_out(|labels| labels.is_empty()).is_some()), (None, true));
        assert_eq!(hosts.to_prove(|_| true, clock.now()).0.expect("another run's").host, name("alpha"));
    }
}
