//! Environments: `builds/<customer>/<name>.environment.toml`, several machines that work together.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::Ipv4Net;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::text::Span;
use crate::id::Name;

/// Several machines that work together: roles filled by builds, joined by network segments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Environment {
    /// One line for people.
    #[schemars(length(min = 1))]
    pub title: String,
    /// The interoperability suites that it must pass.
    #[schemars(length(min = 1))]
    pub suites: Vec<Name>,
    /// The network segments, by name. They are joined to nothing but this environment's machines.
    #[serde(rename = "segment")]
    #[schemars(extend("minProperties" = 1))]
    pub segments: BTreeMap<Name, Segment>,
    /// The machines, by the role that they play. Each finds the others under these names.
    #[serde(rename = "role")]
    #[schemars(extend("minProperties" = 1))]
    pub roles: BTreeMap<Name, Member>,
    /// Who plays a suite's roles, where they have other names here: suite, then role of the suite = role of the environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cast: BTreeMap<Name, BTreeMap<Name, Name>>,
}

/// A wire that some of the machines share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Segment {
    /// Its addresses, for example `"10.77.1.0/24"`.
    pub subnet: Subnet,
}

/// One machine of an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Member {
    /// The customer's build that it is cloned from.
    pub build: Name,
    /// The hardware profiles that it is tried on. All of the build's when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hardware: Vec<Name>,
    /// Its IPv4 address on each segment that it has a NIC on, for example `{ lan = "10.77.1.10" }`.
    #[schemars(extend("minProperties" = 1))]
    pub address: BTreeMap<Name, Ipv4Addr>,
    /// Further names that the others find it under, for example `"intranet.acme.example"`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// The roles that must be ready before it is started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Name>,
    /// What must hold before those that come after it are started: `"unit nginx.service"` is active, `"tcp 443"` is listened on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ready: Vec<Ready>,
    /// How long it may take to become ready once its services have started.
    #[serde(default = "Member::default_ready_within")]
    pub ready_within: Span,
}

impl Member {
    fn default_ready_within() -> Span {
        Span::secs(120)
    }
}

/// The addresses of a segment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet(Ipv4Net);

impl Subnet {
    /// Whether a machine may have this address: inside, and neither the first (the network) nor the last (broadcast).
    pub fn has_host(&self, address: Ipv4Addr) -> bool {
        self.0.contains(&address) && address != self.0.network() && address != self.0.broadcast()
    }

    pub fn prefix(&self) -> u8 {
        self.0.prefix_len()
    }

    pub fn overlaps(&self, other: Self) -> bool {
        self.0.contains(&other.0) || other.0.contains(&self.0)
    }
}

/// Something that must hold in a machine.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ready {
    /// A systemd unit is active.
    Unit(String),
    /// A TCP port is listened on.
    Tcp(u16),
}

impl FromStr for Subnet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("expected an IPv4 network with /8 to /30 such as \"10.77.1.0/24\", found {text:?}");
        let net: Ipv4Net = text.parse().map_err(|_| bad())?;
        if net.addr() == net.network() && (8..=30).contains(&net.prefix_len()) { Ok(Self(net)) } else { Err(bad()) }
    }
}

impl FromStr for Ready {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("expected \"unit NAME.service\" or \"tcp PORT\", found {text:?}");
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@');
        match text.split_once(' ') {
            Some(("unit", unit)) if !unit.is_empty() && unit.chars().all(plain) => Ok(Self::Unit(unit.to_owned())),
            Some(("tcp", port)) => port.parse().ok().filter(|port| *port > 0).map(Self::Tcp).ok_or_else(bad),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit(unit) => write!(f, "unit {unit}"),
            Self::Tcp(port) => write!(f, "tcp {port}"),
        }
    }
}

super::text::as_text!(Subnet, "^[0-9.]+/[0-9]+$", "An IPv4 network such as \"10.77.1.0/24\".");
super::text::as_text!(Ready, "^(unit [^ ]+|tcp [0-9]+)$", "A condition such as \"unit nginx.service\" or \"tcp 443\".");

/// The order in which machines are started: each after those that it names, else by name. `Err` holds the roles that wait for
/// each other.
///
/// # Errors
/// When no order exists.
pub fn start_order(after: &BTreeMap<Name, Vec<Name>>) -> Result<Vec<Name>, Vec<Name>> {
    let mut order: Vec<Name> = Vec::new();
    while order.len() < after.len() {
        let free = after
            .iter()
            .find(|(role, wanted)| !order.contains(role) && wanted.iter().all(|other| order.contains(other) || !after.contains_key(other)));
        match free {
            Some((role, _)) => order.push(role.clone()),
            None => return Err(after.keys().filter(|role| !order.contains(role)).cloned().collect()),
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    #[test]
    fn subnets_and_conditions_read_back_and_refuse_all_else() {
        for good in ["10.77.1.0/24", "192.168.0.0/30", "10.0.0.0/8"] {
            assert_eq!(good.parse::<Subnet>().map(|net| net.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "10.77.1.1/24", "10.77.1.0", "10.77.1.0/31", "0.0.0.0/0", "fe80::/64", "10.77.1.0/24 "] {
            assert!(bad.parse::<Subnet>().is_err(), "{bad:?}");
        }
        for good in ["unit nginx.service", "tcp 443", "unit getty@tty1.service"] {
            assert_eq!(good.parse::<Ready>().map(|ready| ready.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "tcp", "tcp 0", "tcp 70000", "unit ", "unit a b", "unit $(reboot)", "udp 53"] {
            assert!(bad.parse::<Ready>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn network_and_broadcast_are_no_hosts() {
        let net: Subnet = "10.77.1.0/30".parse().expect("a subnet");
        let hosts: Vec<bool> = (0..5).map(|last| net.has_host(Ipv4Addr::new(10, 77, 1, last))).collect();
        assert_eq!(hosts, [false, true, true, false, false]);
    }

    #[test]
    fn machines_start_after_those_that_they_need() {
        let after = |pairs: &[(&str, &[&str])]| -> BTreeMap<Name, Vec<Name>> {
            pairs.iter().map(|(role, after)| (name(role), after.iter().map(|role| name(role)).collect())).collect()
        };
        let order = start_order(&after(&[("client", &["server", "dns"]), ("dns", &[]), ("server", &["dns"])]));
        assert_eq!(order, Ok(vec![name("dns"), name("server"), name("client")]));
        let looped = start_order(&after(&[("a", &["b"]), ("b", &["a"]), ("c", &[])]));
        assert_eq!(looped, Err(vec![name("a"), name("b")]));
    }
}
