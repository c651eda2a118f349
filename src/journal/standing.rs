//! What overviews ask the journal for: whether anything about waivers is new, and which runs keep machines.
//!
//! Invariant: only lists are read here, never all entries.

use jiff::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::fold::KEEP;
use super::projection::parsed;
use super::store::{Journal, JournalError};
use crate::id::RunId;

impl Journal {
    /// The last entry about a waiver; 0 when there is none.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn last_waiver(&self) -> Result<u64, JournalError> {
        let kinds = "'waiver-proposed', 'waiver-consented', 'waiver-revoked', 'approval-revoked', 'requirements-set'";
        let query = format!("select coalesce(max(seq), 0) as seq from records where kind in ({kinds})");
        let rows = self.rows(sqlx::query(sqlx::AssertSqlSafe(query))).await?;
        let seq = rows.first().map_or(Ok(0), |row| row.try_get::<i64, _>("seq")).map_err(|source| self.unreadable(source))?;
        Ok(seq.unsigned_abs())
    }

    /// The runs that have kept a machine whose lease has not run out at this moment, the oldest first. Some may have let it go since.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn keepers(&self, now: Timestamp) -> Result<Vec<RunId>, JournalError> {
        let rows = self.rows(sqlx::query("select run, at from kept order by seq")).await?;
        let read = |row: &SqliteRow| -> Result<(RunId, Timestamp), sqlx::Error> { Ok((parsed(row, "run")?, parsed(row, "at")?)) };
        let mut keepers = Vec::new();
        for row in &rows {
            let (run, at) = read(row).map_err(|source| self.unreadable(source))?;
            if at.checked_add(KEEP).map_or(true, |until| now < until) && !keepers.contains(&run) {
                keepers.push(run);
            }
        }
        Ok(keepers)
    }
}
