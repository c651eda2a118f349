//! The board: how each decision stands, remembered, so that who asks again is answered from memory.
//!
//! Invariants: an answer is given from memory only if nothing was written to the journal since that could change it, by whichever process;
//! its `until` has not passed; the clock was not put back since; and the catalog is the one that it was made with. What is not so is
//! decided anew, by the gate. An answer's bytes are those of the decision on record, so that the same tag always means the same bytes, also
//! after a restart.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use super::answer::Answer;
use super::ground::{Candidates, Ground, Grounds};
use super::row::Row;
use crate::api::Problem;
use crate::api::stamp::{Stamp, Watched};
use crate::id::{Digest, Name};
use crate::journal::news::{About, News};
use crate::journal::{Event, Journal, JournalError, Record};
use crate::lab::desk::Desk;
use crate::lab::gate::Gate;
use crate::verdict::gate::{Decision, Status};

/// A patch and a customer.
pub type Key = (Digest, Name);

/// Bytes of answers that are remembered.
const MOST: usize = 24 << 20;
/// How often a decision is made before it is given, where the journal does not come to rest.
const TRIES: u32 = 3;
/// Decisions that are made at once.
const LANES: usize = 8;

#[derive(Default)]
struct Place {
    row: Option<Row>,
    answer: Option<Arc<Answer>>,
    /// The last entry that may change the decision.
    touched: u64,
    /// The entry up to which the journal was read when it was decided last, or tried to be.
    settled: u64,
    /// The catalog that it was held to last; 0 for none since the start.
    generation: u64,
    /// By that catalog the gate gives no decision, so that there is none to show.
    refused: bool,
}

#[derive(Default)]
struct Inner {
    /// The entry up to which the journal was read.
    seq: u64,
    stamp: Option<Stamp>,
    places: BTreeMap<Key, Place>,
    /// Bytes of remembered answers.
    bytes: usize,
}

/// How many answers came from where.
#[derive(Default)]
pub struct Counts {
    pub remembered: AtomicU64,
    pub decided: AtomicU64,
}

pub struct Board {
    pub desk: Arc<Desk>,
    pub journal: Journal,
    pub(in crate::api) gate: Gate,
    pub grounds: Grounds,
    pub candidates: Candidates,
    pub counts: Counts,
    /// The file that every commit writes to.
    commits: Watched,
    inner: Mutex<Inner>,
    reading: tokio::sync::Mutex<()>,
    lanes: [tokio::sync::Mutex<()>; LANES],
    changed: watch::Sender<u64>,
    asked: AtomicU64,
}

