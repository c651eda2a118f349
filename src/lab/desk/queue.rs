//! The queue: runs that wait, the one that is worked on, and the worker that takes the oldest.
//!
//! Invariants: what waits is in the journal as an unfinished run, so that a worker that ends loses nothing; one run is worked on at a
//! time; the caller of [`Queue::work`] holds the state lock. A run that is given up because the worker stops is not ended: the next
//! worker takes it up. One that was called off is ended and never taken up.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, broadcast, oneshot, watch};

use super::work::slots;
use super::{Desk, DeskError};
use crate::id::RunId;
use crate::journal::projection::RunFilter;
use crate::journal::{Event, Journal, JournalError, RunState};
use crate::lab::{Activity, Settings, reaper, scheduler};

/// How often a run that the lab can't get to work is tried.
const TRIES: u32 = 3;
/// What lies between two tries.
const PAUSE: Duration = Duration::from_secs(20);

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
    /// The one that comes next first.
    pub waiting: Vec<RunId>,
    /// The run that is worked on, and its machines at work at once.
    pub current: Option<(RunId, usize)>,
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

/// Runs in the order in which they were asked for.
pub struct Queue {
    pub desk: Arc<Desk>,
    pub journal: Journal,
    /// Machines at once; as many as the host bears where nothing is said.
    workers: Option<u16>,
    inner: Mutex<Inner>,
    wake: Notify,
    /// One at a time lets machines go.
    releasing: tokio::sync::Mutex<()>,
    stopping: watch::Sender<bool>,
    activity: broadcast::Sender<Activity>,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<RunId>,
    wishes: BTreeMap<RunId, Wish>,
    tries: BTreeMap<RunId, u32>,
    current: Option<Current>,
    trouble: Option<String>,
}

struct Current {
    run: RunId,
    slots: usize,
    cancel: watch::Sender<bool>,
}

impl Queue {
    /// The queue of the journal's unfinished runs. Nothing is worked on before [`Queue::work`].
    pub async fn open(desk: Arc<Desk>, journal: Journal, wishes: BTreeMap<RunId, Wish>, workers: Option<u16>) -> Result<Self, DeskError> {
        let mut waiting: VecDeque<RunId> = VecDeque::new();
        for row in journal.page(&RunFilter::OPEN, None, u32::MAX).await? {
            waiting.push_front(row.run);
        }
        let inner = Mutex::new(Inner { waiting, wishes, ..Inner::default() });
        let (stopping, activity) = (watch::channel(false).0, broadcast::channel(1024).0);
        Ok(Self { desk, journal, workers, inner, wake: Notify::new(), releasing: tokio::sync::Mutex::default(), stopping, activity })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a run that was begun at the end.
    pub fn push(&self, run: RunId, wish: Wish) {
        let mut inner = self.inner();
        let known = inner.waiting.contains(&run) || inner.current.as_ref().is_some_and(|current| current.run == run);
        if !known {
            inner.waiting.push_back(run);
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
        let inner = self.inner();
        Standing {
            waiting: inner.waiting.iter().copied().collect(),
            current: inner.current.as_ref().map(|current| (current.run, current.slots)),
            trouble: inner.trouble.clone(),
        }
    }

    /// What is being done right now in the run that is worked on.
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
        if let Some(current) = &self.inner().current {
            current.cancel.send_replace(true);
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
            let at = inner.waiting.iter().position(|waiting| *waiting == run);
            at.and_then(|at| inner.waiting.remove(at)).is_some()
        };
        let current = self.inner().current.as_ref().filter(|current| current.run == run).map(|current| current.cancel.clone());
        if !waited && current.is_none() {
            return Ok(CallOff::TooLate);
        }
        let again = self.journal.state(run).await?.is_some_and(|state| state.called_off.is_some());
        if !again {
            let event = Event::RunCalledOff { by: Some(by.to_owned()), reason: reason.to_owned() };
            self.journal.append(run, Timestamp::now(), event).await?;
        }
        match current {
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
            let lab = queue.desk.lab_with(queue.journal.clone(), Settings::default(), queue.activity.clone(), never).await?;
            queue.desk.release(&lab, run, &by).await
        })
        .await
    }

