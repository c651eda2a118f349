//! Who writes: everything that waits goes to disk together, in one transaction, while the next ones gather behind it.
//!
//! Invariants: an entry is told of only once it is on disk; what is handed in together is written together or not at all, and what one
//! caller hands in is written in its order. A batch that fails, fails for each of its callers. Each runtime has a queue of its own, and a
//! thread that works while anybody in it waits, so that a paused clock (the simulator's) stands still meanwhile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use sqlx::SqlitePool;
use tokio::runtime::{Handle, Id};
use tokio::sync::{broadcast, oneshot};

use super::event::{Entry, Event};
use super::store::write_all;
use crate::id::RunId;

/// Entries that are written at once, unless one caller hands in more.
const MOST: usize = 2000;

type Written = Result<Vec<Entry>, Arc<sqlx::Error>>;

/// What one caller wants written.
struct Waiting {
    run: RunId,
    events: Vec<(Timestamp, Event)>,
    reply: oneshot::Sender<Written>,
}

/// The queues of a journal.
#[derive(Debug, Default)]
pub(super) struct Writer {
    /// A runtime is here while its thread works.
    queues: Mutex<HashMap<Id, Vec<Waiting>>>,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("run", &self.run).field("events", &self.events.len()).finish_non_exhaustive()
    }
}

impl Writer {
    pub(super) async fn write(
        self: &Arc<Self>,
        pool: &SqlitePool,
        watchers: &broadcast::Sender<Entry>,
        run: RunId,
        events: Vec<(Timestamp, Event)>,
    ) -> Written {
        let (reply, told) = oneshot::channel();
        let here = Handle::current();
        let waiting = Waiting { run, events, reply };
        let idle = match self.queues().entry(here.id()) {
            std::collections::hash_map::Entry::Occupied(mut queue) => {
                queue.get_mut().push(waiting);
                false
            }
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(vec![waiting]);
                true
            }
        };
        if idle {
            let shift = Shift { writer: self.clone(), of: here.id(), over: false };
            let (pool, watchers) = (pool.clone(), watchers.clone());
            here.clone().spawn_blocking(move || here.block_on(shift.work(&pool, &watchers)));
        }
        told.await.unwrap_or_else(|gone| Err(Arc::new(sqlx::Error::Io(std::io::Error::other(gone)))))
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<Id, Vec<Waiting>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread's time at the queue of its runtime. However it ends, nobody is left waiting behind it.
struct Shift {
    writer: Arc<Writer>,
    of: Id,
    /// The queue is no longer this thread's.
    over: bool,
}

impl Drop for Shift {
    fn drop(&mut self) {
        if !self.over {
            self.writer.queues().remove(&self.of);
        }
    }
}

impl Shift {
    async fn work(mut self, pool: &SqlitePool, watchers: &broadcast::Sender<Entry>) {
        while let Some(batch) = self.next() {
            let (wanted, replies): (Vec<_>, Vec<_>) = batch.into_iter().map(|one| ((one.run, one.events), one.reply)).unzip();
            let counts: Vec<usize> = wanted.iter().map(|(_, events)| events.len()).collect();
            match write_all(pool, wanted).await {
                Ok(entries) => {
                    if watchers.receiver_count() > 0 {
                        for entry in &entries {
                            // Nobody watching is no error.
                            let _ = watchers.send(entry.clone());
                        }
                    }
                    let mut entries = entries.into_iter();
                    for (reply, count) in replies.into_iter().zip(counts) {
                        // A caller that went away needs no answer.
                        let _ = reply.send(Ok(entries.by_ref().take(count).collect()));
                    }
                }
                Err(error) => {
                    let error = Arc::new(error);
                    for reply in replies {
                        let _ = reply.send(Err(error.clone()));
                    }
                }
            }
        }
    }

