//! What people do about decisions.
//!
//! Invariant: who says yes, and what comes of anything that is said, is judged by policy, builds and images as they are at that very
//! moment. A word against a patch is put on record whatever they are.

use jiff::Timestamp;
use uuid::Uuid;

use super::board::{Board, Key};
use crate::api::Problem;
use crate::lab::gate::{GateError, Yes};
use crate::verdict::gate::{Decision, Waiver, WaiverRecord};

impl Board {
    /// The decision as it is now.
    ///
    /// # Errors
    /// When the gate gives none.
    pub async fn decision(&self, key: &Key, by: &str) -> Result<Decision, Problem> {
        self.current(key, by).await?;
        Ok(self.gate.settle(key.0, &key.1, Timestamp::now()).await?)
    }

    /// The same by a catalog that is read now: not even a moment ago is early enough for who acts.
    ///
    /// # Errors
    /// When the gate gives none.
    pub async fn ask(&self, key: &Key, by: &str) -> Result<Decision, Problem> {
        self.refresh().await;
        self.decision(key, by).await
    }

    /// Approves; the record gets this id.
    ///
    /// # Errors
    /// When there is no decision, or the gate refuses.
    pub async fn approve(&self, id: Uuid, key: &Key, yes: &Yes<'_>) -> Result<Decision, Problem> {
        self.ask(key, yes.by).await?;
        Ok(self.gate.approve(id, key.0, &key.1, yes, Timestamp::now()).await?)
    }

    /// Proposes to waive a finding; the record gets this id.
    ///
    /// # Errors
    /// When there is no decision, or the gate refuses.
    pub async fn propose(&self, id: Uuid, waiver: Waiver, by: &str) -> Result<WaiverRecord, Problem> {
        self.ask(&(waiver.patch, waiver.customer.clone()), by).await?;
        Ok(self.gate.propose(id, waiver, by, Timestamp::now()).await?)
    }

    /// Consents to a waiver that somebody else has proposed. `again`: nothing is done where this person has done so.
    ///
    /// # Errors
    /// When there is no decision, or the gate refuses.
    pub async fn consent(&self, id: Uuid, by: &str, again: bool) -> Result<Decision, Problem> {
        let asked = self.ask(&self.gate.about(id).await?, by).await?;
        if again && self.gate.has_consented(id, by).await? {
            return Ok(asked);
        }
        Ok(self.gate.consent(id, by, Timestamp::now()).await?)
    }

    /// Rejects, also where the catalog has mistakes by now; the record gets this id.
    ///
    /// # Errors
    /// When the gate was never asked about it and can't be.
    pub async fn reject(&self, id: Uuid, key: &Key, by: &str, reason: &str) -> Result<Decision, Problem> {
        let asked = self.ask(key, by).await;
        match self.gate.reject(id, key.0, &key.1, by, reason, Timestamp::now()).await {
            Err(GateError::NotAsked { .. }) if asked.is_err() => asked,
            rejected => Ok(rejected?),
        }
    }

    /// Takes back a waiver, an approval or a rejection. What comes of it is decided by what is asked for now, or not at all.
    /// `again`: nothing is done where this person has done so.
    ///
    /// # Errors
    /// When there is none such, it was taken back before, or there is no decision.
    pub async fn revoke(&self, id: Uuid, by: &str, reason: &str, again: bool) -> Result<Decision, Problem> {
        let key = match again && self.gate.has_revoked(id, by).await? {
            true => self.gate.about(id).await?,
            false => self.gate.revoke(id, by, reason, Timestamp::now()).await?,
        };
        self.ask(&key, by).await.map_err(|problem| problem.but("it is taken back, and there is no decision now"))
    }
}
