//! The journal's store: one SQLite file, append-only and hash-chained.
//!
//! Invariants: entries are numbered without gaps; each carries the hash of the one before; an entry that `append` returned is on
//! disk (WAL with full synchronisation). Triggers refuse to change or remove one. What waits to be appended is written together, see
//! [`super::writer`].

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous};
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection, SqlitePool};
use thiserror::Error;
use tokio::sync::broadcast;

use super::event::{Entry, Event, VERSION};
use super::fold::{BadHistory, RunState};
use super::projection::{self, Afresh, Message};
use super::record::Record;
use super::writer::Writer;
use crate::id::{Digest, RunId};

const SCHEMA: &str = "
    create table if not exists entries (
        seq integer primary key, version integer not null, at text not null, run text not null,
        event text not null, previous text not null, hash text not null);
    create index if not exists entries_by_run on entries (run, seq);
    create trigger if not exists entries_stay before update on entries begin select raise(abort, 'the journal is append-only'); end;
    create trigger if not exists entries_remain before delete on entries begin select raise(abort, 'the journal is append-only'); end;
";

/// Entries that are read at once where all are.
const BATCH: u32 = 1000;
/// Entries that one statement writes at the most.
const AT_ONCE: usize = 32;

/// A journal that is what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    pub entries: u64,
    /// The last one's hash. Whoever has written it down elsewhere knows later that nothing was cut off.
    pub last: Digest,
}

/// The journal could not be read or written, or is not what it was when it was written.
#[derive(Debug, Error)]
pub enum JournalError {
    #[error("could not {tried} the journal {}: {source}", path.display())]
    Store { tried: &'static str, path: PathBuf, source: Arc<sqlx::Error> },
    #[error("journal {}, entry {seq}: {found}; the journal was damaged or altered: restore it from a backup", path.display())]
    Altered { path: PathBuf, seq: u64, found: String },
    #[error(
        "journal {}, entry {seq}: as it was written, but this patchlab ({}) does not know all of its form ({found}): use the patchlab that \
         wrote it, or a newer one",
        path.display(),
        env!("CARGO_PKG_VERSION")
    )]
    Unknown { path: PathBuf, seq: u64, found: String },
    #[error(transparent)]
    History(#[from] BadHistory),
}

impl JournalError {
    /// What the reader can do about it, where the error does not say so itself.
    pub fn hint(&self) -> Option<&'static str> {
        let Self::Store { source, .. } = self else { return None };
        let code = source.as_database_error()?.code()?.parse::<u32>().ok()?;
        // SQLite's primary result codes; the extended ones add to them from bit 8 on.
        match code & 0xff {
            5 | 6 => Some("another program holds it: end that, or run again when it is done"),
            8 => Some("make the state folder and the journal in it writable"),
            10 | 13 => Some("make room on its disk and see that the disk is sound, then run the same command again"),
            11 | 26 => Some("it was damaged: restore it from a backup, or move it away to begin without a history"),
            14 => Some("it must be a file that may be read and written, in a folder that may be written to"),
            _ => None,
        }
    }
}

/// An open journal. Clones share one connection pool.
#[derive(Clone, Debug)]
pub struct Journal {
    path: PathBuf,
    pool: SqlitePool,
    writer: Arc<Writer>,
    watchers: broadcast::Sender<Entry>,
}

