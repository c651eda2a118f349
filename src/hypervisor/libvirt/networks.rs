//! The networks of passes: switched in this process where the machines run on this host; elsewhere each segment is an isolated network
//! of the libvirt there.
//!
//! Such a network has no way out: libvirt's bridge has no address, no forwarding, no DHCP and no DNS. It is transient, bears the lab's
//! tag, and one without it is never changed. What it can't do is said: frames are neither captured nor delayed there, only links taken
//! down and up. Unlike on a segment that is switched here, a guest then sees its carrier go.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

use jiff::Timestamp;

use super::domain::{NAMESPACE, Place, SiteNic, Wire};
use super::error::{failure, file, refused};
use super::session::Session;
use super::xml::{element, text};
use super::{FLUSH, Inner, MISTAKE, facts, folder};
use crate::hypervisor::segments::{Fault, Happening, LinkEvent, Mac, Network, NetworkSpec, Verb};
use crate::hypervisor::{HypervisorError, HypervisorErrorKind, MachineNic, MachineSpec, Plug, Tag, WireReport};
use crate::id::Name;

/// The network of one pass.
pub enum PassNetwork {
    Switched(Network),
    Distant(Distant),
}

/// A network on another host.
pub struct Distant {
    spec: NetworkSpec,
    timeline: Vec<LinkEvent>,
    /// The machine of each NIC, by segment and NIC, once it is made.
    plugged: BTreeMap<(Name, Name), String>,
}

/// What libvirt calls a segment's network.
pub fn segment_name(network: &str, segment: &Name) -> String {
    format!("{network}-{segment}")
}

/// The definition of a segment's network.
pub fn network_xml(name: &str, tag: &Tag) -> std::io::Result<String> {
    let tag = element("patchlab:network")
        .with("xmlns:patchlab", NAMESPACE)
        .with("lab", &tag.lab)
        .with("run", tag.run)
        .with("cell", &tag.cell)
        .with("lease", &tag.lease);
    // Without this, libvirt's firewall would stop IPv6 between guests where the host has no address.
    let network = element("network").with("ipv6", "yes").holding([
        text("name", name),
        element("metadata").holding([tag]),
        element("bridge").with("stp", "off").with("delay", 0),
        element("dns").with("enable", "no"),
    ]);
    network.to_document()
}

impl Distant {
    fn new(spec: &NetworkSpec) -> Self {
        let opened = LinkEvent { at: Timestamp::now(), what: Happening::Opened };
        Self { spec: spec.clone(), timeline: vec![opened], plugged: BTreeMap::new() }
    }

    fn plug(&mut self, name: &str, nic: &Plug, machine: &str) -> Option<Place> {
        let segment = self.spec.segments.iter().find(|segment| segment.name == nic.segment)?;
        segment.nics.iter().find(|planned| planned.name == nic.nic)?;
        self.plugged.insert((nic.segment.clone(), nic.nic.clone()), machine.to_owned());
        Some(Place::Network(segment_name(name, &nic.segment)))
    }

    /// The links that a fault is about, each with its machine and hardware address, and whether they are to be up.
    fn links(&self, fault: &Fault, uri: &str, tried: &str) -> Result<(Vec<(String, String)>, bool), HypervisorError> {
        let refuse = |found: &str, hint: &str| failure(HypervisorErrorKind::Refused, tried, found, hint);
        let up = match &fault.verb {
            Verb::LinkDown => false,
            Verb::LinkUp | Verb::Clear => true,
            Verb::Delay { .. } | Verb::Jitter { .. } | Verb::Loss { .. } | Verb::Duplicate { .. } | Verb::Partition { .. } => {
                let found = format!(
                    "{uri} is on another host: links can be taken down and up there, but frames can't be delayed, lost, doubled or kept apart"
                );
                return Err(refuse(
                    &found,
                    "validate this environment on a libvirt of this host, or let its cases use down, up and heal alone",
                ));
            }
        };
        let segment = self.spec.segments.iter().find(|segment| segment.name == fault.segment);
        let segment = segment.ok_or_else(|| refuse(&format!("no segment {}", fault.segment), MISTAKE))?;
        let meant: Vec<_> = segment.nics.iter().filter(|nic| fault.nic.as_ref().is_none_or(|meant| *meant == nic.name)).collect();
        if meant.is_empty() {
            return Err(refuse(&format!("no such NIC on the segment {}", fault.segment), MISTAKE));
        }
        let machine =
            |nic: &str| self.plugged.iter().find(|((on, name), _)| *on == segment.name && name.as_str() == nic).map(|(_, to)| to.clone());
        // A NIC whose machine is not made has no link yet.
        Ok((meant.iter().filter_map(|nic| Some((machine(nic.name.as_str())?, nic.mac.to_string()))).collect(), up))
    }
}

impl Inner {
    fn open_networks(&self) -> MutexGuard<'_, BTreeMap<String, PassNetwork>> {
        self.networks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A machine's NICs and where they lead.
    pub(super) fn nics(&self, spec: &MachineSpec, tried: &str) -> Result<Vec<SiteNic>, HypervisorError> {
        let refused = |found: &str, hint: &str| failure(HypervisorErrorKind::Refused, tried, found, hint);
        let mut networks = self.open_networks();
        let mut plugged = |plug: &Plug| {
            let place = match networks.get_mut(&plug.network) {
                Some(PassNetwork::Switched(network)) => {
                    let found = network.plugs().iter().find(|place| place.segment == plug.segment && place.nic == plug.nic);
                    found.map(|found| Place::Wire(Wire { local: found.ends.local, remote: found.ends.remote }))
                }
                Some(PassNetwork::Distant(network)) => network.plug(&plug.network, plug, &spec.name),
                None => None,
            };
            let found = || format!("there is no place for the NIC {} on the segment {} of {}", plug.nic, plug.segment, plug.network);
            place.ok_or_else(|| refused(&found(), MISTAKE))
        };
        let nowhere = |mac: Mac| {
            let wire = facts::wire(format!("{} {mac}", spec.name).as_bytes());
            wire.map(Place::Wire).ok_or_else(|| refused("no two free UDP ports in 20000 to 29999", "end what holds them"))
        };
        let nic = |nic: &MachineNic| {
            let at = nic.at.as_ref().map_or_else(|| nowhere(nic.mac), &mut plugged)?;
            Ok(SiteNic { mac: nic.mac, at })
        };
        spec.nics.iter().map(nic).collect()
    }

