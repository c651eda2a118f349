//! What was answered to requests that came with an idempotency key, so that asking again does nothing again.

use jiff::Timestamp;
use sqlx::Row;
use uuid::Uuid;

use super::{Ledger, LedgerError, REMEMBERED};
use crate::id::{Digest, Name};

/// An answer as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Of the request that it was sent for.
    pub request: Digest,
    pub status: u16,
    pub body: String,
}

impl Ledger {
    /// What was answered to a caller's key.
    ///
    /// # Errors
    /// When the ledger can't be read.
    pub async fn answered(&self, caller: &Name, key: &str) -> Result<Option<Answered>, LedgerError> {
        let query = sqlx::query("select request, status, body from answers where caller = ? and key = ?");
        let row =
            query.bind(caller.to_string()).bind(key.to_owned()).fetch_optional(&self.pool).await.map_err(|source| self.failed(source))?;
        let Some(row) = row else { return Ok(None) };
        let read = || -> Result<_, sqlx::Error> {
            let request = row.try_get::<String, _>("request")?.parse().map_err(|bad| sqlx::Error::Decode(Box::new(bad)))?;
            Ok(Answered { request, status: row.try_get("status")?, body: row.try_get("body")? })
        };
        read().map(Some).map_err(|source| self.failed(source))
    }

    /// The digest of the request that came with a caller's key, and the record that it stands for.
    ///
    /// # Errors
    /// When the ledger can't be read.
    pub async fn promised(&self, caller: &Name, key: &str) -> Result<Option<(Digest, Uuid)>, LedgerError> {
        let query = sqlx::query("select request, record from promises where caller = ? and key = ?");
        let row =
            query.bind(caller.to_string()).bind(key.to_owned()).fetch_optional(&self.pool).await.map_err(|source| self.failed(source))?;
        let Some(row) = row else { return Ok(None) };
        let read = || -> Result<_, sqlx::Error> {
            let request = row.try_get::<String, _>("request")?.parse().map_err(|bad| sqlx::Error::Decode(Box::new(bad)))?;
            let record = row.try_get::<String, _>("record")?.parse().map_err(|bad| sqlx::Error::Decode(Box::new(bad)))?;
            Ok((request, record))
        };
        read().map(Some).map_err(|source| self.failed(source))
    }

    /// Writes down which record a key stands for, before anything is done for it.
    ///
    /// # Errors
    /// When the ledger can't be written.
    pub async fn promise(&self, caller: &Name, key: &str, request: Digest, record: Uuid, now: Timestamp) -> Result<(), LedgerError> {
        let written = async {
            let mut writing = self.pool.begin().await?;
            let old = now.checked_sub(REMEMBERED).unwrap_or(Timestamp::MIN).as_second();
            sqlx::query("delete from promises where at < ?").bind(old).execute(&mut *writing).await?;
            let query = sqlx::query("insert into promises (caller, key, request, record, at) values (?, ?, ?, ?, ?)");
            let query = query.bind(caller.to_string()).bind(key.to_owned()).bind(request.to_string()).bind(record.to_string());
            query.bind(now.as_second()).execute(&mut *writing).await?;
            writing.commit().await
        };
        written.await.map_err(|source| self.failed(source))
    }

    /// Forgets what a key stands for: nothing was done for it.
    ///
    /// # Errors
    /// When the ledger can't be written.
    pub async fn take_back(&self, caller: &Name, key: &str) -> Result<(), LedgerError> {
        let query = sqlx::query("delete from promises where caller = ? and key = ?").bind(caller.to_string()).bind(key.to_owned());
        query.execute(&self.pool).await.map(|_| ()).map_err(|source| self.failed(source))
    }

    /// Remembers an answer.
    ///
    /// # Errors
    /// When the ledger can't be written.
    pub async fn remember(&self, caller: &Name, key: &str, answer: &Answered, now: Timestamp) -> Result<(), LedgerError> {
        let written = async {
            let mut writing = self.pool.begin().await?;
            let old = now.checked_sub(REMEMBERED).unwrap_or(Timestamp::MIN).as_second();
            sqlx::query("delete from answers where at < ?").bind(old).execute(&mut *writing).await?;
            let query = sqlx::query("insert into answers (caller, key, request, status, body, at) values (?, ?, ?, ?, ?, ?)");
            let query = query.bind(caller.to_string()).bind(key.to_owned()).bind(answer.request.to_string());
            query.bind(answer.status).bind(answer.body.clone()).bind(now.as_second()).execute(&mut *writing).await?;
            writing.commit().await
        };
        written.await.map_err(|source| self.failed(source))
    }
}