impl Journal {
    /// Opens the journal at `path` and makes it if there is none. It holds what guests said: a new one is its owner's alone.
    ///
    /// # Errors
    /// When the file is not a journal or cannot be opened.
    pub async fn open(path: &Path) -> Result<Self, JournalError> {
        let failed = |source| JournalError::Store { tried: "open", path: path.to_owned(), source: Arc::new(source) };
        // SQLite gives its other files the mode of this one.
        let made = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        made.map_err(|error| failed(sqlx::Error::Io(error)))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(30));
        let pool = apart(async {
            let pool = SqlitePoolOptions::new().max_connections(1).acquire_timeout(Duration::from_secs(60)).connect_with(options).await?;
            sqlx::raw_sql(SCHEMA).execute(&pool).await?;
            projection::prepare(&pool).await?;
            Ok(pool)
        });
        let pool = pool.await.map_err(failed)?;
        Ok(Self { path: path.to_owned(), pool, writer: Arc::default(), watchers: broadcast::channel(4096).0 })
    }

    /// Writes one event and returns it as an entry once it is on disk.
    ///
    /// # Errors
    /// When the store cannot take it. Nothing is written then.
    pub async fn append(&self, run: RunId, at: Timestamp, event: Event) -> Result<Entry, JournalError> {
        let entries = self.append_all(run, vec![(at, event)]).await?;
        let lost = || JournalError::Store { tried: "append to", path: self.path.clone(), source: Arc::new(sqlx::Error::RowNotFound) };
        entries.into_iter().next().ok_or_else(lost)
    }

    /// Writes a run's events, all of them or none, and returns them as entries once they are on disk.
    ///
    /// # Errors
    /// When the store cannot take them. Nothing is written then.
    pub async fn append_all(&self, run: RunId, events: Vec<(Timestamp, Event)>) -> Result<Vec<Entry>, JournalError> {
        let written = self.writer.write(&self.pool, &self.watchers, run, events).await;
        written.map_err(|source| JournalError::Store { tried: "append to", path: self.path.clone(), source })
    }

    /// Puts records on record, and messages into the outbox, all of them or none. With `after`, only if nothing that decisions rest on
    /// was written behind that entry; else nothing is written and there is no answer.
    ///
    /// Their moments are later than every one in the journal: a clock that was put back puts no record before what it answers to.
    ///
    /// # Errors
    /// When the store cannot take them. Nothing is written then.
    pub async fn append_with(
        &self,
        after: Option<u64>,
        at: Timestamp,
        records: Vec<Record>,
        messages: Vec<Message>,
    ) -> Result<Option<Vec<Entry>>, JournalError> {
        let pool = self.pool.clone();
        let appended = apart(async move {
            let mut writing = pool.begin_with("begin immediate").await?;
            if let Some(after) = after
                && projection::moved(&mut writing, after).await?
            {
                return Ok(None);
            }
            let mut entries = Vec::new();
            for record in records {
                let latest = projection::latest(&mut writing).await?;
                let at = latest.and_then(|latest| latest.checked_add(SignedDuration::from_nanos(1)).ok()).map_or(at, |next| next.max(at));
                entries.extend(write(&mut writing, vec![(None, at, Event::Recorded { record: Box::new(record) })]).await?);
            }
            let entry = entries.last().map_or(0, |entry| entry.seq);
            for message in &messages {
                projection::post(&mut writing, entry, message).await?;
            }
            writing.commit().await?;
            Ok(Some(entries))
        });
        let failed = |source| JournalError::Store { tried: "append to", path: self.path.clone(), source: Arc::new(source) };
        let entries = appended.await.map_err(failed)?;
        for entry in entries.iter().flatten() {
            // Nobody watching is no error.
            let _ = self.watchers.send(entry.clone());
        }
        Ok(entries)
    }

    /// The number of the last entry; 0 when there is none.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn head(&self) -> Result<u64, JournalError> {
        let rows = self.rows(sqlx::query("select coalesce(max(seq), 0) as head from entries")).await?;
        let head = rows.first().map_or(Ok(0), |row| row.try_get::<i64, _>("head")).map_err(|source| self.unreadable(source))?;
        Ok(head.unsigned_abs())
    }

    /// What is appended from now on.
    pub fn watch(&self) -> broadcast::Receiver<Entry> {
        self.watchers.subscribe()
    }

    /// One run's entries, in order.
    ///
    /// # Errors
    /// When the store cannot be read or an entry's hash is not its own.
    pub async fn entries(&self, run: RunId) -> Result<Vec<Entry>, JournalError> {
        let query = sqlx::query("select * from entries where run = ? order by seq").bind(run.to_string());
        let rows = self.rows(query).await?;
        rows.iter().map(|row| self.entry(row)).collect()
    }

    /// One run's state, `None` when the journal has no such run.
    ///
    /// # Errors
    /// As [`Journal::entries`], and when the entries cannot be a run's history.
    pub async fn state(&self, run: RunId) -> Result<Option<RunState>, JournalError> {
        Ok(RunState::fold(&self.entries(run).await?)?)
    }

    /// Every run, the newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn runs(&self) -> Result<Vec<RunId>, JournalError> {
        let rows =
            self.rows(sqlx::query("select run, min(seq) as first from entries where run <> '' group by run order by first desc")).await?;
        rows.iter()
            .map(|row| {
                let text: String = row.try_get("run").map_err(|source| self.unreadable(source))?;
                text.parse().map_err(|bad| JournalError::Altered { path: self.path.clone(), seq: 0, found: format!("{bad}") })
            })
            .collect()
    }

    /// Reads every entry, checks the chain, and that the lists beside it follow from it.
    ///
    /// # Errors
    /// At the first entry that is missing, was altered or does not follow from the one before.
    pub async fn verify(&self) -> Result<Chain, JournalError> {
        let journal = self.clone();
        let verified = apart(async move {
            // What others write meanwhile is not seen: it is looked at one moment's journal.
            let mut reading = journal.pool.begin().await?;
            journal.follow(&mut reading).await
        });
        verified.await.map_err(|source| self.unreadable(source))?
    }

    async fn follow(&self, on: &mut SqliteConnection) -> Result<Result<Chain, JournalError>, sqlx::Error> {
        let mut chain = Chain { entries: 0, last: Digest::from_bytes([0; 32]) };
        let mut lists = Afresh::new().await?;
        let altered = |seq: u64, found: String| Ok(Err(JournalError::Altered { path: self.path.clone(), seq, found }));
        loop {
            let query = sqlx::query("select * from entries where seq > ? order by seq limit ?").bind(chain.entries as i64).bind(BATCH);
            let rows = query.fetch_all(&mut *on).await?;
            if rows.is_empty() {
                break;
            }
            for row in &rows {
                let entry = match self.entry(row) {
                    Ok(entry) => entry,
                    Err(error) => return Ok(Err(error)),
                };
                if entry.seq != chain.entries + 1 {
                    return altered(entry.seq, format!("expected entry {} here", chain.entries + 1));
                }
                if entry.previous != chain.last {
                    return altered(entry.seq, "it does not follow from the entry before it".to_owned());
                }
                chain = Chain { entries: entry.seq, last: entry.hash };
                lists.take(&entry).await?;
            }
        }
        match lists.differs(on).await? {
            Some(list) => altered(chain.entries, format!("the list of {list} does not follow from the entries")),
            None => Ok(Ok(chain)),
        }
    }

    pub(super) async fn rows(&self, query: Query<'static, Sqlite, SqliteArguments>) -> Result<Vec<SqliteRow>, JournalError> {
        let pool = self.pool.clone();
        apart(async move { query.fetch_all(&pool).await }).await.map_err(|source| self.unreadable(source))
    }

    pub(super) fn file(&self) -> &Path {
        &self.path
    }

    pub(super) fn pool(&self) -> SqlitePool {
        self.pool.clone()
    }

    pub(super) fn unwritable(&self, source: sqlx::Error) -> JournalError {
        JournalError::Store { tried: "write to", path: self.path.clone(), source: Arc::new(source) }
    }

    pub(super) fn unreadable(&self, source: sqlx::Error) -> JournalError {
        JournalError::Store { tried: "read", path: self.path.clone(), source: Arc::new(source) }
    }

    pub(super) fn entry(&self, row: &SqliteRow) -> Result<Entry, JournalError> {
        let seq: i64 = row.try_get("seq").map_err(|source| self.unreadable(source))?;
        let altered = |found: String| JournalError::Altered { path: self.path.clone(), seq: seq.unsigned_abs(), found };
        let text = |column: &str| row.try_get::<String, _>(column).map_err(|source| self.unreadable(source));
        let version: u32 = row.try_get("version").map_err(|source| self.unreadable(source))?;
        let (at, run, event) = (text("at")?, text("run")?, text("event")?);
        let entry = Written { seq: seq.unsigned_abs(), version, at: &at, run: &run, event: &event, previous: &text("previous")? };
        let hash = parse(&text("hash")?).map_err(altered)?;
        if entry.hash() != hash {
            return Err(altered("its contents do not have its hash".to_owned()));
        }
        let unknown = |found: String| JournalError::Unknown { path: self.path.clone(), seq: entry.seq, found };
        if version != VERSION {
            return Err(unknown(format!("version {version}, expected version {VERSION}")));
        }
        Ok(Entry {
            seq: entry.seq,
            version,
            at: parse(&at).map_err(unknown)?,
            run: Some(run.as_str()).filter(|run| !run.is_empty()).map(parse).transpose().map_err(unknown)?,
            event: serde_json::from_str(&event).map_err(|bad| unknown(bad.to_string()))?,
            previous: parse(entry.previous).map_err(unknown)?,
            hash,
        })
    }
}

