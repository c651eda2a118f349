//! What a decision is made from, folded from the journal.
//!
//! Invariant: a record counts for what it may say and no more. A consent by the proposer, an approval of a revision that was not the last
//! one, a second record under a known id: all of them are passed over.

use jiff::Timestamp;
use uuid::Uuid;

use super::{Act, ApprovalRecord, DecidedPatch, Decision, Readings, RejectionRecord, Requirements, WaiverRecord};
use crate::id::{Digest, Name};
use crate::journal::{Entry, Event, Record, RunState};
use crate::verdict::Judgement;
use crate::verdict::judge::judge;

/// Everything that a decision follows from.
#[derive(Clone, Debug)]
pub struct GateInputs {
    pub requirements: Requirements,
    /// The patch that took this one's place.
    pub superseded_by: Option<DecidedPatch>,
    /// Runs of the patch, in any order.
    pub runs: Vec<RunEvidence>,
    pub waivers: Vec<WaiverRecord>,
    pub approvals: Vec<ApprovalRecord>,
    pub rejections: Vec<RejectionRecord>,
    /// The decision before this one.
    pub last: Option<Decision>,
}

/// A run and what it means.
#[derive(Clone, Debug)]
pub struct RunEvidence {
    pub state: RunState,
    pub judgement: Judgement,
    /// It ended by a clock that was ahead, so that nobody knows how long ago.
    pub ahead: bool,
}

impl RunEvidence {
    /// What a run says whose entries these are.
    pub fn of(state: RunState, history: &[Entry], readings: &Readings) -> Self {
        let told = Self { judgement: judge(&state), state, ahead: false };
        // The simulator's time is its own, and always ahead.
        Self { ahead: told.is_simulated(false) && readings.contradict(history), ..told }
    }

    /// Whether its machines were the simulator's, or real ones.
    pub fn is_simulated(&self, simulated: bool) -> bool {
        self.state.on().all(|controller| controller.is_simulated() == simulated)
    }
}

/// The entries of one run that were there at a moment.
pub fn until(entries: &[Entry], as_of: Timestamp) -> &[Entry] {
    let there = entries.iter().take_while(|entry| entry.at <= as_of).count();
    entries.get(..there).unwrap_or_default()
}

/// Whether two names mean one person.
pub fn same_person(one: &str, other: &str) -> bool {
    one.trim().to_lowercase() == other.trim().to_lowercase()
}

/// What is on record about a patch and a customer.
#[derive(Clone, Debug, Default)]
pub struct Records {
    pub requirements: Option<Requirements>,
    /// When the gate was first asked.
    pub first_asked: Option<Timestamp>,
    pub waivers: Vec<WaiverRecord>,
    pub approvals: Vec<ApprovalRecord>,
    pub rejections: Vec<RejectionRecord>,
    pub last: Option<Decision>,
}

impl Records {
    /// What was on record about a patch and a customer at a moment. The entries are in the journal's order.
    pub fn fold(patch: Digest, customer: &Name, entries: &[Entry], as_of: Timestamp) -> Self {
        let mut records = Self::default();
        for entry in entries.iter().filter(|entry| entry.at <= as_of) {
            if let Event::Recorded { record } = &entry.event
                && matches!(record.scope(), (None, None) | (Some(_), Some(_)))
                && record.scope().0.is_none_or(|one| one == patch)
                && record.scope().1.is_none_or(|one| one == customer)
            {
                records.take(record, entry.at);
            }
        }
        records
    }

    fn take(&mut self, record: &Record, at: Timestamp) {
        match record {
            Record::RequirementsSet { requirements } => {
                self.first_asked = self.first_asked.or(Some(at));
                self.requirements = Some((**requirements).clone());
            }
            Record::WaiverProposed { id, waiver, by } if !self.knows(*id) => self.waivers.push(WaiverRecord {
                id: *id,
                waiver: waiver.clone(),
                proposed: Act { by: by.clone(), at, reason: waiver.reason.clone() },
                consented: None,
                revoked: None,
            }),
            Record::WaiverConsented { id, by } => {
                let waiver = self.waivers.iter_mut().find(|waiver| waiver.id == *id);
                if let Some(waiver) = waiver.filter(|waiver| waiver.consented.is_none() && !same_person(by, &waiver.proposed.by)) {
                    waiver.consented = Some(Act { by: by.clone(), at, reason: String::new() });
                }
            }
            Record::WaiverRevoked { id, by, reason } => {
                let waiver = self.waivers.iter_mut().find(|waiver| waiver.id == *id);
                revoke(waiver.map(|waiver| &mut waiver.revoked), by, at, reason);
            }
            Record::Approved { id, approval } if !self.knows(*id) => {
                let seen = |last: &Decision| (last.revision, last.digests.basis) == (approval.revision, approval.basis);
                if self.last.as_ref().is_some_and(seen) {
                    self.approvals.push(ApprovalRecord { id: *id, approval: approval.clone(), at, revoked: None });
                }
            }
            Record::Rejected { id, rejection } if !self.knows(*id) => {
                self.rejections.push(RejectionRecord { id: *id, rejection: rejection.clone(), at, revoked: None });
            }
            Record::ApprovalRevoked { id, by, reason } => {
                let approval = self.approvals.iter_mut().find(|approval| approval.id == *id).map(|approval| &mut approval.revoked);
                let rejection = self.rejections.iter_mut().find(|rejection| rejection.id == *id).map(|rejection| &mut rejection.revoked);
                revoke(approval.or(rejection), by, at, reason);
            }
            Record::Decided { decision } => self.last = Some((**decision).clone()),
            Record::WaiverProposed { .. }
            | Record::Approved { .. }
            | Record::Rejected { .. }
            | Record::PatchAdded { .. }
            | Record::ClockPutBack { .. }
            | Record::Refused { .. } => {}
        }
    }

