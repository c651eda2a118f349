//! Who holds how many connections: one address never has them all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::caller::network;
use crate::catalog::settings::Server;

/// The connections of each address.
#[derive(Clone)]
pub struct Crowd {
    held: Arc<Mutex<HashMap<IpAddr, usize>>>,
    most: usize,
    most_local: usize,
}

/// A connection that counts until it is dropped.
pub struct Held {
    crowd: Crowd,
    address: IpAddr,
}

impl Crowd {
    pub fn new(limits: &Server) -> Self {
        let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        Self { held: Arc::default(), most: size(limits.connections_per_address), most_local: size(limits.connections_from_this_host) }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One connection more, unless this address has enough.
    pub fn admit(&self, address: IpAddr) -> Option<Held> {
        let is_local = address.to_canonical().is_loopback();
        let (address, most) = if is_local { (address.to_canonical(), self.most_local) } else { (network(address), self.most) };
        let mut all = self.held();
        let count = all.get(&address).copied().unwrap_or_default();
        if count >= most {
            return None;
        }
        all.insert(address, count + 1);
        Some(Held { crowd: self.clone(), address })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut all = self.crowd.held();
        match all.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(all.remove(&self.address)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn one_address_has_its_share_and_the_others_theirs() {
        let crowd = Crowd::new(&Server { connections_per_address: 2, connections_from_this_host: 3, ..Server::default() });
        let mut held: Vec<_> = (0..2).map(|_| crowd.admit(address("192.0.2.1")).expect("room")).collect();
        assert!(crowd.admit(address("192.0.2.1")).is_none());
        assert!(crowd.admit(address("::ffff:192.0.2.1")).is_none(), "the same address");
        let _other = crowd.admit(address("192.0.2.2")).expect("another's room");
        held.pop();
        assert!(crowd.admit(address("192.0.2.1")).is_some());
        let _six: Vec<_> = (1..=2).map(|at| crowd.admit(address(&format!("2001:db8::{at}"))).expect("room")).collect();
        assert!(crowd.admit(address("2001:db8::3")).is_none(), "the same network");
        let local: Vec<_> = (0..3).map(|_| crowd.admit(address("127.0.0.1")).expect("room")).collect();
        assert!(crowd.admit(address("127.0.0.1")).is_none());
        drop((held, local));
        assert_eq!(crowd.held().len(), 2, "who is gone is forgotten");
    }
}
