//! The outbox: what is to be told to the outside, until it was told or given up.
//!
//! Invariants: a message is put there in the transaction of the record that it tells of, and leaves the waiting ones only by being
//! delivered or declared dead. Of the messages to one target about one patch and customer only the oldest is handed out: nobody hears
//! of the first decision after the second.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::projection::parsed;
use super::store::{Journal, JournalError, apart};

/// A message that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    pub id: i64,
    pub target: String,
    pub body: String,
    pub posted: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
}

/// How many messages a target has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Piles {
    pub waiting: u64,
    pub dead: u64,
}

impl Journal {
    /// The next message that may go to a target now, and otherwise the moment (milliseconds since 1970) at which there may be one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn next_letter(&self, target: &str, now: Timestamp) -> Result<Result<Letter, Option<i64>>, JournalError> {
        let query = sqlx::query(
            "select o.* from outbox o join records mine on mine.seq = o.entry
             where o.target = ? and o.delivered is null and o.dead is null and o.due <= ? and not exists (
                 select 1 from outbox p join records older on older.seq = p.entry
                 where p.target = o.target and p.id < o.id and p.delivered is null and p.dead is null
                 and older.patch = mine.patch and older.customer = mine.customer)
             order by o.id limit 1",
        );
        let rows = self.rows(query.bind(target.to_owned()).bind(now.as_millisecond())).await?;
        if let Some(row) = rows.first() {
            return letter(row).map(Ok).map_err(|source| self.unreadable(source));
        }
        let query = sqlx::query("select min(due) as due from outbox where target = ? and delivered is null and dead is null and due > ?");
        let rows = self.rows(query.bind(target.to_owned()).bind(now.as_millisecond())).await?;
        rows.first().map_or(Ok(None), |row| row.try_get("due")).map(Err).map_err(|source| self.unreadable(source))
    }

    /// # Errors
    /// When the store cannot be written.
    pub async fn letter_delivered(&self, id: i64, at: Timestamp) -> Result<(), JournalError> {
        let query = sqlx::query("update outbox set delivered = ?, attempts = attempts + 1, told = null where id = ?");
        self.change(query.bind(at.to_string()).bind(id)).await
    }

    /// Tried in vain: it waits until it is due again.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn letter_failed(&self, id: i64, due: Timestamp, told: &str) -> Result<(), JournalError> {
        let query = sqlx::query("update outbox set attempts = attempts + 1, due = ?, told = ? where id = ?");
        self.change(query.bind(due.as_millisecond()).bind(told.to_owned()).bind(id)).await
    }

    /// Given up.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn letter_dead(&self, id: i64, at: Timestamp, told: &str) -> Result<(), JournalError> {
        let query = sqlx::query("update outbox set attempts = attempts + 1, dead = ?, told = ? where id = ?");
        self.change(query.bind(at.to_string()).bind(told.to_owned()).bind(id)).await
    }

    /// Gives up what waits for a target that is no more.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn target_gone(&self, target: &str, at: Timestamp) -> Result<(), JournalError> {
        let query = sqlx::query("update outbox set dead = ?, told = ? where target = ? and delivered is null and dead is null");
        self.change(query.bind(at.to_string()).bind("there is no such webhook any more").bind(target.to_owned())).await
    }

    /// How many messages wait and how many are dead, by target. Delivered ones are left out.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn piles(&self) -> Result<BTreeMap<String, Piles>, JournalError> {
        let query = "select target, sum(dead is null) as waiting, sum(dead is not null) as dead from outbox
                     where delivered is null group by target";
        let pile = |row: &SqliteRow| -> Result<_, sqlx::Error> {
            let count = |column| row.try_get::<i64, _>(column).map(i64::unsigned_abs);
            Ok((row.try_get("target")?, Piles { waiting: count("waiting")?, dead: count("dead")? }))
        };
        let rows = self.rows(sqlx::query(query)).await?;
        rows.iter().map(|row| pile(row).map_err(|source| self.unreadable(source))).collect()
    }

    async fn change(&self, query: sqlx::query::Query<'static, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>) -> Result<(), JournalError> {
        let pool = self.pool();
        let changed = apart(async move { query.execute(&pool).await }).await;
        changed.map(|_| ()).map_err(|source| self.unwritable(source))
    }
}

fn letter(row: &SqliteRow) -> Result<Letter, sqlx::Error> {
    Ok(Letter {
        id: row.try_get("id")?,
        target: row.try_get("target")?,
        body: row.try_get("body")?,
        posted: parsed(row, "posted")?,
        attempts: row.try_get("attempts")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Digest;
    use crate::journal::{Message, Record};

    #[tokio::test]
    async fn messages_about_one_patch_go_out_in_order_and_leave_by_being_told_or_given_up() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::open(&folder.path().join("journal.sqlite")).await.expect("a journal");
        let now = Timestamp::now();
        for (patch, body) in [("one", "1"), ("one", "2"), ("two", "3")] {
            let customer = Some("acme".parse().expect("a name"));
            let (what, by, reason) = ("approve".to_owned(), "alice".to_owned(), "no".to_owned());
            let record = Record::Refused { what, patch: Some(Digest::of(patch)), customer, by, reason };
            let message = Message { target: "hook".to_owned(), body: body.to_owned() };
            journal.append_with(None, now, vec![record], vec![message]).await.expect("appended");
        }
        let next = async |at: Timestamp| journal.next_letter("hook", at).await.expect("read").map(|letter| (letter.id, letter.body));
        let (first, body) = next(now).await.expect("a letter");
        assert_eq!(body, "1");
        let later = now.checked_add(jiff::SignedDuration::from_secs(60)).expect("a moment");
        journal.letter_failed(first, later, "it answered 500").await.expect("noted");
        let (third, body) = next(now).await.expect("a letter");
        assert_eq!(body, "3", "the second waits for the first");
        journal.letter_delivered(third, now).await.expect("noted");
        assert_eq!(next(now).await, Err(Some(later.as_millisecond())));
        assert_eq!(journal.piles().await.expect("read")["hook"], Piles { waiting: 2, dead: 0 });
        assert_eq!(next(later).await.map(|(id, _)| id), Ok(first));
        journal.letter_dead(first, later, "enough").await.expect("noted");
        assert_eq!(next(now).await.map(|(_, body)| body), Ok("2".to_owned()));
        journal.target_gone("hook", now).await.expect("noted");
        assert_eq!(next(later).await, Err(None));
        assert_eq!(journal.piles().await.expect("read")["hook"], Piles { waiting: 0, dead: 2 });
        assert_eq!(journal.next_letter("other", later).await.expect("read"), Err(None));
    }
}
