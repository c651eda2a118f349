//! Lists that the journal keeps beside its entries, so that nobody reads all of them to find some: the runs, those that have kept a
//! machine, the records by patch and customer, and the outbox.
//!
//! Invariant: all but the outbox follow from the entries alone, are written in the same transaction, and are made anew where they are
//! missing or behind. Nothing is decided by them: they only say which entries to read.

use std::str::FromStr;

use futures_util::TryStreamExt;
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection, SqlitePool};
use uuid::Uuid;

use super::event::{Entry, Event};
use super::record::Record;
use super::store::{Journal, JournalError};
use crate::id::{Digest, Name, RunId};
use crate::verdict::Verdict;

/// The version of the lists' form. Another one in the file is made anew.
const VERSION: i64 = 3;

const SCHEMA: &str = "
    create table if not exists projected (version integer not null, seq integer not null);
    create table if not exists runs (
        run text primary key, patch text not null, patch_id text not null, plan_digest text not null, customers text not null,
        launched_by text not null, planned_at text not null, seq integer not null, cells integer not null default 0, ended_at text,
        verdict text);
    create index if not exists runs_by_patch on runs (patch, seq);
    create index if not exists runs_by_seq on runs (seq);
    create table if not exists run_patches (patch text not null, run text not null, own integer not null, primary key (patch, run));
    create index if not exists run_patches_by_run on run_patches (run);
    create table if not exists kept (seq integer primary key, run text not null, at text not null);
    create table if not exists records (seq integer primary key, kind text not null, patch text, customer text, id text, at text not null);
    create index if not exists records_by_patch on records (patch, customer, seq);
    create index if not exists records_by_id on records (id, seq);
    create index if not exists records_by_kind on records (kind, seq);
    create table if not exists outbox (
        id integer primary key autoincrement, entry integer not null, target text not null, body text not null, posted text not null,
        attempts integer not null default 0, due integer not null default 0, told text, delivered text, dead text);
    create index if not exists outbox_waiting on outbox (target, id) where delivered is null and dead is null;
";

/// What is made anew with every version.
const FORGET: &str = "drop table if exists projected; drop table if exists runs; drop table if exists run_patches; drop table if exists kept; drop table if exists records";

/// How the events begin that a decision may change with. An event's tag is written first.
const TELLING: [&str; 4] = ["run-planned", "cell-ended", "run-ended", "recorded"];

/// Something to be told to the outside, kept until it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it goes, for example a webhook's name.
    pub target: String,
    pub body: String,
}

/// A run as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRow {
    pub run: RunId,
    /// The patch's digest.
    pub patch: Digest,
    pub patch_id: Name,
    /// How many patches it tests together: one, or more of which this is the first.
    pub tested: usize,
    pub plan_digest: Digest,
    /// How many cells are in its plan.
    pub cells: usize,
    /// Whose they are.
    pub customers: Vec<Name>,
    pub by: String,
    pub planned: Timestamp,
    /// The entry that it began with.
    pub seq: u64,
    pub ended: Option<(Timestamp, Verdict)>,
}

impl RunRow {
    /// What it tests, in a few words.
    pub fn title(&self) -> String {
        if self.tested > 1 { format!("{} + {} more", self.patch_id, self.tested - 1) } else { self.patch_id.to_string() }
    }
}

/// Which runs to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFilter {
    pub run: Option<RunId>,
    /// Those that say something of a patch: that tested it, or others of a bundle that it was in.
    pub patch: Option<Digest>,
    /// The id of the patch that it tested, the first one of several, or the digest of any of them.
    pub named: Option<String>,
    pub plan: Option<Digest>,
    pub customer: Option<Name>,
    /// Who launched it.
    pub by: Option<String>,
    /// `Some(false)`: those that have not ended.
    pub ended: Option<bool>,
    pub verdict: Option<Verdict>,
}