/// Does work on a thread of its own, so that a paused clock (the simulator's) stands still until it is done.
pub(super) async fn apart<T: Send + 'static>(
    work: impl Future<Output = Result<T, sqlx::Error>> + Send + 'static,
) -> Result<T, sqlx::Error> {
    let handle = tokio::runtime::Handle::current();
    let done = tokio::task::spawn_blocking(move || handle.block_on(work)).await;
    done.unwrap_or_else(|ended| Err(sqlx::Error::Io(std::io::Error::other(ended))))
}

fn parse<T: FromStr>(text: &str) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|bad: T::Err| bad.to_string())
}

/// An entry in the words in which it is stored.
struct Written<'a> {
    seq: u64,
    version: u32,
    at: &'a str,
    /// Empty for a record.
    run: &'a str,
    event: &'a str,
    previous: &'a str,
}

impl Written<'_> {
    /// The hash: over everything but itself, as a JSON array.
    fn hash(&self) -> Digest {
        let Self { seq, version, at, run, event, previous } = self;
        let run = if run.is_empty() { "null".to_owned() } else { format!("\"{run}\"") };
        Digest::of(format!("[{seq},{version},\"{at}\",{run},{event},\"{previous}\"]"))
    }
}

/// Writes what several callers hand in, in one transaction.
pub(super) async fn write_all(pool: &SqlitePool, wanted: Vec<(RunId, Vec<(Timestamp, Event)>)>) -> Result<Vec<Entry>, sqlx::Error> {
    let one = |run: RunId| move |(at, event): (Timestamp, Event)| (Some(run), at, event);
    let events = wanted.into_iter().flat_map(|(run, events)| events.into_iter().map(one(run))).collect();
    let mut writing = pool.begin_with("begin immediate").await?;
    let entries = write(&mut writing, events).await?;
    writing.commit().await?;
    Ok(entries)
}