    /// Opens a network, with a folder of its own.
    pub(super) fn open_network(&self, name: &str, tag: &Tag, spec: &NetworkSpec, tried: &str) -> Result<(), HypervisorError> {
        if !folder::good_name(name) || tag.lab != self.lab {
            return Err(failure(HypervisorErrorKind::Refused, tried, "the name or the tag is not this lab's", MISTAKE));
        }
        let folder = folder::of(&self.machines, name);
        folder::make(&folder, tag).map_err(|error| file(tried, &error))?;
        let opened = if facts::switches_here(&self.uri) {
            Network::open(spec, &folder).map(PassNetwork::Switched)
        } else {
            self.define_segments(name, tag, spec, tried).map(|()| PassNetwork::Distant(Distant::new(spec)))
        };
        let opened = opened.inspect_err(|_| drop(folder::remove(&folder)))?;
        self.open_networks().insert(name.to_owned(), opened);
        Ok(())
    }

    /// Makes a network for each segment. On error none is left.
    fn define_segments(&self, name: &str, tag: &Tag, spec: &NetworkSpec, tried: &str) -> Result<(), HypervisorError> {
        let session = self.session()?;
        let define = |segment: &Name| {
            let xml = network_xml(&segment_name(name, segment), tag).map_err(|error| file(tried, &error))?;
            session.connection.create_network_xml(&xml).map(drop).map_err(|error| HypervisorError {
                hint: "isolated networks need a libvirt that works as root (qemu+ssh://HOST/system) and its network driver".to_owned(),
                ..refused(tried, &error)
            })
        };
        let defined = spec.segments.iter().try_for_each(|segment| define(&segment.name));
        if defined.is_err()
            && let Err(left) = session.remove_networks(&self.lab, name)
        {
            tracing::warn!(network = name, error = %left, "half-made network not removed");
        }
        defined
    }

    pub(super) fn disturb(&self, name: &str, fault: &Fault, tried: &str) -> Result<(), HypervisorError> {
        let (links, up) = match self.open_networks().get(name).ok_or_else(|| gone(tried))? {
            PassNetwork::Switched(network) => return network.apply(fault),
            PassNetwork::Distant(network) => network.links(fault, &self.uri, tried)?,
        };
        let session = self.session()?;
        for (machine, mac) in links {
            session.set_link(&machine, &mac, up).map_err(|error| refused(tried, &error))?;
        }
        if let Some(PassNetwork::Distant(network)) = self.open_networks().get_mut(name) {
            network.timeline.push(LinkEvent { at: Timestamp::now(), what: Happening::Done(fault.clone()) });
        }
        Ok(())
    }

    pub(super) fn wire(&self, name: &str, tried: &str) -> Result<WireReport, HypervisorError> {
        let (segments, timeline) = match self.open_networks().get(name) {
            None => return self.left_of(name, tried),
            Some(PassNetwork::Switched(network)) => {
                if !network.flush(FLUSH) {
                    tracing::warn!(network = name, "the end of a capture is not on the disk yet");
                }
                let (segments, folder) = (network.stats(), folder::of(&self.machines, name));
                let captures = segments.iter().map(|one| (one.segment.clone(), folder.join(format!("{}.pcap", one.segment)))).collect();
                return Ok(WireReport { timeline: network.timeline(), segments, captures, broken: network.broken(), unseen: None });
            }
            Some(PassNetwork::Distant(network)) => {
                (network.spec.segments.iter().map(|segment| segment.name.clone()).collect::<Vec<_>>(), network.timeline.clone())
            }
        };
        let session = self.session()?;
        let mut broken = None;
        for segment in segments {
            let name = segment_name(name, &segment);
            if !session.has_network(&name).map_err(|error| refused(tried, &error))? {
                broken = Some(format!("libvirt's network {name} is gone"));
            }
        }
        let unseen = Some(format!("the machines are on the host of {}, and nothing is captured there", self.uri));
        Ok(WireReport { timeline, broken, unseen, ..WireReport::default() })
    }

    /// What is left of a network that another process has switched.
    fn left_of(&self, name: &str, tried: &str) -> Result<WireReport, HypervisorError> {
        let captures = folder::captures(&folder::of(&self.machines, name)).map_err(|_| gone(tried))?;
        Ok(WireReport { captures, broken: Some("the process that switched it has ended".to_owned()), ..WireReport::default() })
    }

    /// Removes a network of this lab, if there is one.
    pub(super) fn remove_network(&self, name: &str, session: &Session, tried: &str) -> Result<(), HypervisorError> {
        let open = self.open_networks().remove(name);
        if let Some(PassNetwork::Switched(network)) = open {
            network.close();
        }
        if facts::switches_here(&self.uri) {
            return Ok(());
        }
        session.remove_networks(&self.lab, name).map_err(|error| refused(tried, &error))
    }
}

fn gone(tried: &str) -> HypervisorError {
    failure(HypervisorErrorKind::NoMachine, tried, "there is no such network in this process", "run the cell again")
}
