//! What pages show besides decisions, remembered, so that none reads the whole journal: the waivers, who can't approve what waits, the
//! usual times. The decisions are on the [`Board`].
//!
//! Invariant: before it is looked at it is brought up to the journal's last entry. It decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::Mutex;

use crate::api::decisions::Row;
use crate::api::decisions::board::{Board, Key};
use crate::id::RunId;
use crate::journal::projection::RunFilter;
use crate::journal::{Journal, JournalError};
use crate::lab::gate::{Gate, GateError, WaiverView};
use crate::lab::history::History;
use crate::verdict::gate::{Records, same_person};

#[derive(Default)]
struct Inner {
    waivers: Arc<Vec<WaiverView>>,
    /// The last entry about a waiver that is known.
    waivers_at: Option<u64>,
    /// Of each decision that waits for an approval: the entry that it is from, and the people who can't give it.
    barred: BTreeMap<Key, (u64, BTreeSet<String>)>,
    /// The usual times, and the runs from which they were learnt.
    usual: (Vec<RunId>, Arc<History>),
}

/// Runs from which the usual times are learnt.
const REMEMBERED: u32 = 20;

#[derive(Default)]
pub struct Shelf {
    inner: Mutex<Inner>,
}

impl Shelf {
    /// Every waiver.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub async fn waivers(&self, journal: &Journal, now: Timestamp) -> Result<Arc<Vec<WaiverView>>, GateError> {
        let mut inner = self.inner.lock().await;
        let last = journal.last_waiver().await?;
        if inner.waivers_at != Some(last) {
            inner.waivers = Arc::new(Gate::new(journal.clone()).waivers(None, None, now).await?);
            inner.waivers_at = Some(last);
        }
        Ok(inner.waivers.clone())
    }

    /// The usual times, from the last runs that ended.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub async fn usual(&self, journal: &Journal) -> Result<Arc<History>, JournalError> {
        let mut inner = self.inner.lock().await;
        let ended = RunFilter { ended: Some(true), ..RunFilter::default() };
        let runs: Vec<RunId> = journal.page(&ended, None, REMEMBERED).await?.iter().map(|row| row.run).collect();
        if inner.usual.0 != runs {
            let mut history = History::default();
            for run in &runs {
                journal.state(*run).await?.iter().for_each(|state| history.learn(state));
            }
            inner.usual = (runs, Arc::new(history));
        }
        Ok(inner.usual.1.clone())
    }

    /// The decisions that wait for an approval and that this person is not kept from approving, as they stand at a moment.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub async fn approvable(&self, board: &Board, person: &str, now: Timestamp) -> Result<Vec<Row>, JournalError> {
        let mut inner = self.inner.lock().await;
        let waiting = board.rows(now, |row| !row.lacks.is_empty());
        let mut known = std::mem::take(&mut inner.barred);
        let mut approvable = Vec::new();
        for row in waiting {
            let key = (row.sha256, row.customer.clone());
            let barred = match known.remove(&key).filter(|(seq, _)| *seq == row.seq) {
                Some((_, barred)) => barred,
                None => barred(&board.journal, &key).await?,
            };
            if !barred.iter().any(|barred| same_person(barred, person)) {
                approvable.push(row.clone());
            }
            inner.barred.insert(key, (row.seq, barred));
        }
        Ok(approvable)
    }
}

/// People who can't approve the last decision: they launched a run that it rests on, or have approved it.
async fn barred(journal: &Journal, (patch, customer): &Key) -> Result<BTreeSet<String>, JournalError> {
    let records = Records::fold(*patch, customer, &journal.records(*patch, customer).await?, Timestamp::MAX);
    let Some(decision) = records.last else { return Ok(BTreeSet::new()) };
    let given = records.approvals.iter().filter(|one| one.revoked.is_none() && one.approval.basis == decision.digests.basis);
    let mut barred: BTreeSet<String> = given.map(|one| one.approval.by.clone()).collect();
    if !records.requirements.is_some_and(|it| it.policy.launcher_may_approve) {
        let filter = RunFilter { patch: Some(*patch), ..RunFilter::default() };
        let runs = journal.page(&filter, None, u32::MAX).await?;
        barred.extend(runs.into_iter().filter(|row| decision.digests.runs.contains_key(&row.run)).map(|row| row.by));
    }
    Ok(barred)
}