    /// Works until it is stopped.
    pub async fn work(self: Arc<Self>) {
        let mut stopping = self.stopping.subscribe();
        while let Err(trouble) = self.perform(|queue| async move { queue.clean_up().await }).await {
            self.troubled(&trouble);
            if !pause(&mut stopping).await {
                return;
            }
        }
        self.inner().trouble = None;
        while let Some(run) = self.next(&mut stopping).await {
            let done = self.perform(move |queue| async move { queue.one(run).await }).await;
            match done {
                Ok(()) => self.forget(run),
                Err(error) if error.is_fault() => {
                    self.troubled(&error);
                    self.give_up(run, &error).await;
                    if !pause(&mut stopping).await {
                        return;
                    }
                    self.inner().trouble = None;
                }
                Err(error) => {
                    (self.desk.tell)(&format!("run {run} can't be worked on: {error}"));
                    self.give_up(run, &error).await;
                }
            }
        }
    }

    fn forget(&self, run: RunId) {
        let mut inner = self.inner();
        inner.current = None;
        inner.wishes.remove(&run);
        inner.tries.remove(&run);
    }

    /// The oldest that waits, made the current one; `None` once the worker is to stop.
    async fn next(&self, stopping: &mut watch::Receiver<bool>) -> Option<RunId> {
        loop {
            if *stopping.borrow() {
                return None;
            }
            {
                let mut inner = self.inner();
                if let Some(run) = inner.waiting.pop_front() {
                    inner.current = Some(Current { run, slots: 0, cancel: watch::channel(false).0 });
                    return Some(run);
                }
            }
            tokio::select! {
                () = self.wake.notified() => {}
                _ = stopping.wait_for(|stopping| *stopping) => return None,
            }
        }
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
            inner.current = None;
            inner.waiting.push_front(run);
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

    async fn clean_up(&self) -> Result<(), DeskError> {
        let never = watch::channel(false).1;
        let lab = self.desk.lab_with(self.journal.clone(), Settings::default(), self.activity.clone(), never).await?;
        self.desk.clean_up(&lab).await
    }

    async fn one(&self, run: RunId) -> Result<(), DeskError> {
        let Some(state) = self.journal.state(run).await?.filter(|state| !state.is_finished()) else { return Ok(()) };
        if state.called_off.is_some() {
            scheduler::end(&self.journal, run, Timestamp::now()).await?;
            return Ok(());
        }
        let cancelled = {
            let mut inner = self.inner();
            let Some(current) = &mut inner.current else { return Ok(()) };
            current.slots = slots(self.workers, &state.plan);
            current.cancel.subscribe()
        };
        // Whoever stopped before this run was the current one has not told it.
        if *self.stopping.borrow() {
            self.stop();
        }
        self.cells(&state, cancelled).await
    }

    async fn cells(&self, state: &RunState, cancelled: watch::Receiver<bool>) -> Result<(), DeskError> {
        let patch = self.desk.stored(&state.plan.patch.sha256.to_string())?;
        let Wish { keep_failed, cold, fresh_baselines } = self.wish(state.run);
        let settings = Settings { slots: slots(self.workers, &state.plan), keep_failed, cold, fresh_baselines };
        let lab = self.desk.lab_with(self.journal.clone(), settings, self.activity.clone(), cancelled).await?;
        // What an earlier try left of it.
        reaper::take_over(&lab, state).await?;
        let files = self.desk.files(&state.plan, &patch, &self.desk.catalog()?).await?;
        let state = self.desk.take(&lab, state.run).await?;
        self.desk.work(&lab, &state, files, &self.stopping.subscribe()).await?;
        Ok(())
    }
}

/// Waits before the next try. Returns false once the worker is to stop.
async fn pause(stopping: &mut watch::Receiver<bool>) -> bool {
    tokio::time::timeout(PAUSE, stopping.wait_for(|stopping| *stopping)).await.is_err()
}
