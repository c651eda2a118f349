//! The queue: runs that wait, those that are worked on, and the worker that takes them.
//!
//! The cells of all runs that are worked on share the host, see [`crate::lab::scheduler`]; what is bounded here is how many runs are kept in
//! mind. One in two that are taken is the oldest, the others are of the most urgent lane.
//!
//! Invariants: what waits is in the journal as an unfinished run, so that a worker that ends loses nothing; the caller of [`Queue::work`]
//! holds the state lock. A run that is given up because the worker stops is not ended: the next worker takes it up. One that was called off
//! is ended and never taken up.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, RwLock, broadcast, oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::{Desk, DeskError};
use crate::id::{Name, RunId};
use crate::journal::projection::RunFilter;
use crate::journal::{Event, Journal, JournalError, RunState};
use crate::lab::clock::Clock;
use crate::lab::pause::{self, Pause};
use crate::lab::scheduler::choice::Lane;
use crate::lab::scheduler::host::Hosts;
use crate::lab::scheduler::room::Room;
use crate::lab::scheduler::standing::OneHost;
use crate::lab::{Activity, Lab, Settings, reaper, scheduler};

/// How often a run that the lab can't get to work is tried.
const TRIES: u32 = 3;
/// What lies between two tries.
const REST: Duration = Duration::from_secs(20);
/// Runs that are worked on at once, not counting those of less urgent lanes.
const MOST: usize = 8;

/// How a run is done, apart from what its plan fixes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Wish {
    /// Leave the machines of failed cells for a person to look at.
    pub keep_failed: bool,
    /// Boot every machine, whatever templates there are.
    pub cold: bool,
    /// Run every baseline, whichever of them earlier runs have seen.
    pub fresh_baselines: bool,
}

impl Wish {
    /// What is wished for here and not there, by its name.
    pub fn beyond(&self, other: &Self) -> Vec<&'static str> {
        let Self { keep_failed, cold, fresh_baselines } = *self;
        let all = [
            ("keep-failed", keep_failed && !other.keep_failed),
            ("cold", cold && !other.cold),
            ("fresh-baselines", fresh_baselines && !other.fresh_baselines),
        ];
        all.into_iter().filter(|(_, beyond)| *beyond).map(|(name, _)| name).collect()
    }
}

/// What waits and what is worked on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The oldest first.
    pub waiting: Vec<RunId>,
    /// Those that are worked on.
    pub taken: BTreeSet<RunId>,
    /// Those of them of which some cell has found room.
    pub running: BTreeSet<RunId>,
    /// What there is for machines, and what cells at work have taken of it.
    pub capacity: Room,
    pub in_use: Room,
    pub cells_waiting: usize,
    /// No cell may start.
    pub paused: bool,
    pub hosts: Vec<OneHost>,
    /// Why the lab can't work at the moment.
    pub trouble: Option<String>,
}

/// What became of calling a run off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOff {
    /// It had not been begun and has ended.
    Ended,
    /// Its cells are being given up.
    UnderWay,
    /// It had ended before.
    TooLate,
}

/// Runs, and the host that their machines share.
pub struct Queue {
    pub desk: Arc<Desk>,
    pub journal: Journal,
    pub hosts: Hosts,
    /// Machines at once; as many as the host bears where nothing is said.
    workers: Option<u16>,
    inner: Mutex<Inner>,
    wake: Notify,
    /// One at a time lets machines go.
    releasing: tokio::sync::Mutex<()>,
    /// Read while a run is worked on, so that files which runs share are removed only when there is none.
    sharing: RwLock<()>,
    stopping: watch::Sender<bool>,
    activity: broadcast::Sender<Activity>,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Waiting>,
    wishes: BTreeMap<RunId, Wish>,
    tries: BTreeMap<RunId, u32>,
    taken: BTreeMap<RunId, Taken>,
    /// The next one that is taken is the oldest.
    oldest_next: bool,
    trouble: Option<String>,
}

struct Waiting {
    run: RunId,
    lane: Lane,
}

struct Taken {
    lane: Lane,
    cancel: watch::Sender<bool>,
}

