//! What makes a machine that was thawed from a template a machine of its own, and how it is told that it is one. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Point;
use crate::id::Digest;

/// The most that a thawed machine's clock may be off, in milliseconds. Asking takes some of it.
const CLOCK: u64 = 2000;

/// How a machine of a pass came up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "start")]
pub enum Start {
    /// By its firmware and boot loader, though there are templates.
    Cold { why: String },
    /// From a template.
    Warm {
        /// The template, by all that it depends on.
        template: Digest,
        /// When that was frozen.
        frozen: Timestamp,
        identity: Box<Identity>,
        /// From a checkpoint that a clone of the template became behind its patch.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        behind: Option<Point>,
    },
}

/// What a guest says of itself. The guest's word, capped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Identity {
    /// Empty where the guest has none.
    pub machine_id: String,
    pub hostname: String,
    /// The digest of bytes that its kernel's random numbers gave.
    pub random: Digest,
    /// The digest of each public SSH host key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub host_keys: BTreeMap<String, Digest>,
    /// Whether the guest made its host keys itself when it first booted, so that each clone has to have its own.
    #[serde(default)]
    pub makes_host_keys: bool,
    /// The hardware addresses of its NICs.
    pub macs: Vec<String>,
    /// The addresses that a DHCP server gave it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leases: Vec<String>,
    /// How far its clock was ahead of the lab's.
    pub clock_ahead_ms: i64,
}

/// What a thawed machine must not be: everything that is wrong with `seen`, in words. `template` is what the template was when it was
/// frozen, `others` are earlier clones of it, `macs` the addresses that the machine is to have.
pub fn unfit(seen: &Identity, template: &Identity, others: &[Identity], macs: &[String]) -> Vec<String> {
    let mut wrong = Vec::new();
    let all = || others.iter().chain([template]);
    if seen.clock_ahead_ms.unsigned_abs() > CLOCK {
        wrong.push(format!("its clock is {} ms ahead of the lab's, allowed are {CLOCK}", seen.clock_ahead_ms));
    }
    if all().any(|other| other.random == seen.random) {
        wrong.push("its random numbers are those of another clone".to_owned());
    }
    if !seen.machine_id.is_empty() && !template.machine_id.is_empty() && all().any(|other| other.machine_id == seen.machine_id) {
        wrong.push(format!("its machine-id {} is another clone's", seen.machine_id));
    }
    if seen.machine_id.is_empty() != template.machine_id.is_empty() {
        wrong.push("it lost its machine-id".to_owned());
    }
    let shared = |(file, key): &(&String, &Digest)| all().any(|other| other.host_keys.get(*file) == Some(key));
    if template.makes_host_keys
        && let Some((file, _)) = seen.host_keys.iter().find(shared)
    {
        wrong.push(format!("its SSH host key {file} is another clone's"));
    }
    if seen.host_keys.len() != template.host_keys.len() {
        wrong.push(format!("it has {} SSH host keys, expected are {}", seen.host_keys.len(), template.host_keys.len()));
    }
    if let Some(mac) = macs.iter().find(|mac| !seen.macs.contains(mac)) {
        wrong.push(format!("no NIC has the address {mac}, found are {}", seen.macs.join(", ")));
    }
    if seen.hostname != template.hostname {
        wrong.push(format!("its hostname is {:?}, expected {:?}", seen.hostname, template.hostname));
    }
    wrong
}

/// Why a machine that says this of itself must not become a template.
pub fn unfit_as_template(seen: &Identity) -> Option<String> {
    let lease = seen.leases.first()?;
    Some(format!("it holds the address {lease} from a DHCP server, which all its clones would hold"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(of: &str) -> Identity {
        Identity {
            machine_id: format!("id of {of}"),
            hostname: "web".to_owned(),
            random: Digest::of(of),
            host_keys: BTreeMap::from([("ssh_host_ed25519_key.pub".to_owned(), Digest::of(format!("key of {of}")))]),
            makes_host_keys: true,
            macs: vec![format!("mac of {of}")],
            leases: Vec::new(),
            clock_ahead_ms: -300,
        }
    }

    #[test]
    fn a_clone_of_its_own_is_fit() {
        assert_eq!(unfit(&identity("a"), &identity("t"), &[identity("b")], &["mac of a".to_owned()]), Vec::<String>::new());
    }

    #[test]
    fn keys_that_belong_to_the_build_are_shared_rightly() {
        let of_build = |of: &str| Identity { host_keys: identity("build").host_keys, makes_host_keys: false, ..identity(of) };
        assert_eq!(unfit(&of_build("a"), &of_build("t"), &[of_build("b")], &[]), Vec::<String>::new());
    }

    #[test]
    fn a_lease_is_not_for_many() {
        assert_eq!(unfit_as_template(&identity("t")), None);
        let why = unfit_as_template(&Identity { leases: vec!["192.168.77.20".to_owned()], ..identity("t") });
        assert!(why.is_some_and(|why| why.contains("192.168.77.20")));
    }

    #[test]
    fn each_way_to_be_unfit_is_named() {
        let other = identity("b");
        let twin = |change: &dyn Fn(&mut Identity)| {
            let mut seen = identity("a");
            change(&mut seen);
            unfit(&seen, &identity("t"), std::slice::from_ref(&other), &["mac of a".to_owned()]).join("; ")
        };
        for (seen, found) in [
            (twin(&|seen| seen.clock_ahead_ms = 2001), "clock is 2001 ms"),
            (twin(&|seen| seen.clock_ahead_ms = i64::MIN), "clock is -9223372036854775808 ms"),
            (twin(&|seen| seen.random = identity("b").random), "random numbers"),
            (twin(&|seen| seen.random = identity("t").random), "random numbers"),
            (twin(&|seen| seen.machine_id = identity("b").machine_id), "machine-id id of b is another"),
            (twin(&|seen| seen.machine_id.clear()), "lost its machine-id"),
            (twin(&|seen| seen.host_keys = identity("t").host_keys), "SSH host key ssh_host_ed25519_key.pub"),
            (twin(&|seen| seen.host_keys.clear()), "0 SSH host keys"),
            (twin(&|seen| seen.macs = vec!["mac of t".to_owned()]), "no NIC has the address mac of a"),
            (twin(&|seen| seen.hostname = "localhost".to_owned()), "hostname is \"localhost\""),
        ] {
            assert!(seen.contains(found) && !seen.contains("; "), "{seen:?}: no {found:?}");
        }
    }
}
