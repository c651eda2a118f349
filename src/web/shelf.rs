//! What overviews show, remembered, so that no page reads the whole journal: the last decision of each patch and customer, the waivers,
//! the runs that keep machines.
//!
//! Invariant: before it is looked at it is brought up to the journal's last entry. It decides nothing: a decision whose time is over is
//! shown as over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::Mutex;

use crate::id::{Digest, Name, RunId};
use crate::journal::projection::RunFilter;
use crate::journal::{Event, Journal, JournalError, Record};
use crate::lab::gate::{Gate, GateError, WaiverView};
use crate::verdict::gate::{Decision, Records, Requirement, Status, same_person};

/// A decision as it is remembered.
#[derive(Clone, Debug)]
pub struct Line {
    /// The entry that it is from.
    pub seq: u64,
    /// Without the requirements that are met.
    pub decision: Decision,
    /// People who can't approve it: they launched a run that it rests on, or have approved it.
    pub barred: BTreeSet<String>,
}

/// Everything that is remembered.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    pub decisions: BTreeMap<(Digest, Name), Line>,
    pub waivers: Vec<WaiverView>,
}

#[derive(Default)]
struct Inner {
    /// The last entry that is known.
    head: u64,
    waivers_at: Option<u64>,
    standing: Arc<Standing>,
    keepers: BTreeSet<RunId>,
    keepers_at: u64,
}

#[derive(Default)]
pub struct Shelf {
    inner: Mutex<Inner>,
}

impl Shelf {
    /// What there is now.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub async fn look(&self, journal: &Journal, now: Timestamp) -> Result<Arc<Standing>, GateError> {
        let mut inner = self.inner.lock().await;
        let head = journal.head().await?;
        if head == inner.head && inner.waivers_at.is_some() {
            return Ok(inner.standing.clone());
        }
        let news = journal.decided_after(inner.head).await?;
        let waivers_at = journal.last_waiver().await?;
        if !news.is_empty() || inner.waivers_at != Some(waivers_at) {
            let mut standing = (*inner.standing).clone();
            for entry in news {
                if let Event::Recorded { record } = entry.event
                    && let Record::Decided { decision } = *record
                {
                    let line = line(journal, entry.seq, *decision).await?;
                    standing.decisions.insert((line.decision.patch.sha256, line.decision.customer.clone()), line);
                }
            }
            if inner.waivers_at != Some(waivers_at) {
                standing.waivers = Gate::new(journal.clone()).waivers(None, None, now).await?;
                inner.waivers_at = Some(waivers_at);
            }
            inner.standing = Arc::new(standing);
        }
        inner.head = head;
        Ok(inner.standing.clone())
    }

    /// The runs that keep machines, or did.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub async fn keepers(&self, journal: &Journal) -> Result<Vec<RunId>, JournalError> {
        let mut inner = self.inner.lock().await;
        let head = journal.head().await?;
        let news = journal.kept_after(inner.keepers_at).await?;
        inner.keepers.extend(news);
        inner.keepers_at = head;
        Ok(inner.keepers.iter().copied().collect())
    }

    /// Forgets a run that keeps nothing any more.
    pub async fn let_go(&self, run: RunId) {
        self.inner.lock().await.keepers.remove(&run);
    }
}

async fn line(journal: &Journal, seq: u64, decision: Decision) -> Result<Line, JournalError> {
    let lacks = |it: &&Requirement| !it.reason.is_met();
    let waits = decision.status == Status::Pending && decision.requirements.iter().filter(lacks).all(|it| it.what.starts_with("approval:"));
    let barred = if waits { barred(journal, &decision).await? } else { BTreeSet::new() };
    let requirements = decision.requirements.iter().filter(lacks).map(|it| Requirement { findings: Vec::new(), ..it.clone() }).collect();
    Ok(Line { seq, decision: Decision { requirements, ..decision }, barred })
}

async fn barred(journal: &Journal, decision: &Decision) -> Result<BTreeSet<String>, JournalError> {
    let (patch, customer) = (decision.patch.sha256, &decision.customer);
    let records = Records::fold(patch, customer, &journal.records(patch, customer).await?, Timestamp::MAX);
    let given = records.approvals.iter().filter(|one| one.revoked.is_none() && one.approval.basis == decision.digests.basis);
    let mut barred: BTreeSet<String> = given.map(|one| one.approval.by.clone()).collect();
    if !records.requirements.is_some_and(|it| it.policy.launcher_may_approve) {
        let filter = RunFilter { patch: Some(patch), ..RunFilter::default() };
        let runs = journal.page(&filter, None, u32::MAX).await?;
        barred.extend(runs.into_iter().filter(|row| decision.digests.runs.contains_key(&row.run)).map(|row| row.by));
    }
    Ok(barred)
}

impl Line {
    /// The decision as it stands at a moment. One whose time is over is never shown as open.
    pub fn at(&self, now: Timestamp) -> Decision {
        let over = self.decision.until.is_some_and(|until| until <= now);
        let status = match self.decision.status {
            Status::Approved | Status::ApprovedWithWaivers if over => Status::Expired,
            Status::Pending if over => Status::Inconclusive,
            status => status,
        };
        if status == self.decision.status {
            return self.decision.clone();
        }
        Decision { status, summary: "its time is over; open it to have it decided again".to_owned(), ..self.decision.clone() }
    }

    pub fn is_barred(&self, person: &str) -> bool {
        self.barred.iter().any(|barred| same_person(barred, person))
    }
}
