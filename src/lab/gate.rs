//! The gate at work: reads the journal, has [`decide`] decide, and puts on record what changed.
//!
//! Invariants: nothing here decides, nor who may say what. An approval is checked against the newest decision and written only if nothing
//! came between. Whatever else a person says is checked too, and may be overtaken before it is written; what it counts for is said by
//! [`decide`] each time. A refusal is put on record. No lock on the state folder is needed: a run may be going on.

pub mod herald;
mod word;

pub use word::ApprovalView;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use thiserror::Error;
use uuid::Uuid;

use crate::catalog::Catalog;
use crate::catalog::policy::Role;
use crate::catalog::webhook::Webhook;
use crate::id::{Digest, Name};
use crate::journal::projection::RunFilter;
use crate::journal::{Entry, Event, Journal, JournalError, Record, RunState};
use crate::plan::{NoPlan, PlannedPatch, SealedImage, required};
use crate::verdict::gate::{
    Act, Approval, Decision, GateFinding, GateInputs, Readings, Records, Rejection, Requirements, RunEvidence, Unfit, Waiver, WaiverRecord,
    decide, flaw, is_put_back, unfit_to_approve, unfit_to_consent, until,
};

/// How often something is tried again when another process was faster.
const TRIES: usize = 50;

/// Why the gate gave no decision, or did not do what a person asked for.
#[derive(Debug, Error)]
pub enum GateError {
    #[error("there is no customer {customer}; there is: {known}")]
    NoCustomer { customer: Name, known: String },
    #[error("customer {customer} has no policy, so the gate stays closed; write a [policy] into builds/{customer}/customer.toml")]
    NoPolicy { customer: Name },
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    NoPlan(Vec<NoPlan>),
    #[error("the gate was not asked about patch {} for {customer} by then; ask it: patchlab gate {} --customer {customer}", patch.short(), patch.short())]
    NotAsked { patch: Digest, customer: Name },
    #[error("refused: {0}")]
    Refused(String),
    #[error("refused: {0}")]
    Unfit(#[from] Unfit),
    #[error("revision {asked} is not the current one, which is {current}: look again before you decide")]
    Moved { asked: u32, current: u32 },
    #[error("there is no waiver, approval or rejection {0}; list the waivers: patchlab waivers")]
    Unknown(Uuid),
    #[error("the journal changed {TRIES} times while this was decided; try again")]
    Busy,
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// May this patch go to this customer, by what the catalog and the images are now?
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub patch: &'a PlannedPatch,
    pub customer: &'a Name,
    pub catalog: &'a Catalog,
    pub images: &'a BTreeMap<Name, SealedImage>,
    /// Whether the machines are the simulator's.
    pub simulated: bool,
    /// Who asks.
    pub by: &'a str,
}

/// A waiver, and why it does not count.
#[derive(Clone, Debug)]
pub struct WaiverView {
    pub record: WaiverRecord,
    pub void: Option<&'static str>,
}

/// A person's yes.
#[derive(Clone, Copy, Debug)]
pub struct Yes<'a> {
    /// The revision that the person saw; the newest when left out.
    pub revision: Option<u32>,
    pub role: Role,
    pub by: &'a str,
    pub comment: &'a str,
}

/// The gate of one lab.
#[derive(Clone, Debug)]
pub struct Gate {
    journal: Journal,
    /// Who is told of final decisions.
    webhooks: Arc<[Webhook]>,
}

/// What the journal held when it was read.
struct Read {
    head: u64,
    as_of: Timestamp,
    inputs: GateInputs,
}

impl Gate {
    /// A gate that tells nobody: it must not be the one that decides.
    pub fn new(journal: Journal) -> Self {
        Self::telling(journal, Vec::new())
    }

    pub fn telling(journal: Journal, webhooks: Vec<Webhook>) -> Self {
        Self { journal, webhooks: webhooks.into() }
    }