    /// Those that are next; when there are none, the shift is over.
    fn next(&mut self) -> Option<Vec<Waiting>> {
        let mut queues = self.writer.queues();
        let queue = queues.get_mut(&self.of)?;
        let mut entries = 0;
        let mut fits = |one: &Waiting| {
            entries += one.events.len();
            entries <= MOST
        };
        let count = queue.iter().take_while(|one| fits(one)).count().max(1).min(queue.len());
        if count == 0 {
            queues.remove(&self.of);
            self.over = true;
            return None;
        }
        Some(queue.drain(..count).collect())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use crate::cell::Stage;
    use crate::id::RunId;
    use crate::journal::{Event, Journal};
    use jiff::Timestamp;

    const CALLERS: u8 = 40;

    fn run(number: u8) -> RunId {
        RunId::from_parts(1, [number; 10])
    }

    fn began(stage: Stage) -> Event {
        Event::StageStarted { cell: "acme.web@virtio-bios".parse().expect("a cell"), stage }
    }

    async fn journal() -> (tempfile::TempDir, Journal) {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::open(&folder.path().join("journal.sqlite")).await.expect("a journal");
        (folder, journal)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn callers_at_once_each_find_their_own_in_their_order() {
        let (_folder, journal) = journal().await;
        let mut watch = journal.watch();
        let caller = |number| {
            let journal = journal.clone();
            tokio::spawn(async move {
                for stage in Stage::ALL {
                    let entry = journal.append(run(number), Timestamp::UNIX_EPOCH, began(stage)).await.expect("appended");
                    assert_eq!((entry.run, entry.event), (Some(run(number)), began(stage)));
                }
                let both = [Stage::Boot, Stage::Apply].map(|stage| (Timestamp::UNIX_EPOCH, began(stage)));
                let both = journal.append_all(run(number), both.into()).await.expect("appended");
                assert_eq!(both.iter().map(|entry| entry.seq - both[0].seq).collect::<Vec<_>>(), [0, 1]);
            })
        };
        for ended in join_all((0..CALLERS).map(caller)).await {
            ended.expect("no caller panicked");
        }
        let each = Stage::ALL.len() + 2;
        for number in 0..CALLERS {
            let entries = journal.entries(run(number)).await.expect("entries");
            let expected: Vec<Event> = Stage::ALL.into_iter().chain([Stage::Boot, Stage::Apply]).map(began).collect();
            assert_eq!(entries.into_iter().map(|entry| entry.event).collect::<Vec<_>>(), expected);
        }
        assert_eq!(journal.verify().await.expect("a sound chain").entries, u64::from(CALLERS) * each as u64);
        for seq in 1..=u64::from(CALLERS) * each as u64 {
            assert_eq!(watch.recv().await.expect("told").seq, seq, "watchers hear of each, in order");
        }
    }

    #[tokio::test]
    async fn a_batch_that_fails_fails_for_each_caller_and_leaves_nothing() {
        let (_folder, journal) = journal().await;
        journal.append(run(1), Timestamp::UNIX_EPOCH, began(Stage::Boot)).await.expect("appended");
        let spoil = "create trigger full before insert on entries when new.seq = 6 begin select raise(abort, 'no room'); end";
        sqlx::raw_sql(spoil).execute(&journal.pool()).await.expect("spoilt");
        let calls = (0..CALLERS).map(|number| journal.append(run(number), Timestamp::UNIX_EPOCH, began(Stage::Apply)));
        let refused = join_all(calls).await.into_iter().filter(|one| matches!(one, Err(error) if error.to_string().contains("no room")));
        assert!(refused.count() >= usize::from(CALLERS) - 4);
        let written = journal.head().await.expect("a head");
        let many = (0..6).map(|_| (Timestamp::UNIX_EPOCH, began(Stage::Suites))).collect();
        journal.append_all(run(2), many).await.expect_err("refused");
        assert_eq!(journal.head().await.expect("a head"), written, "all of them or none");
        sqlx::raw_sql("drop trigger full").execute(&journal.pool()).await.expect("mended");
        journal.append(run(1), Timestamp::UNIX_EPOCH, began(Stage::Suites)).await.expect("appended");
        assert_eq!(journal.verify().await.expect("a sound chain").entries, written + 1);
    }

    #[test]
    fn runtimes_come_and_go_and_none_waits_for_another() {
        let folder = tempfile::tempdir().expect("a folder");
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let lasting = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let journal = lasting.block_on(Journal::open(&folder.path().join("journal.sqlite"))).expect("a journal");
        let append = |journal: Journal| async move { journal.append(run(1), Timestamp::UNIX_EPOCH, began(Stage::Boot)).await.map(|_| ()) };
        for _ in 0..20 {
            let passing = journal.clone();
            let other = std::thread::spawn(move || runtime().block_on(append(passing)));
            lasting.block_on(append(journal.clone())).expect("appended");
            other.join().expect("no panic").expect("appended");
        }
        assert_eq!(lasting.block_on(journal.verify()).expect("a sound chain").entries, 40);
    }
}
