//! The world behind the simulated hypervisor and guests: all machines, one agenda of what is to come, and time.
//!
//! Time is tokio's: on a paused runtime it is virtual and jumps from one thing that is due to the next. Every operation first lets
//! happen what is due; a task of its own, the clockwork, does so while nobody asks, so that events come when they happen.
//!
//! Invariants: the only randomness is the scenario's seed, and no clock of the host is read. Things happen in the order of their
//! time, then of their being scheduled. Every call takes time, so that a caller that only polls does not stop the clock.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{Notify, broadcast};
use tokio::time::{Instant, sleep, sleep_until};

use super::machine::{Effects, Happening, Machine, Record, paced};
use super::scenario::{Scenario, ScenarioError};
use super::store::Store;
use crate::hypervisor::segments::NetworkSpec;
use crate::hypervisor::{MachineEvent, MachineEventKind, Owned, Tag};

/// Events that a slow subscriber may lag behind.
const EVENTS_KEPT: usize = 4096;
/// The same of one machine's.
const MACHINE_EVENTS_KEPT: usize = 64;
/// Entries of the trace that are kept.
const TRACE_KEPT: usize = 10_000;

/// A simulated world. Made once, shared by [`super::SimHypervisor`] and [`crate::guest::sim::SimGuests`].
pub struct World {
    scenario: Arc<Scenario>,
    core: Mutex<Core>,
    events: broadcast::Sender<MachineEvent>,
    wake: Arc<Notify>,
    opened: Instant,
    ticking: AtomicBool,
}

/// Something that happened, and when: since the world was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceEntry {
    pub at: Duration,
    pub event: MachineEvent,
}

/// A world could not be opened.
#[derive(Debug, Error)]
pub enum WorldError {
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    #[error("the simulated machines' folder {folder} could not be opened: {source}")]
    State { folder: String, source: std::io::Error },
}

/// What the lock protects.
pub(crate) struct Core {
    /// Networks that are open, by name. They end with the controller.
    pub networks: BTreeMap<String, (Tag, NetworkSpec)>,
    pub scenario: Arc<Scenario>,
    machines: HashMap<String, Kept>,
    agenda: BTreeMap<(Duration, u64), (String, u64, Happening)>,
    scheduled: u64,
    clones: BTreeMap<String, u32>,
    /// The connection is gone until then.
    outage: Option<Duration>,
    store: Option<Store>,
    outbox: Vec<MachineEvent>,
    /// Who watches one machine, so that nobody is woken by all others'.
    watchers: BTreeMap<String, broadcast::Sender<MachineEvent>>,
    trace: VecDeque<TraceEntry>,
}

struct Kept {
    tag: Tag,
    machine: Machine,
    saved: Record,
}

impl World {
    /// A world that ends with the process.
    pub fn new(scenario: Scenario) -> Arc<Self> {
        Self::of(scenario, None)
    }

    /// A world whose machines are kept below `state`, those of a controller that ended included.
    pub fn open(scenario: Scenario, state: &Path) -> Result<Arc<Self>, WorldError> {
        scenario.check()?;
        let failed = |source| WorldError::State { folder: state.display().to_string(), source };
        let store = Store::open(state).map_err(failed)?;
        let (found, clones) = (store.found().map_err(failed)?, store.clones());
        let world = Self::of(scenario, Some(store));
        let mut core = world.core();
        core.clones = clones;
        for found in found {
            if let (Some(tag), Some(record)) = (found.tag, found.record) {
                let scenario = core.scenario.clone();
                let mut fx = effects(&scenario, Duration::ZERO);
                let machine = Machine::found(record.clone(), found.console, &mut fx);
                let later = fx.later;
                core.machines.insert(found.name.clone(), Kept { tag, machine, saved: record });
                core.schedule(&found.name, later);
            }
        }
        drop(core);
        Ok(world)
    }

