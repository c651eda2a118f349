//! What happened during a case, on the lab's side, on all machines and on the wire, in one order.
//!
//! `frame` and `tls` tell a frame in a line, `capture` reads them from the segments' files, `journals` asks the machines.

mod capture;
mod frame;
mod journals;
mod tls;

use jiff::Timestamp;

pub use capture::{Window, lines as frames, piece};
pub use frame::Names;
pub use journals::{Booted, Journal, UPTIME};

use super::clock::{Clock, between};
use crate::cell::CaseAt;
use crate::hypervisor::segments::{Happening, LinkEvent, Verb};

/// Lines that a timeline shows at the most.
const LINES: usize = 5_000;
/// Characters of a line.
const WIDTH: usize = 400;

/// Something that happened: when, where (`lab`, a role, a segment) and what.
pub type Happened = (Timestamp, String, String);

/// The lab's own notes of a case.
#[derive(Debug)]
pub struct Timeline {
    pub case: CaseAt,
    began: Timestamp,
    ended: Option<Timestamp>,
    notes: Vec<Happened>,
}

impl Timeline {
    pub fn begin(case: CaseAt, clock: &Clock) -> Self {
        Self { case, began: clock.now(), ended: None, notes: Vec::new() }
    }

    /// Notes what the lab does now.
    pub fn add(&mut self, clock: &Clock, what: &str) {
        self.notes.push((clock.now(), "lab".to_owned(), what.to_owned()));
    }

    pub fn end(&mut self, clock: &Clock) {
        self.ended = Some(clock.now());
    }

    /// From the case's beginning to its end.
    pub fn window(&self) -> Window {
        Window { from: self.began, to: self.ended.unwrap_or(Timestamp::MAX) }
    }

    /// All of it, a line each: seconds since the case began, place, what.
    pub fn merged(&self, others: Vec<Happened>) -> String {
        let window = self.window();
        let others = others.into_iter().filter(|(at, ..)| window.holds(*at));
        let mut all: Vec<_> = self.notes.iter().cloned().chain(others).collect();
        all.sort_by_key(|(at, ..)| *at);
        let line = |(at, place, what): &Happened| {
            let since = between(self.began, *at).as_secs_f64();
            format!("{since:10.3}  {place:12}  {}\n", printable(what.as_bytes(), WIDTH))
        };
        let left = all.len().saturating_sub(LINES);
        let more = if left > 0 { format!("[... {left} lines more ...]\n") } else { String::new() };
        all.iter().take(LINES).map(line).chain([more]).collect()
    }
}

/// What happened to a network, in words.
pub fn told(event: &LinkEvent) -> Happened {
    let (place, what) = match &event.what {
        Happening::Opened => ("network".to_owned(), "opened".to_owned()),
        Happening::Heard { segment, nic } => (segment.to_string(), format!("the first frame of {nic}")),
        Happening::Closed => ("network".to_owned(), "closed".to_owned()),
        Happening::Done(fault) => {
            let site = fault.nic.as_ref().map_or("the segment".to_owned(), |nic| format!("the link of {nic}"));
            let what = match &fault.verb {
                Verb::LinkDown => format!("{site} is down"),
                Verb::LinkUp => format!("{site} is up"),
                Verb::Delay { by } => format!("{site}: each frame takes {by:?} longer"),
                Verb::Jitter { up_to } => format!("{site}: each frame takes up to {up_to:?} longer"),
                Verb::Loss { chance } => format!("{site} loses {} % of the frames", chance.as_percent()),
                Verb::Duplicate { chance } => format!("{site} doubles {} % of the frames", chance.as_percent()),
                Verb::Partition { groups } => {
                    let names = |group: &std::collections::BTreeSet<crate::id::Name>| {
                        group.iter().map(ToString::to_string).collect::<Vec<_>>().join("+")
                    };
                    let groups: Vec<_> = groups.iter().map(names).collect();
                    format!("{site} is split: {} from the rest", groups.join(", "))
                }
                Verb::Clear => format!("{site} is as it was"),
            };
            (fault.segment.to_string(), what)
        }
    };
    (event.at, place, what)
}

/// A guest's bytes as one line of at most so many characters.
pub fn printable(bytes: &[u8], most: usize) -> String {
    let text = String::from_utf8_lossy(bytes.get(..most.saturating_mul(4)).unwrap_or(bytes));
    let plain = |c: char| {
        if c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            '\u{fffd}'
        } else {
            c
        }
    };
    let mut line: String = text.chars().take(most).map(plain).collect();
    if text.chars().nth(most).is_some() {
        line.push('…');
    }
    line
}

/// What a script said, short: its first line, and how much there is when that is not all.
pub fn said(output: &[u8]) -> String {
    let text = output.trim_ascii();
    let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    match (text.is_empty(), first.len() == text.len()) {
        (true, _) => String::new(),
        (false, true) => format!("; it said: {}", printable(first, 160)),
        (false, false) => format!("; it said {} bytes: {}", output.len(), printable(first, 160)),
    }
}

#[cfg(test)]
mod tests;
