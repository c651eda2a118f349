//! What makes a clone of a frozen machine a machine of its own, as a script, and how its answer is read.

use std::collections::BTreeMap;

use super::RUNNER_ROOT;
use crate::cell::identity::Identity;
use crate::guest::Renewal;
use crate::id::Digest;

pub const SCRIPT: &str = include_str!("renew.sh");

/// What came of a renewal, before the clock is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub identity: Identity,
    pub boot_id: String,
    pub settled: bool,
}

/// The most that is kept of one word, and of words of one kind.
const WORD: usize = 200;
const WORDS: usize = 64;

/// The script's arguments.
pub fn arguments(renewal: &Renewal) -> Vec<String> {
    let hundredths = renewal.now.as_millisecond() / 10;
    let keys = if renewal.makes_host_keys { "yes" } else { "no" };
    let macs = renewal.macs.iter().flat_map(|(old, new)| [old.clone(), new.clone()]);
    ["renew".to_owned(), RUNNER_ROOT.to_owned(), hundredths.to_string(), keys.to_owned()].into_iter().chain(macs).collect()
}

/// What the script said. The clock is not its to tell. On error: what it left out.
pub fn said(output: &[u8]) -> Result<Said, String> {
    let text = String::from_utf8_lossy(output);
    let mut identity = Identity {
        machine_id: String::new(),
        hostname: String::new(),
        random: Digest::of(""),
        host_keys: BTreeMap::new(),
        makes_host_keys: false,
        macs: Vec::new(),
        leases: Vec::new(),
        clock_ahead_ms: 0,
    };
    let (mut random, mut boot_id, mut settled) = (None, String::new(), false);
    for line in text.lines() {
        let (what, said) = line.split_once(' ').unwrap_or((line, ""));
        let said: String = said.chars().take(WORD).collect();
        match what {
            "machine-id" => identity.machine_id = said,
            "hostname" => identity.hostname = said,
            "random" if said.len() == 64 && said.bytes().all(|byte| byte.is_ascii_hexdigit()) => random = Some(Digest::of(said)),
            "host-key" if identity.host_keys.len() < WORDS => {
                let (file, _) = said.split_once(' ').ok_or_else(|| format!("a host key without a key: {line:?}"))?;
                identity.host_keys.insert(file.to_owned(), Digest::of(line));
            }
            "makes-host-keys" => identity.makes_host_keys = true,
            "nic" if identity.macs.len() < WORDS => identity.macs.push(said),
            "boot-id" => boot_id = said,
            "settled" => settled = said == "yes",
            "lease" if identity.leases.len() < WORDS => identity.leases.push(said),
            _ => {}
        }
    }
    identity.random = random.ok_or("it gave no random numbers")?;
    Ok(Said { identity, boot_id, settled })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "machine-id 0123\nhostname web\nrandom 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n\
                        host-key ssh_host_ed25519_key.pub AAAA\nnic 52:54:00:00:00:01\nlease 10.0.0.5/24\nmakes-host-keys yes\nboot-id b-1\nsettled yes\nnoise\n";

    #[test]
    fn an_answer_is_read() {
        let Said { identity: read, boot_id, settled } = said(SAID.as_bytes()).expect("whole");
        assert_eq!((boot_id.as_str(), settled), ("b-1", true));
        assert_eq!((read.machine_id.as_str(), read.hostname.as_str()), ("0123", "web"));
        assert_eq!(
            (read.macs.as_slice(), read.leases.as_slice()),
            (["52:54:00:00:00:01".to_owned()].as_slice(), ["10.0.0.5/24".to_owned()].as_slice())
        );
        assert!(read.makes_host_keys && read.host_keys.contains_key("ssh_host_ed25519_key.pub"));
        let other = said(SAID.replace("AAAA", "AAAB").replace("random 00", "random 01").as_bytes()).expect("whole").identity;
        assert_ne!(read.host_keys, other.host_keys);
        assert_ne!(read.random, other.random);
    }

    #[test]
    fn what_is_missing_or_hostile_is_no_identity() {
        for bad in ["", "random ", "random zz", "random 0011", "\u{0}\u{fffd}", "host-key only-a-name"] {
            assert!(said(bad.as_bytes()).is_err(), "{bad:?}");
        }
        let flood = format!("{SAID}{}", "nic x\n".repeat(100_000));
        assert!(said(flood.as_bytes()).expect("read").identity.macs.len() <= WORDS);
    }

    #[test]
    fn the_guest_is_told_what_it_is_to_be() {
        let renewal = Renewal {
            now: "2026-01-02T03:04:05.678Z".parse().expect("a time"),
            seed: vec![7; 64],
            macs: vec![("a".to_owned(), "b".to_owned())],
            makes_host_keys: true,
        };
        assert_eq!(arguments(&renewal), ["renew", RUNNER_ROOT, "176732304567", "yes", "a", "b"]);
    }
}
