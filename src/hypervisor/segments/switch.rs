//! The switch of one segment: which frame goes where, when, and which goes nowhere and why.
//!
//! Invariants: a frame never goes back to the port that it came from, nor twice to one port unless a fault duplicates it; ports are
//! numbered within their segment, so there is no way to name another segment's.

use std::collections::BTreeSet;
use std::time::Duration;

use super::fault::{BadFault, Verb};
use super::line::Line;
use super::mac::{self, Mac};
use super::stats::{Counters, PortStats, Reason};
use super::table::Table;
use crate::id::Name;

/// A frame is to reach a port at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub to: usize,
    pub at: Duration,
}

#[derive(Clone, Debug)]
struct Port {
    nic: Name,
    mac: Mac,
    /// From the machine to the switch, and back. Chance is drawn for each apart.
    sends: Line,
    gets: Line,
    /// Only ports of the same group see each other.
    group: usize,
    counters: Counters,
}

/// The group of ports that no partition names.
const REST: usize = 0;

/// The switch of one segment.
#[derive(Clone, Debug)]
pub struct Switch {
    ports: Vec<Port>,
    /// What lies between a port and the others.
    middle: Line,
    table: Table,
}

impl Switch {
    /// A switch with one port for each NIC, in this order. Addresses differ.
    pub fn new(seed: u64, nics: impl IntoIterator<Item = (Name, Mac)>) -> Self {
        // Its numbers seed the lines, which go on by themselves: one line's traffic never shifts another's chances.
        let mut seeds = fastrand::Rng::with_seed(seed);
        let middle = Line::new(seeds.u64(..));
        let ports: Vec<_> = nics
            .into_iter()
            .map(|(nic, mac)| Port {
                nic,
                mac,
                sends: Line::new(seeds.u64(..)),
                gets: Line::new(seeds.u64(..)),
                group: REST,
                counters: Counters::default(),
            })
            .collect();
        let own: Vec<_> = ports.iter().map(|port| port.mac).collect();
        Self { middle, table: Table::new(&own), ports }
    }

    /// Says where a frame goes that comes in at `from` now, appending to `deliveries`. Whether it was on the segment's wire at all: well
    /// formed, and sent while the link was up.
    pub fn forward(&mut self, now: Duration, from: usize, frame: &[u8], deliveries: &mut Vec<Delivery>) -> bool {
        let counters = &mut self.ports[from].counters;
        counters.frames_in += 1;
        counters.bytes_in += frame.len() as u64;
        let (to, source) = match mac::ends(frame) {
            _ if frame.len() > mac::LONGEST => {
                counters.drop(Reason::Oversize);
                return false;
            }
            Some((to, source)) if !source.is_group() => (to, source),
            _ => {
                counters.drop(Reason::Malformed);
                return false;
            }
        };
        if !self.ports[from].sends.up || !self.middle.up {
            self.drop(from, Reason::LinkDown);
            return false;
        }
        let mut reached = false;
        for sent in self.ports[from].sends.cross(now) {
            for at in self.middle.cross(sent) {
                reached = true;
                self.table.learn(source, from);
                match self.table.find(to).filter(|_| !to.is_group()) {
                    Some(port) if port == from => self.drop(from, Reason::SameSide),
                    Some(port) => self.deliver(from, port, at, deliveries),
                    None => (0..self.ports.len()).filter(|port| *port != from).for_each(|port| self.deliver(from, port, at, deliveries)),
                }
            }
        }
        if !reached {
            self.drop(from, Reason::Lost);
        }
        true
    }

    fn deliver(&mut self, from: usize, to: usize, at: Duration, deliveries: &mut Vec<Delivery>) {
        if !self.arrives(from, to) {
            return;
        }
        let before = deliveries.len();
        deliveries.extend(self.ports[to].gets.cross(at).map(|at| Delivery { to, at }));
        if deliveries.len() == before {
            self.drop(to, Reason::Lost);
        }
    }

    /// Whether a frame on its way reaches its port as the links are now. If not, it is counted.
    pub fn arrives(&mut self, from: usize, to: usize) -> bool {
        let reason = if !self.middle.up || !self.ports[to].gets.up {
            Reason::LinkDown
        } else if self.ports[from].group != self.ports[to].group {
            Reason::Partitioned
        } else {
            return true;
        };
        self.drop(to, reason);
        false
    }