impl Inner {
    /// The run to take next, made one of those that are taken.
    fn take(&mut self) -> Option<RunId> {
        let is_room = |lane: Lane| self.taken.values().filter(|taken| taken.lane <= lane).count() < MOST;
        let mut fitting = self.waiting.iter().enumerate().filter(|(_, waiting)| is_room(waiting.lane));
        let next = if self.oldest_next { fitting.next() } else { fitting.min_by_key(|(_, waiting)| waiting.lane) };
        let Waiting { run, lane } = next.map(|(at, _)| at).and_then(|at| self.waiting.remove(at))?;
        self.oldest_next = !self.oldest_next;
        self.taken.insert(run, Taken { lane, cancel: watch::channel(false).0 });
        Some(run)
    }
}

impl Queue {
    /// The queue of the journal's unfinished runs. Nothing is worked on before [`Queue::work`].
    pub async fn open(desk: Arc<Desk>, journal: Journal, wishes: BTreeMap<RunId, Wish>, workers: Option<u16>) -> Result<Self, DeskError> {
        let mut waiting: VecDeque<Waiting> = VecDeque::new();
        for row in journal.page(&RunFilter::OPEN, None, u32::MAX).await? {
            let plan = journal.state(row.run).await?.map(|state| state.plan);
            waiting.push_front(Waiting { run: row.run, lane: plan.map_or(Lane::WHENEVER, |plan| desk.lane(&plan)) });
        }
        let inner = Mutex::new(Inner { waiting, wishes, ..Inner::default() });
        let (stopping, activity) = (watch::channel(false).0, broadcast::channel(1024).0);
        let hosts = desk.hosts(workers)?;
        let (releasing, sharing) = (tokio::sync::Mutex::default(), RwLock::default());
        Ok(Self { desk, journal, hosts, workers, inner, wake: Notify::new(), releasing, sharing, stopping, activity })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a run that was begun at the end.
    pub fn push(&self, run: RunId, lane: Lane, wish: Wish) {
        let mut inner = self.inner();
        let known = inner.waiting.iter().any(|waiting| waiting.run == run) || inner.taken.contains_key(&run);
        if !known {
            inner.waiting.push_back(Waiting { run, lane });
            inner.wishes.insert(run, wish);
        }
        drop(inner);
        self.wake.notify_one();
    }

    /// How a run that has not ended is done.
    pub fn wish(&self, run: RunId) -> Wish {
        self.inner().wishes.get(&run).copied().unwrap_or_default()
    }

    pub fn standing(&self) -> Standing {
        let use_of = self.hosts.in_use();
        let inner = self.inner();
        let taken: BTreeSet<RunId> = inner.taken.keys().copied().collect();
        Standing {
            waiting: inner.waiting.iter().map(|waiting| waiting.run).collect(),
            running: use_of.begun.intersection(&taken).copied().collect(),
            capacity: use_of.capacity,
            in_use: use_of.taken,
            cells_waiting: use_of.waiting,
            paused: use_of.paused,
            hosts: use_of.hosts,
            taken,
            trouble: inner.trouble.clone(),
        }
    }

    /// Lets no cell start from now on, or lets them start again, on one host or on all; also after a restart.
    ///
    /// # Errors
    /// When the state folder can't be written to.
    pub fn pause(&self, host: Option<&Name>, pause: Option<Pause>) -> Result<(), DeskError> {
        pause::write(&self.desk.state.folder, host, pause.as_ref())?;
        tracing::info!(?host, ?pause, "whether cells start");
        self.hosts.pause(host, pause, Clock::wall());
        Ok(())
    }

    /// What is being done right now in the runs that are worked on.
    pub fn watch(&self) -> broadcast::Receiver<Activity> {
        self.activity.subscribe()
    }

    /// Turns true when the worker is to stop.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Gives up what is under way, without ending the run, and takes nothing more.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
        for taken in self.inner().taken.values() {
            taken.cancel.send_replace(true);
        }
    }