impl Board {
    /// The board of a journal. Nothing is decided before somebody asks, or [`Board::keep`] does.
    ///
    /// # Errors
    /// When the journal or the webhooks can't be read.
    pub async fn open(desk: Arc<Desk>, journal: Journal) -> Result<Self, crate::lab::desk::DeskError> {
        let mut inner = Inner { seq: journal.head().await?, ..Inner::default() };
        for scope in journal.scopes().await? {
            inner.places.entry((scope.patch, scope.customer)).or_default().touched = scope.touched;
        }
        let mut after = 0;
        loop {
            let entries = journal.last_decisions(after).await?;
            let Some(last) = entries.last() else { break };
            after = last.seq;
            for entry in entries {
                let seq = entry.seq;
                if let Event::Recorded { record } = entry.event
                    && let Record::Decided { decision } = *record
                    && let Some(place) = inner.places.get_mut(&(decision.patch.sha256, decision.customer.clone()))
                {
                    place.row = Some(Row::of(&decision, seq));
                    place.settled = seq;
                }
            }
        }
        for entry in journal.records_of_kind("patch-added").await? {
            if let Event::Recorded { record } = &entry.event
                && let Record::PatchAdded { patch, id, supersedes, .. } = &**record
            {
                inner.touch_ids(*patch, |known| known == id || supersedes.contains(known), entry.seq);
            }
        }
        if let Some(entry) = journal.records_of_kind(Record::CLOCK_PUT_BACK).await?.last() {
            inner.touch_all(entry.seq);
        }
        Ok(Self {
            gate: desk.gate(journal.clone())?,
            grounds: Grounds::default(),
            candidates: Candidates::of(&desk),
            counts: Counts::default(),
            commits: Watched::new(&journal.commits()),
            inner: Mutex::new(inner),
            reading: tokio::sync::Mutex::default(),
            lanes: Default::default(),
            changed: watch::channel(0).0,
            asked: AtomicU64::default(),
            desk,
            journal,
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at its files by their names again.
    pub(super) fn look_again(&self) {
        self.commits.again();
        self.candidates.folder.again();
    }

    /// Turns to another number whenever a decision becomes another.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The decision as it is now.
    ///
    /// # Errors
    /// When the gate gives none.
    pub async fn current(&self, key: &Key, by: &str) -> Result<Arc<Answer>, Problem> {
        self.sync().await?;
        if let Some(answer) = self.remembered(key) {
            return Ok(answer);
        }
        // Apart, so that what is seldom needed takes no room in the future of whoever is answered from memory.
        Box::pin(self.decide(key, by)).await
    }

    /// The decision as it is now, if it is remembered and nothing was written since.
    pub(super) fn at_hand(&self, key: &Key) -> Option<Arc<Answer>> {
        self.is_unchanged().then(|| self.remembered(key))?
    }

    /// Has everybody who waits look again.
    pub fn stir(&self) {
        self.changed.send_modify(|number| *number = number.wrapping_add(1));
    }

    fn remembered(&self, key: &Key) -> Option<Arc<Answer>> {
        let generation = self.grounds.generation()?;
        let inner = self.inner();
        let place = inner.places.get(key)?;
        let answer = place.answer.as_ref()?;
        let holds = place.touched <= answer.read && answer.generation == generation && answer.holds(Timestamp::now());
        holds.then(|| {
            self.counts.remembered.fetch_add(1, Ordering::Relaxed);
            answer.used.store(self.asked.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
            answer.clone()
        })
    }

    fn is_unchanged(&self) -> bool {
        // The look at the file takes a moment, in which nobody is to wait for the lock.
        let known = self.inner().stamp;
        known.is_some_and(|known| self.commits.stamp() == Some(known))
    }

    /// Learns what was written to the journal since, by whomever.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub async fn sync(&self) -> Result<(), JournalError> {
        if self.is_unchanged() {
            return Ok(());
        }
        Box::pin(self.read()).await
    }

    async fn read(&self) -> Result<(), JournalError> {
        let _one_at_a_time = self.reading.lock().await;
        if self.is_unchanged() {
            return Ok(());
        }
        // First the stamp, then the reading: what is written between is read twice rather than never.
        let stamp = self.commits.stamp().and_then(Stamp::settled);
        let seq = self.inner().seq;
        let (last, news) = self.journal.news_after(seq).await?;
        let mut inner = self.inner();
        news.into_iter().for_each(|one| inner.take(one));
        inner.seq = last;
        inner.stamp = stamp;
        Ok(())
    }

    /// Whoever decides about this is alone with it.
    async fn lane(&self, key: &Key) -> Result<tokio::sync::MutexGuard<'_, ()>, Problem> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        match self.lanes.get((hasher.finish() % LANES as u64) as usize) {
            Some(lane) => Ok(lane.lock().await),
            None => Err(Problem::fault("there is no lane for this decision")),
        }
    }

    /// Asks the gate, by what catalog and images are now.
    async fn decide(&self, key: &Key, by: &str) -> Result<Arc<Answer>, Problem> {
        let _one_at_a_time = self.lane(key).await?;
        // Somebody else may have asked meanwhile.
        if let Some(answer) = self.remembered(key) {
            return Ok(answer);
        }
        let ground = self.grounds.get()?;
        let mut tries = 0;
        let (decision, read) = loop {
            let read = self.inner().seq;
            let asked = self.put(key, &ground, by).await;
            // What can't be decided is not answered from memory either.
            let decision = asked.inspect_err(|_| {
                self.inner().forget(key);
            })?;
            // The gate puts on record what it decides, which is news too.
            self.sync().await?;
            tries += 1;
            if tries >= TRIES || self.inner().places.get(key).is_none_or(|place| place.touched <= read) {
                break (decision, read);
            }
        };
        let answer = Arc::new(Answer::of(&decision, Timestamp::now(), read, ground.generation)?);
        self.counts.decided.fetch_add(1, Ordering::Relaxed);
        let mut inner = self.inner();
        let before = inner.forget(key);
        let place = inner.places.entry(key.clone()).or_default();
        place.settled = place.settled.max(read);
        (place.generation, place.refused) = (ground.generation, false);
        let seq = place.row.as_ref().map_or(read + 1, |row| row.seq);
        place.row = Some(Row::of(&decision, seq));
        let news = before.is_none_or(|before| before.tag != answer.tag);
        place.answer = Some(answer.clone());
        inner.bytes += answer.body.len();
        answer.used.store(self.asked.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        inner.make_room();
        drop(inner);
        if news {
            self.stir();
        }
        Ok(answer)
    }

    async fn put(&self, key: &Key, ground: &Ground, by: &str) -> Result<Decision, Problem> {
        self.hold(key, ground, by).await?;
        let (patch, customer) = key;
        Ok(self.gate.stand(*patch, customer, Timestamp::now()).await?)
    }

    /// Holds a patch to what the catalog asks for.
    async fn hold(&self, (patch, customer): &Key, ground: &Ground, by: &str) -> Result<(), Problem> {
        let patch = self.candidates.planned(&self.desk, *patch).await?;
        Ok(self.desk.require(&self.gate, &patch, customer, (&ground.catalog, &ground.images), by).await?)
    }

    /// Holds the patches to the catalog as it is now, as if somebody asked, for about so long: what was held to another is left behind until
    /// its turn comes. Where something else is required than before, that is news, and [`Board::settle`] decides.
    pub async fn adapt(&self, within: Duration) {
        let Ok(ground) = self.grounds.get() else { return };
        let end = Instant::now() + within;
        while let Some(key) = self.behind(ground.generation) {
            let Ok(_one_at_a_time) = self.lane(&key).await else { return };
            let held = self.hold(&key, &ground, "server").await;
            let refused = match &held {
                Ok(()) => false,
                // What lets the lab down now may not do so the next time.
                Err(problem) if problem.status().is_server_error() => return,
                Err(problem) => {
                    tracing::debug!(patch = %key.0, customer = %key.1, problem = problem.detail(), "no decision by this catalog");
                    true
                }
            };
            if let Some(place) = self.inner().places.get_mut(&key) {
                (place.generation, place.refused) = (ground.generation, refused);
            }
            if Instant::now() >= end {
                return;
            }
        }
    }

    /// One that was held to an older catalog than this. What is over does not come back by a catalog alone.
    fn behind(&self, generation: u64) -> Option<Key> {
        let inner = self.inner();
        let live = |row: &Row| !matches!(row.status, Status::Superseded | Status::Expired);
        let behind = |place: &Place| place.generation < generation && place.row.as_ref().is_some_and(live);
        inner.places.iter().find(|(_, place)| behind(place)).map(|(key, _)| key.clone())
    }

    /// What has to be decided anew although nobody asks: the journal or the time has moved on.
    fn stale(&self) -> Vec<Key> {
        let now = Timestamp::now();
        let inner = self.inner();
        let due = |row: &Row| row.until.is_some_and(|until| until <= now);
        let put_back = |answer: &Arc<Answer>| answer.was_ahead(now);
        let stale = |place: &Place| {
            place.touched > place.settled || place.row.as_ref().is_none_or(due) || place.answer.as_ref().is_some_and(put_back)
        };
        inner.places.iter().filter(|(_, place)| stale(place)).map(|(key, _)| key.clone()).collect()
    }

    /// Decides anew what has to be.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub async fn settle(&self) -> Result<(), JournalError> {
        self.sync().await?;
        if self.grounds.generation().is_none() {
            return Ok(());
        }
        for key in self.stale() {
            if let Err(problem) = self.decide(&key, "server").await {
                tracing::debug!(patch = %key.0, customer = %key.1, problem = problem.detail(), "no decision");
                // What lets the lab down now may not do so the next time.
                if !problem.status().is_server_error() {
                    self.inner().give_up(&key);
                }
            }
        }
        Ok(())
    }

    /// Rows for which `fits` says so, as they stand at a moment, the newest first.
    pub fn rows(&self, now: Timestamp, fits: impl Fn(&Row) -> bool) -> Vec<Row> {
        let mut rows = self.inner().rows(now, fits);
        rows.sort_by(|one, other| (other.seq, one.sha256, &one.customer).cmp(&(one.seq, other.sha256, &other.customer)));
        rows
    }

    /// How many decisions there are of each status at a moment.
    pub fn statuses(&self, now: Timestamp) -> BTreeMap<Status, usize> {
        self.inner().statuses(now)
    }
}

impl Inner {
    fn shown(&self) -> impl Iterator<Item = &Row> {
        self.places.values().filter(|place| !place.refused).filter_map(|place| place.row.as_ref())
    }