    /// Puts on record that a candidate is there, so that it takes the place of those that it supersedes. One that is known keeps its place,
    /// unless it is brought in `again`.
    ///
    /// # Errors
    /// When the journal lets it down.
    pub async fn announce(&self, patch: &PlannedPatch, again: bool, by: &str, now: Timestamp) -> Result<(), GateError> {
        let (sha256, id) = (patch.sha256, &patch.manifest.id);
        let known = self.journal.candidates(sha256, id).await?;
        let mut mine = known.iter().filter_map(|entry| added(entry)).filter(|(one, other)| *one == sha256 || *other == id);
        let there = if again { mine.next_back().is_some_and(|(one, _)| one == sha256) } else { mine.any(|(one, _)| one == sha256) };
        if !there {
            let supersedes = patch.manifest.supersedes.clone();
            let record = Record::PatchAdded { patch: sha256, id: id.clone(), supersedes, by: by.to_owned() };
            self.journal.append_with(None, now, vec![record], Vec::new()).await?;
        }
        Ok(())
    }

    /// Holds the patch to what policy, builds and images are now. What is on record already is not written again.
    ///
    /// # Errors
    /// When the customer has no policy, or it asks for what cannot be planned; or the simulator is to take the place of real machines.
    pub async fn require(&self, question: &Question<'_>, now: Timestamp) -> Result<(), GateError> {
        let Question { patch, customer, catalog, images, simulated, by } = *question;
        let entry = catalog.customers.get(customer).ok_or_else(|| GateError::NoCustomer {
            customer: customer.clone(),
            known: catalog.customers.keys().map(Name::as_str).collect::<Vec<_>>().join(", "),
        })?;
        let policy = entry.customer.policy.as_ref().ok_or_else(|| GateError::NoPolicy { customer: customer.clone() })?;
        let terms = policy.terms(&patch.manifest);
        let plan = required(&terms.require, customer, catalog, images, patch).map_err(GateError::NoPlan)?;
        self.announce(patch, false, by, now).await?;
        let now = self.moment(now).await?;
        let records = Records::fold(patch.sha256, customer, &self.journal.records(patch.sha256, customer).await?, Timestamp::MAX);
        let before = records.requirements.as_ref();
        if simulated && before.is_some_and(|before| !before.simulated) {
            let why = "the gate was asked about real machines here; give the simulator a state folder of its own".to_owned();
            return Err(self.refuse("gate", Some((patch.sha256, customer)), by, GateError::Refused(why), now).await?);
        }
        if before.is_some_and(|before| before.policy == terms && before.simulated == simulated && before.plan.digest() == plan.digest()) {
            return Ok(());
        }
        // The first question starts the clock, whatever became of the policy since.
        let due = terms.deadline.and_then(|within| SignedDuration::try_from(within.0).ok());
        let deadline = due.map(|due| records.first_asked.unwrap_or(now).checked_add(due).unwrap_or(Timestamp::MAX));
        let requirements = Requirements {
            patch: patch.sha256,
            patch_id: patch.manifest.id.clone(),
            customer: customer.clone(),
            policy_digest: terms.digest(),
            policy: terms,
            plan: Box::new(plan),
            deadline,
            simulated,
            by: by.to_owned(),
        };
        let record = Record::RequirementsSet { requirements: Box::new(requirements) };
        self.journal.append_with(None, now, vec![record], Vec::new()).await?;
        Ok(())
    }

    /// The decision as it is now, by what was required last (see [`Gate::require`]), put on record where it differs from the last one.
    ///
    /// # Errors
    /// When nothing was required yet, or the journal lets it down.
    pub async fn settle(&self, patch: Digest, customer: &Name, now: Timestamp) -> Result<Decision, GateError> {
        Ok(self.settled(patch, customer, now).await?.0)
    }

    /// The decision as it was at a moment. Nothing is written.
    ///
    /// # Errors
    /// When nothing was required by then, or the journal lets it down.
    pub async fn replay(&self, patch: Digest, customer: &Name, as_of: Timestamp) -> Result<Decision, GateError> {
        let read = self.read(patch, customer, Some(as_of), as_of).await?;
        Ok(decide(&read.inputs, read.as_of))
    }