impl RunFilter {
    pub const ALL: Self = Self { run: None, patch: None, named: None, plan: None, customer: None, by: None, ended: None, verdict: None };
    /// Those that have not ended.
    pub const OPEN: Self = Self { ended: Some(false), ..Self::ALL };
}

impl Default for RunFilter {
    fn default() -> Self {
        Self::ALL
    }
}

impl Journal {
    /// Runs, the newest first: at most so many, and only those that began before this entry.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn page(&self, filter: &RunFilter, before: Option<u64>, limit: u32) -> Result<Vec<RunRow>, JournalError> {
        let query = sqlx::query(
            "select runs.*, (select count(*) from run_patches own where own.run = runs.run and own.own = 1) as tested from runs where (?1 is null or run in (select run from run_patches where patch = ?1)) and (?2 is null or instr(customers, ?2) > 0)
             and (?3 is null or (ended_at is not null) = ?3) and (?4 is null or seq < ?4) and (?6 is null or run = ?6)
             and (?7 is null or patch_id = ?7 or run in (select run from run_patches where patch = ?7 and own = 1)) and (?8 is null or plan_digest = ?8) and (?9 is null or launched_by = ?9)
             and (?10 is null or verdict = ?10) order by seq desc limit ?5",
        );
        let query = query
            .bind(filter.patch.map(|patch| patch.to_string()))
            .bind(filter.customer.as_ref().map(|customer| format!(" {customer} ")))
            .bind(filter.ended)
            .bind(before.map(|before| before as i64))
            .bind(limit)
            .bind(filter.run.map(|run| run.to_string()))
            .bind(filter.named.clone())
            .bind(filter.plan.map(|plan| plan.to_string()))
            .bind(filter.by.clone())
            .bind(filter.verdict.map(Verdict::as_str));
        self.rows(query).await?.iter().map(|row| run_row(row).map_err(|source| self.unreadable(source))).collect()
    }

    /// The records about a patch and a customer, in their order, and what was done about them.
    ///
    /// # Errors
    /// When the store cannot be read or an entry's hash is not its own.
    pub async fn records(&self, patch: Digest, customer: &Name) -> Result<Vec<Entry>, JournalError> {
        let query =
            sqlx::query("select e.* from records r join entries e on e.seq = r.seq where r.patch = ? and r.customer = ? order by r.seq");
        let rows = self.rows(query.bind(patch.to_string()).bind(customer.to_string())).await?;
        rows.iter().map(|row| self.entry(row)).collect()
    }

    /// Every record of a kind, see [`Record::kind`].
    ///
    /// # Errors
    /// As [`Journal::records`].
    pub async fn records_of_kind(&self, kind: &'static str) -> Result<Vec<Entry>, JournalError> {
        let query = sqlx::query("select e.* from records r join entries e on e.seq = r.seq where r.kind = ? order by r.seq");
        let rows = self.rows(query.bind(kind)).await?;
        rows.iter().map(|row| self.entry(row)).collect()
    }

    /// The entries of candidates that came in with this digest or this id, or that supersede this id. Some others may be among them.
    ///
    /// # Errors
    /// As [`Journal::records`].
    pub async fn candidates(&self, patch: Digest, id: &Name) -> Result<Vec<Entry>, JournalError> {
        let query = sqlx::query(
            "select e.* from records r join entries e on e.seq = r.seq
             where r.kind = 'patch-added' and (r.patch = ? or instr(e.event, ?) > 0) order by r.seq",
        );
        let rows = self.rows(query.bind(patch.to_string()).bind(format!("\"{id}\""))).await?;
        rows.iter().map(|row| self.entry(row)).collect()
    }

    /// The patch and the customer of the record with this id, where there is one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn scope_of(&self, id: Uuid) -> Result<Option<(Digest, Name)>, JournalError> {
        let query = sqlx::query("select patch, customer from records where id = ? order by seq limit 1").bind(id.to_string());
        let rows = self.rows(query).await?;
        let scope = |row: &SqliteRow| Ok((parsed(row, "patch")?, parsed(row, "customer")?));
        rows.first().map(|row| scope(row).map_err(|source| self.unreadable(source))).transpose()
    }

    /// The latest moment of any record.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn latest_record(&self) -> Result<Option<Timestamp>, JournalError> {
        let rows = self.rows(sqlx::query("select at from records order by seq desc limit 1")).await?;
        rows.first().map(|row| parsed(row, "at").map_err(|source| self.unreadable(source))).transpose()
    }
}

