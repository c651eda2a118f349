//! A host whose clock was ahead and was put right.

use jiff::{SignedDuration, Timestamp};
use patchlab::id::{Digest, RunId};
use patchlab::journal::{Entry, Event, Journal, Record};
use patchlab::lab::gate::{Gate, GateError};
use patchlab::verdict::gate::{Decision, Requirements, Status, Waiver};
use uuid::Uuid;

use super::lab::{Lab, PLAIN, RED, acme, reason};

/// A simulated run, written again as if it had been on real machines, into a journal of its own.
struct Real {
    journal: Journal,
    gate: Gate,
    patch: Digest,
    entries: Vec<Entry>,
    now: Timestamp,
}

impl Real {
    async fn of(lab: &Lab, simulated: &Journal, patch: Digest) -> Self {
        let run = simulated.runs().await.expect("runs")[0];
        let entries = simulated.entries(run).await.expect("entries");
        let mut records = simulated.records(patch, &acme()).await.expect("records").into_iter();
        let asked = records.find_map(|entry| match entry.event {
            Event::Recorded { record } => match *record {
                Record::RequirementsSet { requirements } => Some(requirements),
                _ => None,
            },
            _ => None,
        });
        let journal = Journal::open(&lab.path("real.sqlite")).await.expect("a journal");
        let (now, requirements) = (Timestamp::now(), Requirements { simulated: false, ..*asked.expect("the gate was asked") });
        let record = Record::RequirementsSet { requirements: Box::new(requirements) };
        journal.append_with(None, now, vec![record], Vec::new()).await.expect("written");
        Self { gate: Gate::new(journal.clone()), journal, patch, entries, now }
    }

    fn day(&self, days: i64) -> Timestamp {
        self.now.checked_add(SignedDuration::from_hours(24 * days)).expect("a moment")
    }

    /// Tries it on this day by the clock.
    async fn tried(&self, number: u64, days: i64) -> RunId {
        let run = RunId::from_parts(number, [1; 10]);
        let events = self.entries.iter().map(|entry| {
            let mut event = entry.event.clone();
            if let Event::RunTaken { controller } = &mut event {
                controller.hypervisor = "qemu:///embed".to_owned();
            }
            (self.day(days), event)
        });
        self.journal.append_all(run, events.collect()).await.expect("written");
        run
    }

    async fn settled(&self, days: i64) -> Decision {
        self.gate.settle(self.patch, &acme(), self.day(days)).await.expect("a decision")
    }
}

#[test]
fn a_run_that_ended_by_a_clock_that_was_ahead_counts_for_nothing_even_when_its_time_has_come() {
    let lab = Lab::new(PLAIN);
    lab.run("", &[]);
    let patch = lab.gate().1.patch.sha256;
    lab.people(async |_, simulated| {
        let real = Real::of(&lab, &simulated, patch).await;
        real.tried(1, 2).await;
        assert_eq!(real.settled(2).await.status, Status::Approved, "by its clock it has just ended");
        for days in [0, 1, 3] {
            let decision = real.settled(days).await;
            assert_eq!((decision.status, reason(&decision)), (Status::Expired, "stale"), "{days}: {}", decision.summary);
            assert!(decision.summary.contains("a clock that was ahead"), "{}", decision.summary);
        }
        let noticed = real.journal.records_of_kind(Record::CLOCK_PUT_BACK).await.expect("records").len();
        assert_eq!(noticed, 1, "once is enough");
        let before = real.gate.replay(patch, &acme(), real.day(2)).await.expect("a decision");
        assert_eq!(before.status, Status::Approved, "nobody knew by then");
        let again = real.tried(2, 0).await;
        let decision = real.settled(0).await;
        assert_eq!((decision.status, decision.requirements[0].run), (Status::Approved, Some(again)), "{}", decision.summary);
    });
}

#[test]
fn while_the_records_are_ahead_of_the_clock_nobody_waives_for_longer_than_the_policy_lets() {
    let lab = Lab::new(PLAIN);
    lab.run(RED, &[]);
    let patch = lab.gate().1.patch.sha256;
    lab.people(async |_, simulated| {
        let real = Real::of(&lab, &simulated, patch).await;
        real.tried(1, 20).await;
        let finding = real.settled(0).await.requirements[0].findings[0].clone();
        // The policy lets it be waived for 30 days.
        let propose = async |days: i64| {
            let waiver = Waiver {
                patch,
                customer: acme(),
                case: finding.subject().to_owned(),
                hardware: None,
                fingerprint: finding.fingerprint,
                expires: real.day(days),
                reason: "known".to_owned(),
            };
            real.gate.propose(Uuid::now_v7(), waiver, "alice", real.now).await
        };
        assert!(matches!(propose(31).await, Err(GateError::Refused(why)) if why.contains("for so long")));
        assert!(propose(30).await.is_ok());
    });
}