    async fn settled(&self, patch: Digest, customer: &Name, now: Timestamp) -> Result<(Decision, Read), GateError> {
        for _ in 0..TRIES {
            let mut read = self.read(patch, customer, None, now).await?;
            if is_put_back(&read.inputs, now) {
                // Then it is read again.
                self.journal.append_with(Some(read.head), now, vec![Record::ClockPutBack { clock: now }], Vec::new()).await?;
                continue;
            }
            let decision = decide(&read.inputs, read.as_of);
            if read.inputs.last.as_ref().is_some_and(|last| decision.says_the_same(last)) {
                return Ok((decision, read));
            }
            let record = Record::Decided { decision: Box::new(decision.clone()) };
            let messages = herald::messages(&self.webhooks, read.inputs.last.as_ref(), &decision);
            if let Some(entries) = self.journal.append_with(Some(read.head), read.as_of, vec![record], messages).await? {
                read.head = entries.last().map_or(read.head, |entry| entry.seq);
                return Ok((decision, read));
            }
        }
        Err(GateError::Busy)
    }

    /// Everything about a patch and a customer up to one entry of the journal. Without a moment it is the latest there is: a clock that was
    /// put back brings nothing back.
    async fn read(&self, patch: Digest, customer: &Name, as_of: Option<Timestamp>, now: Timestamp) -> Result<Read, GateError> {
        let head = self.journal.head().await?;
        let there = |entries: Vec<Entry>| entries.into_iter().filter(|entry| entry.seq <= head).collect::<Vec<_>>();
        let records = there(self.journal.records(patch, customer).await?);
        let asked = Records::fold(patch, customer, &records, Timestamp::MAX).requirements;
        let id = asked.map(|asked| asked.patch_id).ok_or_else(|| GateError::NotAsked { patch, customer: customer.clone() })?;
        let candidates = there(self.journal.candidates(patch, &id).await?);
        let mut histories = Vec::new();
        let filter = RunFilter { patch: Some(patch), ..RunFilter::default() };
        for row in self.journal.page(&filter, Some(head + 1), u32::MAX).await? {
            histories.push(there(self.journal.entries(row.run).await?));
        }
        let put_back = there(self.journal.records_of_kind(Record::CLOCK_PUT_BACK).await?);
        let moments = records.iter().chain(&candidates).chain(&put_back).chain(histories.iter().flatten()).map(|entry| entry.at);
        let as_of = as_of.unwrap_or_else(|| moments.fold(now, Timestamp::max));
        let histories: Vec<_> = histories.iter().map(|history| until(history, as_of)).collect();
        let readings = Readings::of(histories.iter().copied().flatten().chain(put_back.iter().filter(|entry| entry.at <= as_of)));
        let mut runs = Vec::new();
        for history in histories {
            let state = RunState::fold(history).map_err(JournalError::from)?;
            runs.extend(state.map(|state| RunEvidence::of(state, history, &readings)));
        }
        let inputs = Records::fold(patch, customer, &records, as_of).with(&candidates, runs, as_of);
        let inputs = inputs.ok_or_else(|| GateError::NotAsked { patch, customer: customer.clone() })?;
        Ok(Read { head, as_of, inputs })
    }

    /// Now, but never before what is on record.
    async fn moment(&self, now: Timestamp) -> Result<Timestamp, GateError> {
        Ok(self.journal.latest_record().await?.map_or(now, |latest| latest.max(now)))
    }

