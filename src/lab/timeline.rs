//! What happened during a case, on all machines and on the wire, in one order.

use jiff::Timestamp;

use super::clock::Clock;
use crate::hypervisor::WireReport;

/// Lines that a timeline shows at the most.
const LINES: usize = 5_000;

/// The lab's own notes of a case.
#[derive(Debug)]
pub struct Timeline {
    began: Timestamp,
    notes: Vec<(Timestamp, String, String)>,
}

impl Timeline {
    pub fn begin(clock: &Clock) -> Self {
        Self { began: clock.now(), notes: Vec::new() }
    }

    /// Notes what happens now, and where: `lab`, a role, a segment.
    pub fn add(&mut self, clock: &Clock, place: &str, what: &str) {
        self.notes.push((clock.now(), place.to_owned(), what.to_owned()));
    }

    /// All of it, a line each: seconds since the case began, place, what.
    pub fn merged(&self, wire: &WireReport) -> String {
        let events = wire.timeline.iter().filter(|event| event.at >= self.began);
        let events = events.map(|event| (event.at, "network".to_owned(), format!("{:?}", event.what)));
        let mut all: Vec<_> = self.notes.iter().cloned().chain(events).collect();
        all.sort_by_key(|(at, _, _)| *at);
        let line = |(at, place, what): &(Timestamp, String, String)| {
            let since = super::clock::between(self.began, *at);
            format!("{:10.3}  {place:12}  {what}\n", since.as_secs_f64())
        };
        all.iter().take(LINES).map(line).collect()
    }
}