    fn rows(&self, now: Timestamp, fits: impl Fn(&Row) -> bool) -> Vec<Row> {
        self.shown().filter(|row| fits(row)).map(|row| row.clone().at(now)).collect()
    }

    fn statuses(&self, now: Timestamp) -> BTreeMap<Status, usize> {
        let mut counts: BTreeMap<Status, usize> = Status::ALL.into_iter().map(|status| (status, 0)).collect();
        for row in self.shown() {
            *counts.entry(row.status_at(now)).or_default() += 1;
        }
        counts
    }

    fn take(&mut self, News { seq, about }: News) {
        match about {
            About::Scope(patch, customer) => {
                let place = self.places.entry((patch, customer)).or_default();
                place.touched = place.touched.max(seq);
            }
            About::Patch(patch) => self.touch(&patch, seq),
            About::All => self.touch_all(seq),
            About::Planned(patch, customers) => {
                // The gate is asked about whatever is tried.
                customers.into_iter().for_each(|customer| {
                    self.places.entry((patch, customer)).or_default();
                });
                self.touch(&patch, seq);
            }
            About::Added(patch, ids) => self.touch_ids(patch, |id| ids.contains(id), seq),
            About::Decided(decision) => {
                let place = self.places.entry((decision.patch.sha256, decision.customer.clone())).or_default();
                // One that is known already was made here.
                let known = place.row.as_ref().is_some_and(|row| row.revision == decision.revision && row.as_of == decision.as_of);
                if !known {
                    place.touched = place.touched.max(seq);
                }
                place.row = Some(Row::of(&decision, seq));
            }
        }
    }

