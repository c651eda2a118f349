//! What a Linux guest needs to live among peers, as job steps: its addresses and their names, and what makes it ready.

use std::time::Duration;

use super::apply::lab_step;
use crate::guest::JobStep;

const NETWORK: &str = include_str!("network.sh");
const READY: &str = include_str!("ready.sh");

/// The longest that giving a machine its addresses takes, on top of what it waits for its links.
const NETWORK_LIMIT: Duration = Duration::from_secs(180);

/// Gives NICs their static addresses, each `(MAC, "ADDRESS/PREFIX")`, and peers their names, as lines of `/etc/hosts`.
pub fn network_step(nics: &[(String, String)], hosts: &[String]) -> JobStep {
    let nics = nics.iter().map(|(mac, address)| format!("{mac} {address}")).collect::<Vec<_>>().join("\n");
    lab_step(NETWORK, [("nics", nics), ("hosts", hosts.join("\n"))], NETWORK_LIMIT)
}

/// Waits until all conditions hold: `unit NAME`, `tcp PORT`, `address ADDRESS/PREFIX`. Exits with 0, or says what is missing.
pub fn ready_step(conditions: &[String], within: Duration) -> JobStep {
    let env = [("ready", conditions.join("\n")), ("within", within.as_secs().to_string())];
    lab_step(READY, env, within + Duration::from_secs(60))
}