/// Makes the lists where they are missing or behind.
pub(super) async fn prepare(pool: &SqlitePool) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(SCHEMA).execute(pool).await?;
    let behind = "select coalesce((select max(seq) from entries), 0) as head,
                  coalesce((select seq from projected where version = ?), -1) as seq";
    let row = sqlx::query(behind).bind(VERSION).fetch_one(pool).await?;
    if row.try_get::<i64, _>("head")? == row.try_get::<i64, _>("seq")? {
        return Ok(());
    }
    let mut writing = pool.begin_with("begin immediate").await?;
    // Another process may have been faster.
    let row = sqlx::query(behind).bind(VERSION).fetch_one(&mut *writing).await?;
    let mut done: i64 = row.try_get("seq")?;
    if done < 0 {
        sqlx::raw_sql(FORGET).execute(&mut *writing).await?;
        sqlx::raw_sql(SCHEMA).execute(&mut *writing).await?;
        sqlx::query("insert into projected (version, seq) values (?, 0)").bind(VERSION).execute(&mut *writing).await?;
        done = 0;
    }
    let keeps = "event like '{\"event\":\"pass-ended\"%\"kept\":true%'";
    let telling = format!("select * from entries where seq > ? and ({} or {keeps}) order by seq limit 500", tells());
    loop {
        let rows = sqlx::query(AssertSqlSafe(telling.clone())).bind(done).fetch_all(&mut *writing).await?;
        let Some(last) = rows.last() else { break };
        done = last.try_get("seq")?;
        for row in &rows {
            apply(&mut writing, &unchecked(row)?).await?;
        }
    }
    sqlx::query("update projected set seq = (select coalesce(max(seq), 0) from entries)").execute(&mut *writing).await?;
    writing.commit().await
}

/// The lists as the entries make them, to hold those of a file to: a line that was taken out would hide its entry.
pub(super) struct Afresh {
    lists: SqliteConnection,
}

impl Afresh {
    pub(super) async fn new() -> Result<Self, sqlx::Error> {
        let mut lists = SqliteConnection::connect("sqlite::memory:").await?;
        sqlx::raw_sql(SCHEMA).execute(&mut lists).await?;
        Ok(Self { lists })
    }

    pub(super) async fn take(&mut self, entry: &Entry) -> Result<(), sqlx::Error> {
        let is_listed = matches!(
            entry.event,
            Event::RunPlanned { .. } | Event::PassEnded { kept: true, .. } | Event::RunEnded { .. } | Event::Recorded { .. }
        );
        if is_listed { apply(&mut self.lists, entry).await } else { Ok(()) }
    }

    /// Which list of a file is another.
    pub(super) async fn differs(&mut self, on: &mut SqliteConnection) -> Result<Option<&'static str>, sqlx::Error> {
        const LISTS: [(&str, &str); 4] = [
            (
                "runs",
                "select run, patch, patch_id, plan_digest, customers, launched_by, planned_at, cast(seq as text), cast(cells as text),
                 coalesce(ended_at, ''), coalesce(verdict, '') from runs order by seq",
            ),
            ("patches of runs", "select patch, run, cast(own as text) from run_patches order by run, patch"),
            ("kept machines", "select cast(seq as text), run, at from kept order by seq"),
            (
                "records",
                "select cast(seq as text), kind, coalesce(patch, ''), coalesce(customer, ''), coalesce(id, ''), at from records order by seq",
            ),
        ];
        for (list, query) in LISTS {
            if texts(on, query).await? != texts(&mut self.lists, query).await? {
                return Ok(Some(list));
            }
        }
        Ok(None)
    }
}