    /// Approves the current revision, by what was required last: call [`Gate::require`] first, so that nobody approves by what was
    /// required once. With an id that is on record already nothing is done again.
    ///
    /// # Errors
    /// When the revision is not the current one, or there is nothing that this person may approve.
    pub async fn approve(&self, id: Uuid, patch: Digest, customer: &Name, yes: &Yes<'_>, now: Timestamp) -> Result<Decision, GateError> {
        for _ in 0..TRIES {
            let (decision, read) = self.settled(patch, customer, now).await?;
            if read.inputs.approvals.iter().any(|one| one.id == id) {
                return Ok(decision);
            }
            if let Some(asked) = yes.revision.filter(|asked| *asked != decision.revision) {
                let refused = GateError::Moved { asked, current: decision.revision };
                return Err(self.refuse("approve", Some((patch, customer)), yes.by, refused, now).await?);
            }
            if let Some(unfit) = unfit_to_approve(&decision, &read.inputs, yes.by, yes.role) {
                return Err(self.refuse("approve", Some((patch, customer)), yes.by, unfit.into(), now).await?);
            }
            let approval = Approval {
                patch,
                customer: customer.clone(),
                revision: decision.revision,
                basis: decision.digests.basis,
                role: yes.role,
                by: yes.by.to_owned(),
                comment: yes.comment.to_owned(),
            };
            let record = Record::Approved { id, approval };
            if self.journal.append_with(Some(read.head), now, vec![record], Vec::new()).await?.is_some() {
                return self.settle(patch, customer, now).await;
            }
        }
        Err(GateError::Busy)
    }

    /// Rejects the patch, whatever its results are or will be, until that is revoked. Whatever was required, that keeps the gate closed.
    /// With an id that is on record already nothing is done again.
    ///
    /// # Errors
    /// When the gate was never asked about it.
    pub async fn reject(
        &self,
        id: Uuid,
        patch: Digest,
        customer: &Name,
        by: &str,
        reason: &str,
        now: Timestamp,
    ) -> Result<Decision, GateError> {
        let read = self.read(patch, customer, None, now).await?;
        if !read.inputs.rejections.iter().any(|one| one.id == id) {
            let rejection = Rejection { patch, customer: customer.clone(), by: by.to_owned(), reason: reason.to_owned() };
            self.journal.append_with(None, now, vec![Record::Rejected { id, rejection }], Vec::new()).await?;
        }
        self.settle(patch, customer, now).await
    }

    /// Takes back a waiver, an approval or a rejection, and says whose. What comes of it is decided by whoever asks next: it can be taken
    /// back also where nothing can be required any more.
    ///
    /// # Errors
    /// When there is none such, or it was taken back before.
    pub async fn revoke(&self, id: Uuid, by: &str, reason: &str, now: Timestamp) -> Result<(Digest, Name), GateError> {
        let (patch, customer) = self.about(id).await?;
        let records = Records::fold(patch, &customer, &self.journal.records(patch, &customer).await?, Timestamp::MAX);
        let waiver = records.waivers.iter().find(|one| one.id == id).map(|one| one.revoked.is_some());
        let approval = records.approvals.iter().find(|one| one.id == id).map(|one| one.revoked.is_some());
        let rejection = records.rejections.iter().find(|one| one.id == id).map(|one| one.revoked.is_some());
        if waiver.or(approval).or(rejection).ok_or(GateError::Unknown(id))? {
            let refused = GateError::Refused(format!("{id} is revoked already"));
            return Err(self.refuse("revoke", Some((patch, &customer)), by, refused, now).await?);
        }
        let (by, reason) = (by.to_owned(), reason.to_owned());
        let record = match waiver {
            Some(_) => Record::WaiverRevoked { id, by, reason },
            None => Record::ApprovalRevoked { id, by, reason },
        };
        self.journal.append_with(None, now, vec![record], Vec::new()).await?;
        Ok((patch, customer))
    }

