//! What people have said for and against patches, listed; and the decision as it is on record.

use std::collections::BTreeSet;

use jiff::Timestamp;
use uuid::Uuid;

use super::{Gate, GateError, WaiverView};
use crate::id::{Digest, Name};
use crate::journal::Event;
use crate::verdict::gate::{ApprovalRecord, Decision, Records, RejectionRecord, WaiverRecord, same_person, void};

/// An approval, and whether it was given for what the decision rests on now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalView {
    pub record: ApprovalRecord,
    pub holds: bool,
}

impl Gate {
    /// The decision as it is now and as it is on record: its moment is that from which on it said so.
    ///
    /// # Errors
    /// As [`Gate::settle`].
    pub async fn stand(&self, patch: Digest, customer: &Name, now: Timestamp) -> Result<Decision, GateError> {
        let (decision, read) = self.settled(patch, customer, now).await?;
        Ok(read.inputs.last.filter(|last| decision.says_the_same(last)).unwrap_or(decision))
    }

    /// Every waiver of this patch and this customer, or of all, in the order of their proposals.
    ///
    /// # Errors
    /// When the journal lets it down.
    pub async fn waivers(&self, patch: Option<Digest>, customer: Option<&Name>, now: Timestamp) -> Result<Vec<WaiverView>, GateError> {
        let now = self.moment(now).await?;
        let mut views = Vec::new();
        for records in self.said("waiver-proposed", patch, customer, now).await? {
            let rule = records.requirements.and_then(|requirements| requirements.policy.waiver);
            let view = |record: WaiverRecord| WaiverView { void: void(&record, rule.as_ref(), now), record };
            views.extend(records.waivers.into_iter().map(view));
        }
        views.sort_by_key(|view| view.record.proposed.at);
        Ok(views)
    }

    /// Every approval of this patch and this customer, or of all, the oldest first.
    ///
    /// # Errors
    /// When the journal lets it down.
    pub async fn approvals(&self, patch: Option<Digest>, customer: Option<&Name>) -> Result<Vec<ApprovalView>, GateError> {
        let mut views = Vec::new();
        for records in self.said("approved", patch, customer, Timestamp::MAX).await? {
            let basis = records.last.as_ref().map(|last| last.digests.basis);
            let holds = |record: &ApprovalRecord| record.revoked.is_none() && Some(record.approval.basis) == basis;
            views.extend(records.approvals.into_iter().map(|record| ApprovalView { holds: holds(&record), record }));
        }
        views.sort_by_key(|view| view.record.id);
        Ok(views)
    }

    /// Every rejection of this patch and this customer, or of all, the oldest first.
    ///
    /// # Errors
    /// When the journal lets it down.
    pub async fn rejections(&self, patch: Option<Digest>, customer: Option<&Name>) -> Result<Vec<RejectionRecord>, GateError> {
        let all = self.said("rejected", patch, customer, Timestamp::MAX).await?;
        let mut rejections: Vec<_> = all.into_iter().flat_map(|records| records.rejections).collect();
        rejections.sort_by_key(|record| record.id);
        Ok(rejections)
    }

    /// What was on record at a moment about each patch and customer with a record of this kind.
    async fn said(
        &self,
        kind: &'static str,
        patch: Option<Digest>,
        customer: Option<&Name>,
        as_of: Timestamp,
    ) -> Result<Vec<Records>, GateError> {
        let mut scopes = BTreeSet::new();
        for entry in self.journal.records_of_kind(kind).await? {
            if let Event::Recorded { record } = &entry.event
                && let (Some(one), Some(other)) = record.scope()
                && patch.is_none_or(|patch| patch == one)
                && customer.is_none_or(|customer| customer == other)
            {
                scopes.insert((one, other.clone()));
            }
        }
        let mut all = Vec::new();
        for (patch, customer) in scopes {
            all.push(Records::fold(patch, &customer, &self.journal.records(patch, &customer).await?, as_of));
        }
        Ok(all)
    }

    /// Puts on record that somebody asked for what their role may not.
    ///
    /// # Errors
    /// When the journal lets it down.
    pub async fn note_refusal(&self, what: &str, by: &str, reason: &str, now: Timestamp) -> Result<(), GateError> {
        self.refuse(what, None, by, GateError::Refused(reason.to_owned()), now).await.map(|_| ())
    }

    /// The patch and the customer that the record with this id is about.
    ///
    /// # Errors
    /// When the journal lets it down, or there is none such.
    pub async fn about(&self, id: Uuid) -> Result<(Digest, Name), GateError> {
        self.journal.scope_of(id).await?.ok_or(GateError::Unknown(id))
    }

    /// Whether this person has consented to this waiver.
    ///
    /// # Errors
    /// When the journal lets it down, or there is no such record.
    pub async fn has_consented(&self, id: Uuid, by: &str) -> Result<bool, GateError> {
        let records = self.records_about(id).await?;
        let consented = records.waivers.into_iter().find(|one| one.id == id).and_then(|one| one.consented);
        Ok(consented.is_some_and(|act| same_person(&act.by, by)))
    }

    /// Whether this person has taken back what has this id.
    ///
    /// # Errors
    /// When the journal lets it down, or there is no such record.
    pub async fn has_revoked(&self, id: Uuid, by: &str) -> Result<bool, GateError> {
        let records = self.records_about(id).await?;
        let waivers = records.waivers.into_iter().map(|one| (one.id, one.revoked));
        let approvals = records.approvals.into_iter().map(|one| (one.id, one.revoked));
        let rejections = records.rejections.into_iter().map(|one| (one.id, one.revoked));
        let revoked = waivers.chain(approvals).chain(rejections).find(|(one, _)| *one == id).and_then(|(_, revoked)| revoked);
        Ok(revoked.is_some_and(|act| same_person(&act.by, by)))
    }

    async fn records_about(&self, id: Uuid) -> Result<Records, GateError> {
        let (patch, customer) = self.about(id).await?;
        Ok(Records::fold(patch, &customer, &self.journal.records(patch, &customer).await?, Timestamp::MAX))
    }

    /// Whether this is the id of a record of this kind.
    ///
    /// # Errors
    /// When the journal lets it down, or it is not.
    pub async fn must_be(&self, id: Uuid, kind: &str) -> Result<(), GateError> {
        if self.journal.kind_of(id).await?.as_deref() == Some(kind) { Ok(()) } else { Err(GateError::Unknown(id)) }
    }
}
