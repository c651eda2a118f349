//! Whether a moment can be believed. A clock that was ahead makes old news look young for as long as it was ahead, and longer.
//!
//! Invariant: the journal's order is what happened, whatever the clock said. What was written later at an earlier time says that the time
//! before was wrong.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::inputs::GateInputs;
use crate::journal::{Entry, Event, Record};

/// Clocks are put right by so much without meaning anything.
const SKEW: SignedDuration = SignedDuration::from_mins(5);
/// The year 2020. A clock that says less has no battery: it is behind, and says nothing about others.
const EARLIEST: Timestamp = Timestamp::constant(1_577_836_800, 0);

/// Whether the clock was ahead when it said so, if it says `now` now.
pub fn was_ahead(said: Timestamp, now: Timestamp) -> bool {
    now >= EARLIEST && said.duration_since(now) > SKEW
}

/// Whether the clock says less now than when a run ended that the decision may rest on, and that is not on record. The simulator's runs
/// have a time of their own.
pub fn is_put_back(inputs: &GateInputs, now: Timestamp) -> bool {
    let real = |run: &&super::RunEvidence| run.is_simulated(false) && !run.ahead;
    !inputs.requirements.simulated && inputs.runs.iter().filter(real).any(|run| run.state.ended.is_some_and(|(at, _)| was_ahead(at, now)))
}

/// What the clock said, by the journal's order.
pub struct Readings {
    /// By each entry: the least that was said from it on.
    least: BTreeMap<u64, Timestamp>,
}

impl Readings {
    /// Of runs on real machines, and of records of a clock that was put back. The moments of other records are pushed behind one another,
    /// so that they say nothing.
    pub fn of<'a>(entries: impl Iterator<Item = &'a Entry>) -> Self {
        let said = |entry: &Entry| match &entry.event {
            Event::Recorded { record } => match &**record {
                Record::ClockPutBack { clock } => Some(*clock),
                _ => None,
            },
            _ => Some(entry.at),
        };
        let mut least: BTreeMap<u64, Timestamp> =
            entries.filter_map(|entry| Some((entry.seq, said(entry).filter(|said| *said >= EARLIEST)?))).collect();
        let mut lowest = Timestamp::MAX;
        for said in least.values_mut().rev() {
            lowest = lowest.min(*said);
            *said = lowest;
        }
        Self { least }
    }

    /// Whether the run with these entries ended by a clock that was ahead.
    pub fn contradict(&self, history: &[Entry]) -> bool {
        let end = history.iter().rev().find(|entry| matches!(entry.event, Event::RunEnded { .. }));
        let after = |end: &Entry| self.least.range(end.seq + 1..).next().map(|(_, least)| *least);
        end.is_some_and(|end| after(end).is_some_and(|later| was_ahead(end.at, later)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::fixture::{DAY, at};
    use super::*;
    use crate::id::{Digest, RunId};
    use crate::verdict::Verdict;

    fn entry(seq: u64, seconds: i64, event: Event) -> Entry {
        let hash = Digest::of(seq.to_le_bytes());
        Entry { seq, version: 1, at: at(seconds), run: Some(RunId::from_parts(1, [1; 10])), event, previous: hash, hash }
    }

    fn ended(seq: u64, seconds: i64) -> Entry {
        entry(seq, seconds, Event::RunEnded { verdict: Verdict::Pass })
    }

    fn said(seq: u64, seconds: i64) -> Entry {
        entry(seq, seconds, Event::HistoryDrawn { past: Vec::new() })
    }

    fn recorded(seq: u64, seconds: i64, record: Record) -> Entry {
        Entry { run: None, ..entry(seq, seconds, Event::Recorded { record: Box::new(record) }) }
    }

    fn put_back(seq: u64, seconds: i64, clock: i64) -> Entry {
        let clock = Timestamp::from_second(at(0).as_second() + clock).expect("a moment");
        recorded(seq, seconds, Record::ClockPutBack { clock })
    }

    fn refused(seq: u64, seconds: i64) -> Entry {
        let [what, by, reason] = ["approve", "bob", "no"].map(str::to_owned);
        recorded(seq, seconds, Record::Refused { what, patch: None, customer: None, by, reason })
    }

    #[test]
    fn what_is_written_later_at_an_earlier_time_says_that_the_clock_was_ahead() {
        // The run ended with entry 5, on day 30 by its clock.
        let end = 30 * DAY;
        let table: &[(&str, Entry, bool)] = &[
            ("time goes on", said(6, end + 1), false),
            ("the clock is put right by a little", said(6, end - 300), false),
            ("by more than a little", said(6, end - 301), true),
            ("another run later says so", said(9, 0), true),
            ("another run before it has nothing to say", said(4, 0), false),
            ("it is on record", put_back(6, end + 1, 0), true),
            ("it was on record before", put_back(4, end - 1, 0), false),
            ("what is on record for other reasons says nothing", refused(6, 0), false),
            ("a clock without a battery says nothing", put_back(6, end + 1, -at(0).as_second()), false),
        ];
        for (what, other, ahead) in table {
            let history = [said(1, end - 60), ended(5, end)];
            let later = said(7, end + 5);
            let readings = Readings::of(history.iter().chain([&later, other]));
            assert_eq!(readings.contradict(&history), *ahead, "{what}");
        }
        // One that has not ended has no end to doubt.
        let open = [said(1, end)];
        assert!(!Readings::of(open.iter().chain([&said(2, 0)])).contradict(&open));
        // What the clock says by itself puts no clock right that was never wrong.
        assert!(!was_ahead(at(end), Timestamp::UNIX_EPOCH));
    }
}