    fn knows(&self, id: Uuid) -> bool {
        let waivers = self.waivers.iter().map(|waiver| waiver.id);
        let approvals = self.approvals.iter().map(|approval| approval.id);
        waivers.chain(approvals).chain(self.rejections.iter().map(|rejection| rejection.id)).any(|known| known == id)
    }

    /// With the runs, all that a decision needs. `None` where nothing was required yet.
    pub fn with(self, candidates: &[Entry], runs: Vec<RunEvidence>, as_of: Timestamp) -> Option<GateInputs> {
        let requirements = self.requirements?;
        Some(GateInputs {
            superseded_by: superseded_by(&requirements, candidates, as_of),
            requirements,
            runs,
            waivers: self.waivers,
            approvals: self.approvals,
            rejections: self.rejections,
            last: self.last,
        })
    }
}

fn revoke(revoked: Option<&mut Option<Act>>, by: &str, at: Timestamp, reason: &str) {
    if let Some(revoked) = revoked {
        revoked.get_or_insert_with(|| Act { by: by.to_owned(), at, reason: reason.to_owned() });
    }
}

/// The newest candidate that takes this one's place: it names it, or has its id and other bytes and came in after it.
fn superseded_by(requirements: &Requirements, candidates: &[Entry], as_of: Timestamp) -> Option<DecidedPatch> {
    let added = candidates.iter().filter(|entry| entry.at <= as_of).filter_map(|entry| match &entry.event {
        Event::Recorded { record } => match &**record {
            Record::PatchAdded { patch, id, supersedes, .. } => Some((*patch, id, supersedes)),
            _ => None,
        },
        _ => None,
    });
    let mut others: Vec<DecidedPatch> = Vec::new();
    for (patch, id, supersedes) in added {
        if patch == requirements.patch {
            // Other bytes of its own make room for it, and so does what it supersedes. What names it has its place, whichever came in first.
            others.retain(|other| other.id != requirements.patch_id && !supersedes.contains(&other.id));
        } else if *id == requirements.patch_id || supersedes.contains(&requirements.patch_id) {
            others.push(DecidedPatch { id: id.clone(), sha256: patch });
        }
    }
    others.pop()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::gate::tests::fixture::{at, name, requirements};

    /// Candidates in the order in which they came in, each with its bytes, id and what it supersedes; and which bytes supersede the first.
    type Row = (&'static [(&'static str, &'static str, &'static [&'static str])], Option<&'static str>);

    #[test]
    fn who_takes_a_patchs_place() {
        const TABLE: &[Row] = &[
            (&[("old", "one", &[])], None),
            (&[("old", "one", &[]), ("new", "two", &["one"])], Some("new")),
            // Brought in behind the one that stands for it.
            (&[("new", "two", &["one"]), ("old", "one", &[])], Some("new")),
            (&[("old", "one", &[]), ("new", "two", &["one"]), ("old", "one", &[])], Some("new")),
            (&[("new", "two", &["one"]), ("bytes", "one", &[]), ("old", "one", &[])], Some("new")),
            // Other bytes of the same id: the last one counts.
            (&[("old", "one", &[]), ("bytes", "one", &[])], Some("bytes")),
            (&[("bytes", "one", &[]), ("old", "one", &[])], None),
            (&[("bytes", "one", &["one"]), ("old", "one", &[])], None),
            // Two that name each other.
            (&[("new", "two", &["one"]), ("old", "one", &["two"])], None),
            (&[("old", "one", &["two"]), ("new", "two", &["one"])], Some("new")),
            (&[("old", "one", &[]), ("other", "two", &["three"])], None),
        ];
        for (added, expected) in TABLE {
            let entry = |(seq, (bytes, id, supersedes)): (usize, &(&str, &str, &[&str]))| {
                let supersedes = supersedes.iter().map(|id| name(id)).collect();
                let record = Record::PatchAdded { patch: Digest::of(bytes), id: name(id), supersedes, by: "alice".to_owned() };
                let (event, zero) = (Event::Recorded { record: Box::new(record) }, Digest::of(""));
                Entry { seq: seq as u64, version: 1, at: at(0), run: None, event, previous: zero, hash: zero }
            };
            let entries: Vec<_> = added.iter().enumerate().map(entry).collect();
            let wanted = Requirements { patch: Digest::of("old"), patch_id: name("one"), ..requirements() };
            let later = superseded_by(&wanted, &entries, at(1));
            assert_eq!(later.map(|one| one.sha256), expected.map(Digest::of), "{added:?}");
        }
    }
}