    /// Calls a run off, for good.
    ///
    /// # Errors
    /// When the journal can't be written.
    pub async fn call_off(&self, run: RunId, by: &str, reason: &str) -> Result<CallOff, JournalError> {
        if self.journal.state(run).await?.is_none_or(|state| state.is_finished()) {
            return Ok(CallOff::TooLate);
        }
        let waited = {
            let mut inner = self.inner();
            let at = inner.waiting.iter().position(|waiting| waiting.run == run);
            at.and_then(|at| inner.waiting.remove(at)).is_some()
        };
        let taken = self.inner().taken.get(&run).map(|taken| taken.cancel.clone());
        if !waited && taken.is_none() {
            return Ok(CallOff::TooLate);
        }
        let again = self.journal.state(run).await?.is_some_and(|state| state.called_off.is_some());
        if !again {
            let event = Event::RunCalledOff { by: Some(by.to_owned()), reason: reason.to_owned() };
            self.journal.append(run, Timestamp::now(), event).await?;
        }
        match taken {
            Some(cancel) => {
                cancel.send_replace(true);
                Ok(CallOff::UnderWay)
            }
            None => {
                scheduler::end(&self.journal, run, Timestamp::now()).await?;
                Ok(CallOff::Ended)
            }
        }
    }

    /// Lets the machines go that a run keeps, whatever else is being worked on, and returns them.
    ///
    /// # Errors
    /// When a machine can't be removed, or the journal can't be written.
    pub async fn release(self: &Arc<Self>, run: RunId, by: &str) -> Result<Vec<String>, DeskError> {
        let _one_at_a_time = self.releasing.lock().await;
        if self.journal.state(run).await?.is_none_or(|state| state.kept.is_empty()) {
            return Ok(Vec::new());
        }
        let by = by.to_owned();
        self.perform(move |queue| async move {
            let never = watch::channel(false).1;
            let lab = queue.lab(Settings::default(), never).await?;
            queue.desk.release(&lab, run, &by).await
        })
        .await
    }

    /// Works until it is stopped.
    pub async fn work(self: Arc<Self>) {
        let mut stopping = self.stopping.subscribe();
        while let Err(trouble) = self.perform(|queue| async move { queue.clean_up().await }).await {
            self.troubled(&trouble);
            if tokio::time::timeout(REST, stopping.wait_for(|stopping| *stopping)).await.is_ok() {
                return;
            }
        }
        self.inner().trouble = None;
        let mut runs: JoinSet<(RunId, Result<(), DeskError>)> = JoinSet::new();
        // After trouble none is taken until then.
        let mut rest: Option<Instant> = None;
        while !*stopping.borrow() {
            while let Some(run) = if rest.is_none() { self.inner().take() } else { None } {
                let queue = self.clone();
                runs.spawn(async move { (run, queue.perform(move |queue| async move { queue.one(run).await }).await) });
            }
            let ended = tokio::select! {
                ended = runs.join_next(), if !runs.is_empty() => ended,
                () = self.wake.notified() => None,
                () = tokio::time::sleep_until(rest.unwrap_or_else(Instant::now)), if rest.is_some() => {
                    rest = None;
                    self.inner().trouble = None;
                    None
                }
                _ = stopping.wait_for(|stopping| *stopping) => None,
            };
            if let Some(ended) = ended
                && self.ended(ended).await
            {
                rest = Some(Instant::now() + REST);
            }
        }
        while let Some(ended) = runs.join_next().await {
            self.ended(ended).await;
        }
    }