    /// Counts a frame that left by `port`.
    pub fn sent(&mut self, port: usize, bytes: usize) {
        let counters = &mut self.ports[port].counters;
        counters.frames_out += 1;
        counters.bytes_out += bytes as u64;
    }

    /// Counts a frame that went no further.
    pub fn drop(&mut self, port: usize, reason: Reason) {
        self.ports[port].counters.drop(reason);
    }

    /// Takes over a count that the host keeps.
    pub fn raise(&mut self, port: usize, reason: Reason, to: u64) {
        self.ports[port].counters.raise(reason, to);
    }

    /// Does a fault to a NIC's link, or to the whole segment.
    pub fn apply(&mut self, nic: Option<&Name>, verb: &Verb) -> Result<(), BadFault> {
        verb.check()?;
        match nic {
            Some(nic) => {
                let port = self.port(nic)?;
                self.apply_to_port(port, verb)
            }
            None => self.apply_to_all(verb),
        }
    }

    fn apply_to_port(&mut self, at: usize, verb: &Verb) -> Result<(), BadFault> {
        let alone = self.unused_group();
        let port = &mut self.ports[at];
        match verb {
            Verb::Partition { groups } if !groups.is_empty() => {
                return Err(BadFault {
                    found: format!("a partition into groups on the NIC {}", port.nic),
                    hint: "name the groups on the segment, or leave them out to cut this NIC off".to_owned(),
                });
            }
            Verb::Partition { .. } => port.group = alone,
            Verb::Clear => {
                port.group = REST;
                port.sends.clear();
                port.gets.clear();
            }
            _ => {
                set(&mut port.sends, verb);
                set(&mut port.gets, verb);
            }
        }
        if *verb == Verb::LinkDown {
            self.table.forget(at);
        }
        Ok(())
    }

    fn apply_to_all(&mut self, verb: &Verb) -> Result<(), BadFault> {
        match verb {
            Verb::Partition { groups } => self.partition(groups)?,
            Verb::Clear => {
                self.middle.clear();
                for port in &mut self.ports {
                    port.group = REST;
                    port.sends.clear();
                    port.gets.clear();
                }
            }
            _ => set(&mut self.middle, verb),
        }
        Ok(())
    }

    fn partition(&mut self, groups: &[BTreeSet<Name>]) -> Result<(), BadFault> {
        let mut member = vec![REST; self.ports.len()];
        for (group, names) in groups.iter().enumerate() {
            for name in names {
                let port = self.port(name)?;
                if member[port] != REST {
                    return Err(BadFault { found: format!("{name} in two groups"), hint: "name each NIC once".to_owned() });
                }
                member[port] = group + 1;
            }
        }
        self.ports.iter_mut().zip(member).for_each(|(port, group)| port.group = group);
        Ok(())
    }

    fn unused_group(&self) -> usize {
        self.ports.iter().map(|port| port.group).max().unwrap_or(REST) + 1
    }

    fn port(&self, nic: &Name) -> Result<usize, BadFault> {
        self.ports.iter().position(|port| port.nic == *nic).ok_or_else(|| {
            let known: Vec<_> = self.ports.iter().map(|port| port.nic.as_str()).collect();
            BadFault { found: format!("no NIC {nic}"), hint: format!("name one of {}", known.join(", ")) }
        })
    }

    pub fn stats(&self) -> Vec<PortStats> {
        let stats = |port: &Port| PortStats {
            nic: port.nic.clone(),
            mac: port.mac,
            frames_in: port.counters.frames_in,
            bytes_in: port.counters.bytes_in,
            frames_out: port.counters.frames_out,
            bytes_out: port.counters.bytes_out,
            dropped: port.counters.dropped(),
        };
        self.ports.iter().map(stats).collect()
    }
}

fn set(line: &mut Line, verb: &Verb) {
    match verb {
        Verb::LinkDown => line.up = false,
        Verb::LinkUp => line.up = true,
        Verb::Delay { by } => line.delay = *by,
        Verb::Jitter { up_to } => line.jitter = *up_to,
        Verb::Loss { chance } => line.loss = *chance,
        Verb::Duplicate { chance } => line.duplicate = *chance,
        Verb::Partition { .. } | Verb::Clear => {}
    }
}

#[cfg(test)]
#[path = "switch_tests.rs"]
mod tests;