    fn touch(&mut self, patch: &Digest, seq: u64) {
        for (_, place) in self.places.iter_mut().filter(|((one, _), _)| one == patch) {
            place.touched = place.touched.max(seq);
        }
    }

    fn touch_all(&mut self, seq: u64) {
        self.places.values_mut().for_each(|place| place.touched = place.touched.max(seq));
    }

    fn touch_ids(&mut self, patch: Digest, means: impl Fn(&Name) -> bool, seq: u64) {
        for ((one, _), place) in &mut self.places {
            // Of one that was not decided about yet the id is not known.
            if *one == patch || place.row.as_ref().is_none_or(|row| means(&row.id)) {
                place.touched = place.touched.max(seq);
            }
        }
    }

    fn forget(&mut self, key: &Key) -> Option<Arc<Answer>> {
        let answer = self.places.get_mut(key).and_then(|place| place.answer.take())?;
        self.bytes -= answer.body.len();
        Some(answer)
    }

    /// A decision that can't be made is none, until somebody asks or something is written about it.
    fn give_up(&mut self, key: &Key) {
        self.forget(key);
        self.places.remove(key);
    }

    /// Forgets the half that was not asked for the longest, when there is too much.
    fn make_room(&mut self) {
        if self.bytes <= MOST {
            return;
        }
        let used = |place: &Place| place.answer.as_ref().map(|answer| answer.used.load(Ordering::Relaxed));
        let mut times: Vec<(u64, Key)> = self.places.iter().filter_map(|(key, place)| Some((used(place)?, key.clone()))).collect();
        times.sort();
        let half = times.len() / 2;
        for (_, key) in times.into_iter().take(half) {
            self.forget(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::decisions::row::tests::decision;

    #[test]
    fn what_is_over_is_listed_and_counted_as_over() {
        let over: Timestamp = "2026-03-02T00:00:00Z".parse().expect("a moment");
        let before = over.checked_sub(jiff::SignedDuration::from_nanos(1)).expect("a moment");
        for (status, then) in [(Status::Approved, Status::Expired), (Status::Pending, Status::Inconclusive)] {
            let mut inner = Inner::default();
            let decision = decision(status.as_str(), &[]);
            let place = Place { row: Some(Row::of(&decision, 1)), ..Place::default() };
            inner.places.insert((decision.patch.sha256, decision.customer), place);
            for (now, expected) in [(before, status), (over, then)] {
                assert_eq!(inner.rows(now, |_| true)[0].status, expected);
                assert_eq!(inner.statuses(now).into_iter().filter(|(_, count)| *count > 0).collect::<Vec<_>>(), [(expected, 1)]);
            }
        }
    }
}