    /// Proposes to waive a finding that stands in the way now. It counts once another person consents. As with [`Gate::approve`], what is
    /// required now has to be on record, and with an id that is on record already nothing is done again.
    ///
    /// # Errors
    /// When there is no such finding, or the policy does not let it be waived, or not for so long.
    pub async fn propose(&self, id: Uuid, waiver: Waiver, by: &str, now: Timestamp) -> Result<WaiverRecord, GateError> {
        let (patch, customer) = (waiver.patch, waiver.customer.clone());
        let (decision, read) = self.settled(patch, &customer, now).await?;
        if let Some(known) = read.inputs.waivers.iter().find(|one| one.id == id) {
            return Ok(known.clone());
        }
        let at = self.moment(now).await?;
        let proposed = Act { by: by.to_owned(), at, reason: waiver.reason.clone() };
        let whole = WaiverRecord { id, waiver, proposed, consented: None, revoked: None };
        // Where the records are ahead of the clock, as long as they let it be is longer. The simulator's are always ahead.
        let since = if read.inputs.requirements.simulated { at } else { now };
        let by_clock = WaiverRecord { proposed: Act { at: since, ..whole.proposed.clone() }, ..whole.clone() };
        let rule = read.inputs.requirements.policy.waiver.as_ref();
        let findings = || decision.requirements.iter().flat_map(|one| &one.findings);
        let meant = |one: &GateFinding| one.subject() == whole.waiver.case && one.fingerprint == whole.waiver.fingerprint;
        let wrong = match flaw(&whole, rule, at).or_else(|| flaw(&by_clock, rule, at)) {
            Some(wrong) => Some(wrong.to_owned()),
            None if whole.waiver.reason.trim().is_empty() => Some("a waiver needs a reason".to_owned()),
            None if !findings().any(meant) => {
                let known: BTreeSet<_> = findings().map(|one| format!("{} {}", one.subject(), one.fingerprint)).collect();
                let known: Vec<_> = known.into_iter().collect();
                Some(format!(
                    "no requirement has this finding; there is: {}",
                    if known.is_empty() { "none".to_owned() } else { known.join(", ") }
                ))
            }
            None => None,
        };
        if let Some(wrong) = wrong {
            return Err(self.refuse("waive", Some((patch, &customer)), by, GateError::Refused(wrong), now).await?);
        }
        let record = Record::WaiverProposed { id, waiver: whole.waiver.clone(), by: by.to_owned() };
        self.journal.append_with(None, at, vec![record], Vec::new()).await?;
        Ok(whole)
    }

    /// Consents to a waiver that somebody else has proposed. As with [`Gate::approve`], what is required now has to be on record.
    ///
    /// # Errors
    /// When there is none such, or this person may not, or it would not count anyway.
    pub async fn consent(&self, id: Uuid, by: &str, now: Timestamp) -> Result<Decision, GateError> {
        let (patch, customer) = self.about(id).await?;
        let (_, read) = self.settled(patch, &customer, now).await?;
        let record = read.inputs.waivers.iter().find(|one| one.id == id).ok_or(GateError::Unknown(id))?;
        if let Some(unfit) = unfit_to_consent(record, read.inputs.requirements.policy.waiver.as_ref(), by, read.as_of) {
            return Err(self.refuse("consent", Some((patch, &customer)), by, unfit.into(), now).await?);
        }
        let record = Record::WaiverConsented { id, by: by.to_owned() };
        self.journal.append_with(None, now, vec![record], Vec::new()).await?;
        self.settle(patch, &customer, now).await
    }

    /// Puts a refusal on record and hands it on.
    async fn refuse(
        &self,
        what: &str,
        scope: Option<(Digest, &Name)>,
        by: &str,
        refused: GateError,
        now: Timestamp,
    ) -> Result<GateError, GateError> {
        let record = Record::Refused {
            what: what.to_owned(),
            patch: scope.map(|(patch, _)| patch),
            customer: scope.map(|(_, customer)| customer.clone()),
            by: by.to_owned(),
            reason: refused.to_string(),
        };
        self.journal.append_with(None, now, vec![record], Vec::new()).await?;
        Ok(refused)
    }
}

fn added(entry: &Entry) -> Option<(Digest, &Name)> {
    match &entry.event {
        Event::Recorded { record } => match &**record {
            Record::PatchAdded { patch, id, .. } => Some((*patch, id)),
            _ => None,
        },
        _ => None,
    }
}