async fn texts(on: &mut SqliteConnection, query: &'static str) -> Result<Vec<Vec<String>>, sqlx::Error> {
    let rows = sqlx::query(query).fetch_all(on).await?;
    rows.iter().map(|row| (0..row.len()).map(|at| row.try_get(at)).collect()).collect()
}

fn tells() -> String {
    let begins = TELLING.map(|tag| format!("event like '{{\"event\":\"{tag}\"%'"));
    begins.join(" or ")
}

/// Whether something that decisions rest on was written behind this entry.
pub(super) async fn moved(on: &mut SqliteConnection, after: u64) -> Result<bool, sqlx::Error> {
    let query = format!("select exists (select 1 from entries where seq > ? and ({})) as moved", tells());
    sqlx::query(AssertSqlSafe(query)).bind(after as i64).fetch_one(on).await?.try_get("moved")
}

/// The latest moment of the journal: of its last record and of whatever was written since.
pub(super) async fn latest(on: &mut SqliteConnection) -> Result<Option<Timestamp>, sqlx::Error> {
    let query = "select at from entries where seq >= coalesce((select max(seq) from records), 0)";
    let mut rows = sqlx::query(query).fetch(on);
    let mut latest: Option<Timestamp> = None;
    while let Some(row) = rows.try_next().await? {
        latest = latest.max(Some(parsed(&row, "at")?));
    }
    Ok(latest)
}

/// Puts a message into the outbox. The outside goes by the real time, whatever the machines' is.
pub(super) async fn post(on: &mut SqliteConnection, entry: u64, message: &Message) -> Result<(), sqlx::Error> {
    sqlx::query("insert into outbox (entry, target, body, posted) values (?, ?, ?, ?)")
        .bind(entry as i64)
        .bind(&message.target)
        .bind(&message.body)
        .bind(Timestamp::now().to_string())
        .execute(on)
        .await?;
    Ok(())
}

/// What an entry adds to the lists.
pub(super) async fn apply(on: &mut SqliteConnection, entry: &Entry) -> Result<(), sqlx::Error> {
    match (&entry.event, entry.run) {
        (Event::RunPlanned { plan, plan_digest, by, bundle }, Some(run)) => {
            let mut customers: Vec<&Name> = plan.cells.iter().map(|cell| &cell.customer).collect();
            customers.sort();
            customers.dedup();
            let customers: String = customers.iter().map(|customer| format!(" {customer} ")).collect();
            sqlx::query(
                "insert or ignore into runs (run, patch, patch_id, plan_digest, customers, launched_by, planned_at, seq, cells)
                 values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )
            .bind(run.to_string())
            .bind(plan.patch.sha256.to_string())
            .bind(plan.patch.manifest.id.to_string())
            .bind(plan_digest.to_string())
            .bind(customers)
            .bind(by)
            .bind(entry.at.to_string())
            .bind(entry.seq as i64)
            .bind(u32::try_from(plan.cells.len()).unwrap_or(u32::MAX))
            .execute(&mut *on)
            .await?;
            let others = "insert or ignore into run_patches (patch, run, own) select patch, ?1, 0 from run_patches where run = ?2";
            let own = "insert or replace into run_patches (patch, run, own) values (?2, ?1, 1)";
            if let Some(bundle) = bundle {
                sqlx::query(others).bind(run.to_string()).bind(bundle.to_string()).execute(&mut *on).await?;
            }
            for patch in plan.patches() {
                sqlx::query(own).bind(run.to_string()).bind(patch.sha256.to_string()).execute(&mut *on).await?;
            }
        }
        (Event::PassEnded { kept: true, .. }, Some(run)) => {
            sqlx::query("insert or ignore into kept (seq, run, at) values (?, ?, ?)")
                .bind(entry.seq as i64)
                .bind(run.to_string())
                .bind(entry.at.to_string())
                .execute(&mut *on)
                .await?;
        }
        (Event::RunEnded { verdict }, Some(run)) => {
            sqlx::query("update runs set ended_at = ?, verdict = ? where run = ?")
                .bind(entry.at.to_string())
                .bind(verdict.as_str())
                .bind(run.to_string())
                .execute(&mut *on)
                .await?;
        }
        (Event::Recorded { record }, _) => file(on, entry, record).await?,
        _ => {}
    }
    Ok(())
}

