//! What went through each port, and why some of it did not.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::capture::CaptureStats;
use super::mac::Mac;
use crate::id::Name;

/// Why a frame went no further. Counted at the port that it came from up to [`Lost`](Self::Lost) on the segment, and from there on at
/// each port that it did not reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// A datagram from anyone but the port's own machine.
    Foreign,
    /// Too short for an Ethernet header, or sent by a group address.
    Malformed,
    /// Longer than the longest jumbo frame.
    Oversize,
    /// For an address behind the port that it came from.
    SameSide,
    /// A link was down: when the frame was sent, or while it was on its way.
    LinkDown,
    /// A fault said so.
    Lost,
    /// The two ports are in different groups.
    Partitioned,
    /// Too much was on its way to this port already.
    QueueFull,
    /// The machine's end of the wire is not open: it is off, or not there yet.
    NoMachine,
    /// The host took no more just then.
    Busy,
    /// The switch was too slow, and the host threw away what the machine sent.
    Overrun,
    /// The machine was too slow, and the host threw away what was sent to it.
    Untaken,
    /// Still on its way when the network was closed.
    Closed,
}

const REASONS: [Reason; 13] = [
    Reason::Foreign,
    Reason::Malformed,
    Reason::Oversize,
    Reason::SameSide,
    Reason::LinkDown,
    Reason::Lost,
    Reason::Partitioned,
    Reason::QueueFull,
    Reason::NoMachine,
    Reason::Busy,
    Reason::Overrun,
    Reason::Untaken,
    Reason::Closed,
];

/// The counters of a port. `in` is from the machine into the switch.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    pub frames_in: u64,
    pub bytes_in: u64,
    pub frames_out: u64,
    pub bytes_out: u64,
    dropped: [u64; REASONS.len()],
}

impl Counters {
    pub fn drop(&mut self, reason: Reason) {
        self.dropped[reason as usize] += 1;
    }

    /// Takes over a count that someone else keeps. Such counts start again when a socket is made anew: the highest stays.
    pub fn raise(&mut self, reason: Reason, to: u64) {
        let count = &mut self.dropped[reason as usize];
        *count = to.max(*count);
    }

    pub fn dropped(&self) -> BTreeMap<Reason, u64> {
        REASONS.into_iter().map(|reason| (reason, self.dropped[reason as usize])).filter(|(_, count)| *count > 0).collect()
    }
}

/// A port's counters as others read them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PortStats {
    pub nic: Name,
    pub mac: Mac,
    /// What the machine sent.
    pub frames_in: u64,
    pub bytes_in: u64,
    /// What it was sent.
    pub frames_out: u64,
    pub bytes_out: u64,
    /// Reasons that never occurred are left out.
    pub dropped: BTreeMap<Reason, u64>,
}

/// The counters of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SegmentStats {
    pub segment: Name,
    pub ports: Vec<PortStats>,
    pub capture: CaptureStats,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_counter_of_its_own() {
        let mut counters = Counters::default();
        for (at, reason) in REASONS.into_iter().enumerate() {
            assert_eq!(reason as usize, at);
            counters.drop(reason);
        }
        assert_eq!(counters.dropped().len(), REASONS.len());
        counters.raise(Reason::Overrun, 7);
        counters.raise(Reason::Overrun, 3);
        assert_eq!(counters.dropped()[&Reason::Overrun], 7);
    }
}