    fn of(scenario: Scenario, store: Option<Store>) -> Arc<Self> {
        let scenario = Arc::new(scenario);
        let core = Core {
            networks: BTreeMap::new(),
            scenario: scenario.clone(),
            machines: HashMap::new(),
            agenda: BTreeMap::new(),
            scheduled: 0,
            clones: BTreeMap::new(),
            outage: None,
            store,
            outbox: Vec::new(),
            watchers: BTreeMap::new(),
            trace: VecDeque::new(),
        };
        let (events, _) = broadcast::channel(EVENTS_KEPT);
        Arc::new(Self {
            scenario,
            core: Mutex::new(core),
            events,
            wake: Arc::default(),
            opened: Instant::now(),
            ticking: AtomicBool::new(false),
        })
    }

    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// Everything that happened, oldest first; at most the last ten thousand.
    pub fn trace(&self) -> Vec<TraceEntry> {
        self.core().trace.iter().cloned().collect()
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<MachineEvent> {
        self.events.subscribe()
    }

    pub(crate) fn events_of(&self, machine: &str) -> broadcast::Receiver<MachineEvent> {
        let mut core = self.core();
        core.watchers.entry(machine.to_owned()).or_insert_with(|| broadcast::channel(MACHINE_EVENTS_KEPT).0).subscribe()
    }

    /// Does something in the world, after the time that it takes.
    pub(crate) async fn operate<T>(self: &Arc<Self>, takes: Duration, act: impl FnOnce(&mut Core, Duration) -> T) -> T {
        self.tick();
        self.pass(takes).await;
        let done = {
            let mut core = self.core();
            let now = self.advance(&mut core);
            let done = act(&mut core, now);
            self.deliver(&mut core, now);
            done
        };
        self.wake.notify_one();
        done
    }

    /// Lets some of the world's time pass.
    pub(crate) async fn pass(&self, span: Duration) {
        let span = paced(&self.scenario.pace, span);
        sleep(span.max(Duration::from_millis(1))).await;
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets happen what is due.
    fn advance(&self, core: &mut Core) -> Duration {
        let now = self.opened.elapsed();
        while let Some(due) = core.agenda.first_entry().filter(|due| due.key().0 <= now) {
            let at = due.key().0;
            let (machine, epoch, what) = due.remove();
            core.machine(&machine, at, |machine, fx| {
                if machine.epoch == epoch {
                    machine.happen(what, fx);
                }
            });
            self.deliver(core, at);
        }
        now
    }

    /// Tells subscribers; during an outage they hear nothing but that.
    fn deliver(&self, core: &mut Core, at: Duration) {
        let out = core.is_out(at);
        for event in std::mem::take(&mut core.outbox) {
            tracing::debug!(machine = event.machine, event = ?event.kind, at_ms = at.as_millis(), "simulated machine event");
            if core.trace.len() == TRACE_KEPT {
                core.trace.pop_front();
            }
            core.trace.push_back(TraceEntry { at, event: event.clone() });
            if event.kind == MachineEventKind::ConnectionLost {
                for watcher in core.watchers.values() {
                    // No subscriber is no error, here and below.
                    let _ = watcher.send(event.clone());
                }
                let _ = self.events.send(event);
            } else if !out {
                if let Some(watcher) = core.watchers.get(&event.machine) {
                    let _ = watcher.send(event.clone());
                }
                let _ = self.events.send(event);
            }
        }
    }

    /// Starts the clockwork, once.
    fn tick(self: &Arc<Self>) {
        if !self.ticking.swap(true, Ordering::Relaxed) {
            tokio::spawn(clockwork(Arc::downgrade(self), self.wake.clone()));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

/// Lets things happen when they are due, as long as the world exists.
async fn clockwork(world: Weak<World>, wake: Arc<Notify>) {
    loop {
        let due = {
            let Some(world) = world.upgrade() else { return };
            let mut core = world.core();
            world.advance(&mut core);
            core.agenda.first_key_value().and_then(|((at, _), _)| world.opened.checked_add(*at))
        };
        match due {
            Some(at) => tokio::select! {
                () = sleep_until(at) => {}
                () = wake.notified() => {}
            },
            None => wake.notified().await,
        }
    }
}

fn effects(scenario: &Scenario, now: Duration) -> Effects<'_> {
    Effects { scenario, now, later: Vec::new(), events: Vec::new(), outage: None }
}

impl Core {
    pub fn is_out(&self, now: Duration) -> bool {
        self.outage.is_some_and(|until| now < until)
    }

    pub fn has(&self, machine: &str) -> bool {
        self.machines.contains_key(machine) || self.store.as_ref().is_some_and(|store| store.exists(machine))
    }

    /// Does something to a machine. `None` when there is none of that name.
    pub fn machine<T>(&mut self, name: &str, now: Duration, act: impl FnOnce(&mut Machine, &mut Effects<'_>) -> T) -> Option<T> {
        let kept = self.machines.get_mut(name)?;
        let scenario = self.scenario.clone();
        let mut fx = effects(&scenario, now);
        kept.machine.count(now);
        let done = act(&mut kept.machine, &mut fx);
        if let Some(store) = &self.store
            && kept.machine.record != kept.saved
        {
            kept.saved = kept.machine.record.clone();
            if let Err(error) = store.save(name, &kept.saved, &kept.machine.console) {
                tracing::warn!(machine = name, %error, "simulated machine not saved");
            }
        }
        let Effects { later, events, outage, .. } = fx;
        self.outbox.extend(events.into_iter().map(|kind| {
            let machine = if kind == MachineEventKind::ConnectionLost { String::new() } else { name.to_owned() };
            MachineEvent { machine, kind }
        }));
        self.outage = outage.max(self.outage);
        self.schedule(name, later);
        Some(done)
    }

    fn schedule(&mut self, name: &str, later: Vec<(Duration, u64, Happening)>) {
        for (at, epoch, what) in later {
            self.scheduled += 1;
            self.agenda.insert((at, self.scheduled), (name.to_owned(), epoch, what));
        }
    }

    /// The number of a cell's next clone. Counted even if the clone then fails, so that a fault plan can tell attempts apart.
    pub fn next_clone(&mut self, cell: &str) -> std::io::Result<u32> {
        let count = self.clones.entry(cell.to_owned()).or_default();
        *count = count.saturating_add(1);
        let nth = *count;
        self.store.as_ref().map_or(Ok(()), |store| store.save_clones(&self.clones))?;
        Ok(nth)
    }

    pub fn create(&mut self, name: &str, tag: Tag, machine: Machine) -> std::io::Result<()> {
        if let Some(store) = &self.store {
            store.create(name, &tag, &machine.record)?;
        }
        let saved = machine.record.clone();
        self.machines.insert(name.to_owned(), Kept { tag, machine, saved });
        Ok(())
    }

    pub fn destroy(&mut self, name: &str) -> std::io::Result<()> {
        self.machines.remove(name);
        self.watchers.retain(|_, watcher| watcher.receiver_count() > 0);
        self.agenda.retain(|_, (machine, ..)| machine != name);
        self.store.as_ref().map_or(Ok(()), |store| store.destroy(name))
    }

    pub fn tag(&self, machine: &str) -> Option<&Tag> {
        self.machines.get(machine).map(|kept| &kept.tag)
    }

    /// All that bears the lab's tag, by name; folders without a tag too.
    pub fn owned(&self, lab: &str) -> std::io::Result<Vec<Owned>> {
        let mut owned: BTreeMap<String, Owned> = BTreeMap::new();
        for found in self.store.as_ref().map_or_else(|| Ok(Vec::new()), Store::found)? {
            let half_made = Owned { machine: found.name.clone(), tag: found.tag, running: false, bytes: found.bytes };
            owned.insert(found.name, half_made);
        }
        for (name, kept) in &self.machines {
            let bytes = owned.get(name).map_or(kept.machine.console.len() as u64, |owned| owned.bytes);
            let (tag, running) = (Some(kept.tag.clone()), kept.machine.record.on);
            owned.insert(name.clone(), Owned { machine: name.clone(), tag, running, bytes });
        }
        for (name, (tag, _)) in &self.networks {
            owned.insert(name.clone(), Owned { machine: name.clone(), tag: Some(tag.clone()), running: false, bytes: 0 });
        }
        Ok(owned.into_values().filter(|owned| owned.tag.as_ref().is_none_or(|tag| tag.lab == lab)).collect())
    }
}
