//! What whoever remembers decisions has to know of new entries: which patches and customers they are about.
//!
//! Invariant: an entry that could change a decision is never left out; that it does is for [`crate::verdict::gate`] to say.

use std::path::PathBuf;

use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::event::{Entry, Event};
use super::projection::parsed;
use super::record::Record;
use super::store::{Journal, JournalError};
use crate::id::{Digest, Name};

/// Decisions that are read at once.
const BATCH: u32 = 200;

/// An entry, as far as it is of interest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    pub seq: u64,
    pub about: About,
}

/// What an entry may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// Every decision about a patch.
    Patch(Digest),
    /// A run of the patch begins, with cells of these customers.
    Planned(Digest, Vec<Name>),
    /// One decision.
    Scope(Digest, Name),
    /// A candidate came in, which may take the place of those with these ids.
    Added(Digest, Vec<Name>),
    /// Every decision.
    All,
    /// A decision was put on record.
    Decided(Box<crate::verdict::gate::Decision>),
}

/// A patch and a customer that the gate was asked about, and the last entry that may change the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    pub patch: Digest,
    pub customer: Name,
    pub touched: u64,
}

impl Journal {
    /// The file that every commit writes to, whichever process makes it.
    pub fn commits(&self) -> PathBuf {
        let mut path = self.file().to_owned().into_os_string();
        path.push("-wal");
        path.into()
    }

    /// What was written behind an entry, and the last entry there is.
    ///
    /// # Errors
    /// When the store cannot be read, or a record's hash is not its own.
    pub async fn news_after(&self, seq: u64) -> Result<(u64, Vec<News>), JournalError> {
        let query = "select e.seq, r.kind, coalesce(r.patch, p.patch) as patch, r.customer,
                     case when u.seq = e.seq then u.customers end as planned
                     from entries e left join records r on r.seq = e.seq left join runs u on u.run = e.run
                     left join run_patches p on p.run = e.run where e.seq > ? order by e.seq";
        let rows = self.rows(sqlx::query(query).bind(seq as i64)).await?;
        let (mut last, mut news) = (seq, Vec::new());
        for row in &rows {
            let (at, kind) = head(row).map_err(|source| self.unreadable(source))?;
            last = at;
            let about = match kind.as_deref() {
                // They belong to the outside or to nobody.
                Some("refused") => None,
                Some(Record::CLOCK_PUT_BACK) => Some(About::All),
                Some("patch-added" | "decided") => self.entry_at(at).await?.and_then(told),
                Some(_) => {
                    scope(row, "customer").map_err(|source| self.unreadable(source))?.map(|(patch, customer)| About::Scope(patch, customer))
                }
                None => of_run(row).map_err(|source| self.unreadable(source))?,
            };
            // A run says much that is about the same patch.
            match (about, news.last_mut()) {
                (Some(About::Patch(patch)), Some(News { seq, about: About::Patch(before) })) if patch == *before => *seq = at,
                (Some(about), _) => news.push(News { seq: at, about }),
                (None, _) => {}
            }
        }
        Ok((last, news))
    }

    async fn entry_at(&self, seq: u64) -> Result<Option<Entry>, JournalError> {
        let rows = self.rows(sqlx::query("select * from entries where seq = ?").bind(seq as i64)).await?;
        rows.first().map(|row| self.entry(row)).transpose()
    }

    /// Everything that the gate was asked about.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn scopes(&self) -> Result<Vec<Scope>, JournalError> {
        let query = "select s.patch, s.customer, max(s.seq) as said,
                     (select coalesce(max((select max(e.seq) from entries e where e.run = u.run)), 0) from run_patches u where u.patch = s.patch) as run
                     from records s where s.kind not in ('decided', 'refused', 'patch-added') and s.patch is not null and s.customer is not null
                     group by s.patch, s.customer having sum(s.kind = 'requirements-set') > 0";
        let read = |row: &SqliteRow| -> Result<Scope, sqlx::Error> {
            let touched = row.try_get::<i64, _>("said")?.max(row.try_get("run")?).unsigned_abs();
            Ok(Scope { patch: parsed(row, "patch")?, customer: parsed(row, "customer")?, touched })
        };
        self.rows(sqlx::query(query)).await?.iter().map(|row| read(row).map_err(|source| self.unreadable(source))).collect()
    }

    /// The last decision about each patch and customer, those from behind an entry on, some at a time.
    ///
    /// # Errors
    /// When the store cannot be read or an entry's hash is not its own.
    pub async fn last_decisions(&self, after: u64) -> Result<Vec<Entry>, JournalError> {
        let query = sqlx::query(
            "select e.* from entries e where e.seq in
             (select max(seq) from records where kind = 'decided' group by patch, customer) and e.seq > ? order by e.seq limit ?",
        );
        self.rows(query.bind(after as i64).bind(BATCH)).await?.iter().map(|row| self.entry(row)).collect()
    }

    /// The kind of the record that an id was first used for.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn kind_of(&self, id: Uuid) -> Result<Option<String>, JournalError> {
        let query = sqlx::query("select kind from records where id = ? order by seq limit 1").bind(id.to_string());
        let rows = self.rows(query).await?;
        rows.first().map(|row| row.try_get("kind").map_err(|source| self.unreadable(source))).transpose()
    }
}

fn head(row: &SqliteRow) -> Result<(u64, Option<String>), sqlx::Error> {
    Ok((row.try_get::<i64, _>("seq")?.unsigned_abs(), row.try_get("kind")?))
}

fn told(entry: Entry) -> Option<About> {
    let Event::Recorded { record } = entry.event else { return None };
    match *record {
        Record::PatchAdded { patch, id, mut supersedes, .. } => {
            supersedes.push(id);
            Some(About::Added(patch, supersedes))
        }
        Record::Decided { decision } => Some(About::Decided(decision)),
        _ => None,
    }
}

fn scope(row: &SqliteRow, column: &str) -> Result<Option<(Digest, Name)>, sqlx::Error> {
    let customer: Option<String> = row.try_get(column)?;
    let patch: Option<String> = row.try_get("patch")?;
    if customer.is_none() || patch.is_none() {
        return Ok(None);
    }
    Ok(Some((parsed(row, "patch")?, parsed(row, column)?)))
}

/// An entry of a run that is in no list belongs to nobody.
fn of_run(row: &SqliteRow) -> Result<Option<About>, sqlx::Error> {
    if row.try_get::<Option<String>, _>("patch")?.is_none() {
        return Ok(None);
    }
    let patch = parsed(row, "patch")?;
    Ok(Some(match row.try_get::<Option<String>, _>("planned")? {
        Some(customers) => About::Planned(patch, customers.split_whitespace().filter_map(|name| name.parse().ok()).collect()),
        None => About::Patch(patch),
    }))
}
