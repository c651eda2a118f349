//! Which address is behind which port of one segment.
//!
//! Invariants: a NIC's own address, fixed by the plan, never moves to another port; a port can make the table remember only
//! [`PER_PORT`] addresses more, so that a guest that invents addresses costs others nothing.

use std::collections::HashMap;

use super::mac::Mac;

/// The addresses that a port may have learned besides its own. Beyond, frames for its further addresses are flooded.
pub const PER_PORT: usize = 256;

#[derive(Clone, Copy, Debug)]
struct Entry {
    port: usize,
    fixed: bool,
}

/// A learning table.
#[derive(Clone, Debug)]
pub struct Table {
    entries: HashMap<Mac, Entry>,
    learned: Vec<usize>,
}

impl Table {
    /// The table of a segment whose ports have these addresses, in this order.
    pub fn new(own: &[Mac]) -> Self {
        let entries = own.iter().enumerate().map(|(port, mac)| (*mac, Entry { port, fixed: true })).collect();
        Self { entries, learned: vec![0; own.len()] }
    }

    /// The port behind which `mac` was last seen.
    pub fn find(&self, mac: Mac) -> Option<usize> {
        self.entries.get(&mac).map(|entry| entry.port)
    }

    /// Remembers that a frame from `mac` came in by `port`.
    pub fn learn(&mut self, mac: Mac, port: usize) {
        let known = self.entries.get(&mac).copied();
        let settled = known.is_some_and(|entry| entry.fixed || entry.port == port);
        if settled || self.learned[port] >= PER_PORT {
            return;
        }
        if let Some(before) = known {
            self.learned[before.port] -= 1;
        }
        self.learned[port] += 1;
        self.entries.insert(mac, Entry { port, fixed: false });
    }

    /// Forgets what was learned of `port`, as switches do when a link goes down.
    pub fn forget(&mut self, port: usize) {
        self.entries.retain(|_, entry| entry.fixed || entry.port != port);
        self.learned[port] = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(n: usize) -> Mac {
        let [.., a, b] = n.to_be_bytes();
        Mac([2, 0, 0, 0, a, b])
    }

    #[test]
    fn a_planned_address_never_moves_and_a_learned_one_does() {
        let mut table = Table::new(&[mac(0), mac(1)]);
        table.learn(mac(0), 1);
        assert_eq!(table.find(mac(0)), Some(0));
        table.learn(mac(9), 0);
        assert_eq!(table.find(mac(9)), Some(0));
        table.learn(mac(9), 1);
        assert_eq!(table.find(mac(9)), Some(1));
        table.forget(1);
        assert_eq!((table.find(mac(9)), table.find(mac(1))), (None, Some(1)));
    }

    #[test]
    fn a_port_that_invents_addresses_leaves_room_for_the_others() {
        let mut table = Table::new(&[mac(0), mac(1)]);
        for n in 10..10 + 4 * PER_PORT {
            table.learn(mac(n), 0);
        }
        assert_eq!(table.entries.len(), 2 + PER_PORT);
        table.learn(mac(5), 1);
        assert_eq!(table.find(mac(5)), Some(1));
        table.learn(mac(10), 1);
        table.learn(mac(6), 0);
        assert_eq!(table.find(mac(6)), Some(0), "an address that moved away makes room");
    }
}
