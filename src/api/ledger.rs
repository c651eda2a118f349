//! What the server has to remember of requests, in `<state>/server.sqlite`: which run or record an idempotency key stands for, and how
//! runs are to be done. Facts are not here: they are in the journal.
//!
//! Invariant: what a key stands for is written before anything is done for it, so that a request that is sent again, because the server
//! ended in the middle, finds what was done and does nothing twice.

mod answers;

pub use answers::Answered;

use std::collections::BTreeMap;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Row, SqlitePool};
use thiserror::Error;

use super::problem::Problem;
use crate::id::{Digest, Name, RunId};
use crate::lab::desk::queue::Wish;

const SCHEMA: &str = "
    create table if not exists keys (
        caller text not null, key text not null, body text not null, run text not null, at integer not null, primary key (caller, key));
    create table if not exists answers (
        caller text not null, key text not null, request text not null, status integer not null, body text not null, at integer not null,
        primary key (caller, key));
    create table if not exists promises (
        caller text not null, key text not null, request text not null, record text not null, at integer not null,
        primary key (caller, key));
    create table if not exists wanted (run text primary key, wish text not null);
";

/// How long an idempotency key is remembered.
pub const REMEMBERED: SignedDuration = SignedDuration::from_hours(72);

/// The ledger could not be read or written.
#[derive(Debug, Error)]
#[error("could not use {}: {source}", path.display())]
pub struct LedgerError {
    path: PathBuf,
    source: sqlx::Error,
}

impl From<LedgerError> for Problem {
    fn from(error: LedgerError) -> Self {
        Self::fault(error)
    }
}

pub struct Ledger {
    path: PathBuf,
    pool: SqlitePool,
}

impl Ledger {
    /// # Errors
    /// When the file can't be opened.
    pub async fn open(state: &Path) -> Result<Self, LedgerError> {
        let path = state.join("server.sqlite");
        let failed = |source| LedgerError { path: path.clone(), source };
        let made = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        made.map_err(|error| failed(sqlx::Error::Io(error)))?;
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10));
        let pool = SqlitePoolOptions::new().max_connections(1).acquire_timeout(Duration::from_secs(20));
        let pool = pool.connect_with(options).await.map_err(failed)?;
        sqlx::raw_sql(SCHEMA).execute(&pool).await.map_err(failed)?;
        Ok(Self { path, pool })
    }

    fn failed(&self, source: sqlx::Error) -> LedgerError {
        LedgerError { path: self.path.clone(), source }
    }

    /// The digest of the body that came with a caller's key, and the run that it stands for.
    ///
    /// # Errors
    /// When the ledger can't be read.
    pub async fn known(&self, caller: &Name, key: &str) -> Result<Option<(Digest, RunId)>, LedgerError> {
        let query = sqlx::query("select body, run from keys where caller = ? and key = ?").bind(caller.to_string()).bind(key.to_owned());
        let row = query.fetch_optional(&self.pool).await.map_err(|source| self.failed(source))?;
        let Some(row) = row else { return Ok(None) };
        let parsed = || -> Result<_, sqlx::Error> {
            let unreadable = |bad| sqlx::Error::Decode(Box::new(bad));
            let body = row.try_get::<String, _>("body")?.parse().map_err(unreadable)?;
            Ok((body, row.try_get::<String, _>("run")?.parse().map_err(unreadable)?))
        };
        parsed().map(Some).map_err(|source| self.failed(source))
    }

    /// Writes down what a run is to be like before it is begun, and the key that it was asked for with.
    ///
    /// # Errors
    /// When the ledger can't be written.
    pub async fn note(&self, run: RunId, wish: Wish, key: Option<(&Name, &str, Digest)>, now: Timestamp) -> Result<(), LedgerError> {
        let written = async {
            let mut writing = self.pool.begin().await?;
            if wish != Wish::default() {
                let query = sqlx::query("insert or ignore into wanted (run, wish) values (?, ?)");
                let wish = serde_json::to_string(&wish).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
                query.bind(run.to_string()).bind(wish).execute(&mut *writing).await?;
            }
            if let Some((caller, key, body)) = key {
                let old = now.checked_sub(REMEMBERED).unwrap_or(Timestamp::MIN).as_second();
                sqlx::query("delete from keys where at < ?").bind(old).execute(&mut *writing).await?;
                let query = sqlx::query("insert into keys (caller, key, body, run, at) values (?, ?, ?, ?, ?)");
                let query = query.bind(caller.to_string()).bind(key.to_owned()).bind(body.to_string()).bind(run.to_string());
                query.bind(now.as_second()).execute(&mut *writing).await?;
            }
            writing.commit().await
        };
        written.await.map_err(|source| self.failed(source))
    }

    /// How runs are to be done.
    ///
    /// # Errors
    /// When the ledger can't be read.
    pub async fn wishes(&self) -> Result<BTreeMap<RunId, Wish>, LedgerError> {
        let rows = sqlx::query("select run, wish from wanted").fetch_all(&self.pool).await.map_err(|source| self.failed(source))?;
        let wish = |row: &sqlx::sqlite::SqliteRow| -> Result<_, sqlx::Error> {
            let run = row.try_get::<String, _>("run")?.parse().map_err(|bad: crate::id::BadId| sqlx::Error::Decode(Box::new(bad)))?;
            let wish = serde_json::from_str(&row.try_get::<String, _>("wish")?).map_err(|bad| sqlx::Error::Decode(Box::new(bad)))?;
            Ok((run, wish))
        };
        rows.iter().map(wish).collect::<Result<_, _>>().map_err(|source| self.failed(source))
    }
}