/// Notes that the lists have all entries up to `to`, if they had those up to `from`. Where something is missing before, the next one who
/// opens the journal goes on from there.
pub(super) async fn reach(on: &mut SqliteConnection, from: u64, to: u64) -> Result<(), sqlx::Error> {
    let known = sqlx::query("update projected set seq = ? where version = ? and seq = ?").bind(to as i64).bind(VERSION).bind(from as i64);
    known.execute(on).await?;
    Ok(())
}

/// Files a record under its patch and customer, or under those of the record that it is about.
async fn file(on: &mut SqliteConnection, entry: &Entry, record: &Record) -> Result<(), sqlx::Error> {
    let (patch, customer) = record.scope();
    let id = record.id().map(|id| id.to_string());
    sqlx::query(
        "insert or ignore into records (seq, kind, patch, customer, id, at) values (?1, ?2,
         coalesce(?3, (select patch from records where id = ?5 order by seq limit 1)),
         coalesce(?4, (select customer from records where id = ?5 order by seq limit 1)), ?5, ?6)",
    )
    .bind(entry.seq as i64)
    .bind(record.kind())
    .bind(patch.map(|patch| patch.to_string()))
    .bind(customer.map(ToString::to_string))
    .bind(id)
    .bind(entry.at.to_string())
    .execute(on)
    .await?;
    Ok(())
}

/// An entry for the lists alone: whoever decides by it reads it again and checks its hash.
fn unchecked(row: &SqliteRow) -> Result<Entry, sqlx::Error> {
    let run: String = row.try_get("run")?;
    let event: String = row.try_get("event")?;
    Ok(Entry {
        seq: row.try_get::<i64, _>("seq")?.unsigned_abs(),
        version: row.try_get("version")?,
        at: parsed(row, "at")?,
        run: if run.is_empty() { None } else { Some(parsed(row, "run")?) },
        event: serde_json::from_str(&event).map_err(|bad| sqlx::Error::Decode(Box::new(bad)))?,
        previous: parsed(row, "previous")?,
        hash: parsed(row, "hash")?,
    })
}

fn run_row(row: &SqliteRow) -> Result<RunRow, sqlx::Error> {
    let customers: String = row.try_get("customers")?;
    let verdict: Option<String> = row.try_get("verdict")?;
    let verdict = verdict.map(|word| serde_json::from_value::<Verdict>(word.into())).transpose();
    let verdict = verdict.map_err(|bad| sqlx::Error::Decode(Box::new(bad)))?;
    Ok(RunRow {
        run: parsed(row, "run")?,
        patch: parsed(row, "patch")?,
        patch_id: parsed(row, "patch_id")?,
        tested: row.try_get::<u32, _>("tested")? as usize,
        plan_digest: parsed(row, "plan_digest")?,
        cells: row.try_get::<u32, _>("cells")? as usize,
        customers: customers
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map_err(|bad| sqlx::Error::Decode(Box::new(bad)))?,
        by: row.try_get("launched_by")?,
        planned: parsed(row, "planned_at")?,
        seq: row.try_get::<i64, _>("seq")?.unsigned_abs(),
        ended: verdict.map(|verdict| Ok::<_, sqlx::Error>((parsed(row, "ended_at")?, verdict))).transpose()?,
    })
}

pub(super) fn parsed<T: FromStr>(row: &SqliteRow, column: &str) -> Result<T, sqlx::Error>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.try_get(column)?;
    text.parse().map_err(|bad: T::Err| sqlx::Error::Decode(Box::new(bad)))
}

#[cfg(test)]
#[path = "projection_tests.rs"]
mod tests;