/// Writes events as the next entries, and what follows from them for the lists.
async fn write(on: &mut SqliteConnection, events: Vec<(Option<RunId>, Timestamp, Event)>) -> Result<Vec<Entry>, sqlx::Error> {
    let (before, mut previous) = last(on).await?.unwrap_or((0, Digest::from_bytes([0; 32])));
    let mut entries = Vec::with_capacity(events.len());
    let mut texts = Vec::with_capacity(events.len());
    for ((run, at, event), seq) in events.into_iter().zip(before + 1..) {
        let text = serde_json::to_string(&event).map_err(|bad| sqlx::Error::Encode(Box::new(bad)))?;
        let run_text = run.map_or_else(String::new, |run| run.to_string());
        let (at_text, previous_text) = (at.to_string(), previous.to_string());
        let written = Written { seq, version: VERSION, at: &at_text, run: &run_text, event: &text, previous: &previous_text };
        let hash = written.hash();
        entries.push(Entry { seq, version: VERSION, at, run, event, previous, hash });
        previous = hash;
        texts.push(text);
    }
    insert(on, &entries, texts).await?;
    for entry in &entries {
        projection::apply(on, entry).await?;
    }
    projection::reach(on, before, before + entries.len() as u64).await?;
    Ok(entries)
}

async fn last(on: &mut SqliteConnection) -> Result<Option<(u64, Digest)>, sqlx::Error> {
    let row = sqlx::query("select seq, hash from entries order by seq desc limit 1").fetch_optional(on).await?;
    row.map(|row| {
        let hash: String = row.try_get("hash")?;
        let hash = hash.parse().map_err(|bad| sqlx::Error::Decode(Box::new(bad)))?;
        Ok((row.try_get::<i64, _>("seq")?.unsigned_abs(), hash))
    })
    .transpose()
}

async fn insert(on: &mut SqliteConnection, entries: &[Entry], texts: Vec<String>) -> Result<(), sqlx::Error> {
    let mut texts = texts.into_iter();
    for some in entries.chunks(AT_ONCE) {
        let mut insert = QueryBuilder::new("insert into entries (seq, version, at, run, event, previous, hash) ");
        insert.push_values(some.iter().zip(texts.by_ref()), |mut row, (entry, text)| {
            row.push_bind(entry.seq as i64).push_bind(entry.version).push_bind(entry.at.to_string());
            row.push_bind(entry.run.map(|run| run.to_string()).unwrap_or_default()).push_bind(text);
            row.push_bind(entry.previous.to_string()).push_bind(entry.hash.to_string());
        });
        // A full chunk's statement is used again and again; of the others there are too many.
        insert.build().persistent(some.len() == AT_ONCE || some.len() == 1).execute(&mut *on).await?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