    /// What became of a run; a panic in it goes on here. Returns whether the lab is in trouble.
    async fn ended(&self, ended: Result<(RunId, Result<(), DeskError>), JoinError>) -> bool {
        let (run, done) = ended.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()));
        match done {
            Ok(()) => {
                self.forget(run);
                false
            }
            Err(error) => {
                let trouble = error.is_fault();
                if trouble {
                    self.troubled(&error);
                } else {
                    (self.desk.tell)(&format!("run {run} can't be worked on: {error}"));
                }
                self.give_up(run, &error).await;
                trouble
            }
        }
    }

    fn forget(&self, run: RunId) {
        let mut inner = self.inner();
        inner.taken.remove(&run);
        inner.wishes.remove(&run);
        inner.tries.remove(&run);
        self.hosts.forget(run);
    }

    fn troubled(&self, error: &DeskError) {
        let told = error.to_string();
        tracing::error!(error = told, "the lab can't work");
        (self.desk.tell)(&told);
        self.inner().trouble = Some(told);
    }

    /// A run that could not be worked on waits again, or is ended when there is no hope.
    async fn give_up(&self, run: RunId, error: &DeskError) {
        let hopeless = {
            let mut inner = self.inner();
            let tries = inner.tries.entry(run).or_default();
            *tries += 1;
            *tries >= TRIES || !error.is_fault()
        };
        let end = async {
            if self.journal.state(run).await?.is_some_and(|state| state.called_off.is_none()) {
                let event = Event::RunCalledOff { by: None, reason: error.to_string() };
                self.journal.append(run, Timestamp::now(), event).await?;
            }
            scheduler::end(&self.journal, run, Timestamp::now()).await
        };
        // Without a journal nothing ends.
        if hopeless && end.await.is_ok() {
            self.forget(run);
        } else {
            let mut inner = self.inner();
            if let Some(Taken { lane, .. }) = inner.taken.remove(&run) {
                inner.waiting.push_front(Waiting { run, lane });
            }
        }
    }

    /// Does something where the machines' time goes by.
    async fn perform<T, F>(self: &Arc<Self>, what: impl FnOnce(Arc<Self>) -> F + Send + 'static) -> Result<T, DeskError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, DeskError>> + Send,
    {
        let (tell, told) = oneshot::channel();
        let queue = self.clone();
        let work = Box::pin(async move {
            // Whoever asked waits for it.
            let _ = tell.send(what(queue).await);
        });
        self.desk.workshop.perform(work).await;
        told.await.unwrap_or_else(|_| Err(DeskError::Fault("the worker ended in the middle; see its log".to_owned())))
    }

    async fn lab(&self, settings: Settings, cancelled: watch::Receiver<bool>) -> Result<Lab, DeskError> {
        self.desk.lab_with(self.journal.clone(), settings, self.hosts.clone(), self.activity.clone(), cancelled).await
    }

    async fn clean_up(&self) -> Result<(), DeskError> {
        let lab = self.lab(Settings::default(), watch::channel(false).1).await?;
        self.desk.clean_up(&lab).await
    }

    async fn one(&self, run: RunId) -> Result<(), DeskError> {
        let Some(state) = self.journal.state(run).await?.filter(|state| !state.is_finished()) else { return Ok(()) };
        if state.called_off.is_some() {
            scheduler::end(&self.journal, run, Timestamp::now()).await?;
            return Ok(());
        }
        let Some(cancelled) = self.inner().taken.get(&run).map(|taken| taken.cancel.subscribe()) else { return Ok(()) };
        // Whoever stopped before this run was taken has not told it.
        if *self.stopping.borrow() {
            self.stop();
        }
        self.cells(&state, cancelled).await
    }

    async fn cells(&self, state: &RunState, cancelled: watch::Receiver<bool>) -> Result<(), DeskError> {
        let patches: Vec<_> = state.plan.patches().map(|patch| self.desk.stored(&patch.sha256.to_string())).collect::<Result<_, _>>()?;
        let Wish { keep_failed, cold, fresh_baselines } = self.wish(state.run);
        let sharing = self.sharing.read().await;
        let lab = self.lab(Settings { keep_failed, cold, fresh_baselines }, cancelled).await?;
        let catalog = self.desk.catalog()?;
        let lab = Lab { lanes: Desk::lanes(&catalog, &state.plan), ..lab };
        // What an earlier try left of it.
        reaper::take_over(&lab, state).await?;
        let files = self.desk.files(&state.plan, &patches, &catalog).await?;
        let state = self.desk.take(&lab, state.run).await?;
        self.desk.measure(&self.hosts, &lab.sites, self.workers).await?;
        self.desk.work(&lab, &state, files, &self.stopping.subscribe()).await?;
        drop(sharing);
        if let Ok(_alone) = self.sharing.try_write() {
            self.desk.tidy(&lab).await;
        }
        Ok(())
    }
}
