//! What overviews ask the journal for: whether anything about waivers is new, and which runs keep machines.
//!
//! Invariant: only what was written behind an entry that the asker knows is read, so that whoever remembers reads little.

use super::store::{Journal, JournalError};
use crate::id::{BadId, RunId};

impl Journal {
    /// The last entry about a waiver; 0 when there is none.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn last_waiver(&self) -> Result<u64, JournalError> {
        let kinds = "'waiver-proposed', 'waiver-consented', 'waiver-revoked', 'approval-revoked', 'requirements-set'";
        let query = format!("select coalesce(max(seq), 0) as seq from records where kind in ({kinds})");
        let rows = self.rows(sqlx::query(sqlx::AssertSqlSafe(query))).await?;
        let seq = rows.first().map_or(Ok(0), |row| sqlx::Row::try_get::<i64, _>(row, "seq")).map_err(|source| self.unreadable(source))?;
        Ok(seq.unsigned_abs())
    }

    /// The runs that have kept a machine behind this entry. Some may have let it go since.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn kept_after(&self, seq: u64) -> Result<Vec<RunId>, JournalError> {
        let query = sqlx::query(
            "select distinct run from entries where seq > ? and event like '{\"event\":\"pass-ended\"%\"kept\":true%' order by seq",
        );
        let rows = self.rows(query.bind(seq as i64)).await?;
        let run = |row| -> Result<RunId, sqlx::Error> {
            let text: String = sqlx::Row::try_get(row, "run")?;
            text.parse().map_err(|bad: BadId| sqlx::Error::Decode(Box::new(bad)))
        };
        rows.iter().map(|row| run(row).map_err(|source| self.unreadable(source))).collect()
    }
}
