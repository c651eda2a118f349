//! One connection to libvirt, and the blocking calls made on it. Machines are looked up by name in every call: a handle can go stale.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use quick_xml::Reader;
use quick_xml::events::Event;
use tokio::sync::broadcast::Sender;
use virt::connect::Connect;
use virt::domain::{Domain, DomainState};
use virt::enumutil::Enum;
use virt::error::{Error, ErrorNumber};
use virt::network::Network;
use virt::stream::Stream;
use virt_sys as sys;

use super::domain::{NAMESPACE, NVME_NODE};
use super::embed::Embedded;
use super::error::number;
use super::events::Callbacks;
use super::facts::is_local;
use crate::hypervisor::screen::png;
use crate::hypervisor::{MachineEvent, Tag};

/// The most that a picture of a screen may take.
const PICTURE: usize = 64 << 20;
/// Seconds between signs of life on a remote connection, and how many may be missed.
const KEEP_ALIVE: (i32, u32) = (5, 4);

/// A connection. Fields are dropped in their order: callbacks off, connection closed, root let go.
pub struct Session {
    _callbacks: Callbacks,
    pub connection: Connect,
    lost: Arc<AtomicBool>,
    _embedded: Option<Arc<Embedded>>,
}

impl Session {
    pub fn open(uri: &str, embedded: Option<Arc<Embedded>>, events: &Sender<MachineEvent>) -> Result<Self, Error> {
        let connection = Connect::open(Some(uri))?;
        if !is_local(uri) {
            connection.set_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1)?;
        }
        let lost = Arc::new(AtomicBool::new(false));
        let callbacks = Callbacks::register(&connection, events, &lost);
        Ok(Self { _callbacks: callbacks, connection, lost, _embedded: embedded })
    }

    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// The machine of this name, if it exists.
    pub fn find(&self, machine: &str) -> Result<Option<Domain>, Error> {
        absent_as_none(self.connection.lookup_domain_by_name(machine))
    }

    /// The machine of this name.
    pub fn get(&self, machine: &str) -> Result<Domain, Error> {
        self.connection.lookup_domain_by_name(machine)
    }

    /// Switches the machine on.
    ///
    /// An emulator's end is told to libvirt by a thread of its own, and libvirt 9.0 was seen to take the end of the previous emulator for
    /// that of the new one: it then refused the start, or killed what it had just started. It asks the definition's record which emulator
    /// runs, so every life gets a new record; 10 of 60 starts that followed at once failed on a loaded host without, none with it.
    pub fn start(&self, machine: &str) -> Result<(), Error> {
        let domain = self.get(machine)?;
        if domain.is_active()? {
            return domain.create();
        }
        let definition = domain.xml_desc(sys::VIR_DOMAIN_XML_SECURE | sys::VIR_DOMAIN_XML_INACTIVE)?;
        let kept = sys::VIR_DOMAIN_UNDEFINE_KEEP_NVRAM | sys::VIR_DOMAIN_UNDEFINE_KEEP_TPM;
        undefine(&domain, kept)?;
        self.connection.define_domain_xml(&definition)?.create()
    }

    /// Writes the machine's memory into a file, at which it ends.
    pub fn save(&self, machine: &str, file: &str) -> Result<(), Error> {
        let domain = self.get(machine)?;
        let file = std::ffi::CString::new(file).unwrap_or_default();
        // SAFETY: the handle lives until the end of this function, the text ends with its only zero byte, and without a new definition
        // libvirt takes the running one.
        let saved = unsafe { sys::virDomainSaveFlags(domain.as_ptr(), file.as_ptr(), std::ptr::null(), sys::VIR_DOMAIN_SAVE_RUNNING) };
        if saved == 0 { Ok(()) } else { Err(Error::last_error()) }
    }

    /// Lets the machine that a file of [`Self::save`] says it is go on.
    pub fn restore(&self, file: &str) -> Result<(), Error> {
        self.connection.restore_domain_flags(file, None, sys::VIR_DOMAIN_SAVE_RUNNING)
    }

    /// Changes what is in a drive of a running machine.
    pub fn insert(&self, machine: &str, drive: &str) -> Result<(), Error> {
        self.get(machine)?.update_device_flags(drive, sys::VIR_DOMAIN_AFFECT_LIVE).map(drop)
    }

    /// Cuts the power. Fine when it is off.
    pub fn power_off(&self, machine: &str) -> Result<(), Error> {
        cut(&self.get(machine)?)
    }

    /// Takes the machine away from libvirt, with all that libvirt keeps about it.
    pub fn undefine(&self, domain: &Domain) -> Result<(), Error> {
        cut(domain)?;
        let all = sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
            | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
            | sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
            | sys::VIR_DOMAIN_UNDEFINE_NVRAM;
        absent_as_none(undefine(domain, all)).map(drop)
    }

    /// All machines with a tag, whoever's.
    pub fn tagged(&self) -> Result<Vec<(String, Tag, bool)>, Error> {
        let mut found = Vec::new();
        for domain in self.connection.list_all_domains(0)? {
            // One that vanishes meanwhile is no error.
            let Some(tag) = absent_as_none(tag(&domain))?.flatten() else { continue };
            let Some(running) = absent_as_none(domain.is_active())? else { continue };
            found.push((domain.name()?, tag, running));
        }
        Ok(found)
    }

    /// (running, CPU nanoseconds, disk bytes, whether QEMU alone knows the disk).
    pub fn vitals(&self, machine: &str) -> Result<(bool, u64, u64, bool), Error> {
        let domain = self.get(machine)?;
        let info = domain.info()?;
        if matches!(info.state, Enum::Known(DomainState::Shutoff | DomainState::Crashed)) {
            return Ok((false, info.cpu_time, 0, false));
        }
        let unmanaged = domain.xml_desc(0)?.contains(NVME_NODE);
        let disk = if unmanaged { nvme_bytes(&domain) } else { block_bytes(&domain) };
        Ok((true, info.cpu_time, disk, unmanaged))
    }

    /// A picture, or `None` when the driver makes none that is known.
    pub fn screenshot(&self, machine: &str) -> Result<Option<Vec<u8>>, Error> {
        let domain = self.get(machine)?;
        let stream = Stream::new(&self.connection, 0)?;
        match domain.screenshot(&stream, 0, 0) {
            Err(error) if number(&error) == Some(ErrorNumber::NoSupport) => return Ok(None),
            other => other?,
        };
        let mut picture = Vec::new();
        let mut piece = vec![0; 256 << 10];
        while picture.len() < PICTURE {
            match usize::try_from(stream.recv(&mut piece)?) {
                Ok(0) | Err(_) => break,
                Ok(length) => picture.extend_from_slice(&piece[..length]),
            }
        }
        // A stream that was cut short by the cap refuses to finish; what was read stands.
        let _ = stream.finish();
        Ok(png(picture))
    }
}

/// Isolated networks, where they stand for segments.
impl Session {
    /// All networks with a tag, whoever's.
    pub fn tagged_networks(&self) -> Result<Vec<(Network, Tag)>, Error> {
        let all = match self.connection.list_all_networks(0) {
            // A driver without networks has none.
            Err(error) if number(&error) == Some(ErrorNumber::NoSupport) => Vec::new(),
            other => other?,
        };
        let mut found = Vec::new();
        for network in all {
            let Some(xml) = no_network_as_none(network.xml_desc(0))? else { continue };
            found.extend(network_tag(&xml).map(|tag| (network, tag)));
        }
        Ok(found)
    }

    /// Removes all of one lease of one lab. Fine when there is none.
    pub fn remove_networks(&self, lab: &str, lease: &str) -> Result<(), Error> {
        for (network, _) in self.tagged_networks()?.into_iter().filter(|(_, tag)| tag.lab == lab && tag.lease == lease) {
            // It is transient: off is gone.
            no_network_as_none(network.destroy())?;
        }
        Ok(())
    }

    pub fn has_network(&self, name: &str) -> Result<bool, Error> {
        let found = no_network_as_none(self.connection.lookup_network_by_name(name))?;
        Ok(found.is_some_and(|network| network.is_active().unwrap_or(false)))
    }

    /// Takes a NIC's link down or up, for now and for when the machine is switched on again.
    pub fn set_link(&self, machine: &str, mac: &str, up: bool) -> Result<(), Error> {
        let domain = self.get(machine)?;
        let now = if domain.is_active()? { sys::VIR_DOMAIN_AFFECT_LIVE } else { 0 };
        for flag in [now, sys::VIR_DOMAIN_AFFECT_CONFIG].into_iter().filter(|flag| *flag != 0) {
            let inactive = if flag == sys::VIR_DOMAIN_AFFECT_CONFIG { sys::VIR_DOMAIN_XML_INACTIVE } else { 0 };
            let xml = with_link(&domain.xml_desc(inactive)?, mac, up);
            domain.update_device_flags(&xml.unwrap_or_default(), flag)?;
        }
        Ok(())
    }
}

/// The definition of the NIC with this address as libvirt wrote it, with its link in the given state.
fn with_link(domain: &str, mac: &str, up: bool) -> Option<String> {
    const END: &str = "</interface>";
    let wanted = format!("<mac address='{mac}'/>");
    let mut nics = domain.match_indices("<interface ").filter_map(|(at, _)| domain.get(at..)?.split_once(END)).map(|(nic, _)| nic);
    let nic = nics.find(|nic| nic.contains(&wanted))?;
    let bare: String = ["<link state='up'/>", "<link state='down'/>"].iter().fold(nic.to_owned(), |nic, link| nic.replace(link, ""));
    Some(format!("{bare}<link state='{}'/>{END}", if up { "up" } else { "down" }))
}

fn no_network_as_none<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if number(&error) == Some(ErrorNumber::NoNetwork) => Ok(None),
        Err(error) => Err(error),
    }
}

fn absent_as_none<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if number(&error) == Some(ErrorNumber::NoDomain) => Ok(None),
        Err(error) => Err(error),
    }
}

fn undefine(domain: &Domain, flags: u32) -> Result<(), Error> {
    match domain.undefine_flags(flags) {
        // Drivers that keep nothing beside the definition know no flags.
        Err(error) if matches!(number(&error), Some(ErrorNumber::InvalidArg | ErrorNumber::NoSupport)) => domain.undefine(),
        other => other,
    }
}

fn cut(domain: &Domain) -> Result<(), Error> {
    match domain.destroy() {
        Err(error) if matches!(number(&error), Some(ErrorNumber::OperationInvalid | ErrorNumber::NoDomain)) => Ok(()),
        other => other,
    }
}

/// The lab's tag on a machine, if it has one.
pub fn tag(domain: &Domain) -> Result<Option<Tag>, Error> {
    let element = sys::VIR_DOMAIN_METADATA_ELEMENT.cast_signed();
    match domain.metadata(element, Some(NAMESPACE), sys::VIR_DOMAIN_AFFECT_CURRENT) {
        Ok(xml) => Ok(tag_from(&xml, |_| true)),
        Err(error) if number(&error) == Some(ErrorNumber::NoDomainMetadata) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The lab's tag on a network, from its definition: libvirt before 9.7 tells a network's metadata in no other way.
fn network_tag(xml: &str) -> Option<Tag> {
    tag_from(xml, |name| name == b"patchlab:network")
}

/// The tag in the first element of such a name.
fn tag_from(xml: &str, is_tag: impl Fn(&[u8]) -> bool) -> Option<Tag> {
    let mut reader = Reader::from_str(xml);
    let element = loop {
        match reader.read_event().ok()? {
            Event::Start(element) | Event::Empty(element) if is_tag(element.name().as_ref()) => break element,
            Event::Eof => return None,
            _ => {}
        }
    };
    let attribute = |name: &str| -> Option<String> {
        let found = element.try_get_attribute(name).ok()??;
        found.normalized_value(quick_xml::XmlVersion::Implicit1_0).ok().map(|value| value.into_owned())
    };
    Some(Tag {
        lab: attribute("lab")?,
        run: attribute("run")?.parse().ok()?,
        cell: attribute("cell")?.parse().ok()?,
        lease: attribute("lease")?,
    })
}

/// Bytes read and written by all disks that libvirt knows.
fn block_bytes(domain: &Domain) -> u64 {
    let known = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
    domain.block_stats("").map_or(0, |stats| known(stats.rd_bytes) + known(stats.wr_bytes))
}

/// The same from QEMU itself, for the disk that libvirt does not know.
fn nvme_bytes(domain: &Domain) -> u64 {
    let Ok(answer) = domain.qemu_monitor_command(r#"{"execute":"query-blockstats"}"#, 0) else { return 0 };
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
    let devices = answer["return"].as_array().map(Vec::as_slice).unwrap_or_default();
    let bytes = |device: &serde_json::Value| ["rd_bytes", "wr_bytes"].iter().filter_map(|key| device["stats"][key].as_u64()).sum::<u64>();
    devices.iter().map(bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypervisor::libvirt::xml::element;

    #[test]
    fn tags_read_back_whatever_is_in_them() {
        let hostile = "\"<&'>]]> \u{e9}";
        let xml = element("patchlab:machine")
            .with("xmlns:patchlab", NAMESPACE)
            .with("lab", hostile)
            .with("run", "01890a5d-ac96-774b-bcce-b302099a8057")
            .with("cell", "acme.web@virtio-bios")
            .with("lease", hostile)
            .to_document()
            .expect("written");
        let tag = tag_from(&xml, |_| true).expect("a tag");
        assert_eq!((tag.lab.as_str(), tag.lease.as_str()), (hostile, hostile));
        for bad in ["", "<a", "<a/>", "<a lab='x' run='y' cell='z' lease='w'/>"] {
            assert_eq!(tag_from(bad, |_| true), None, "{bad}");
        }
    }

    #[test]
    fn a_networks_tag_is_found_among_what_others_wrote() {
        let tag = Tag {
            lab: "a lab".to_owned(),
            run: "01890a5d-ac96-774b-bcce-b302099a8057".parse().expect("a run"),
            cell: "acme.office@virtio-bios:all".parse().expect("a cell"),
            lease: "pass".to_owned(),
        };
        let xml = crate::hypervisor::libvirt::networks::network_xml("pass-lan", &tag).expect("written");
        assert_eq!(network_tag(&xml), Some(tag));
        assert!(!xml.contains("forward") && !xml.contains("<ip"), "{xml}");
        assert_eq!(network_tag("<network><name>default</name><metadata><o:x xmlns:o='y' lab='a lab'/></metadata></network>"), None);
    }

    #[test]
    fn a_link_is_set_on_the_nic_that_is_meant() {
        let nic = |mac: &str, link: &str| format!("<interface type='network'>\n  <mac address='{mac}'/>\n{link}</interface>");
        let domain = format!("<devices>{}{}</devices>", nic("52:54:00:00:00:01", ""), nic("52:54:00:00:00:02", "<link state='down'/>"));
        assert_eq!(with_link(&domain, "52:54:00:00:00:01", false), Some(nic("52:54:00:00:00:01", "<link state='down'/>")));
        assert_eq!(with_link(&domain, "52:54:00:00:00:02", true), Some(nic("52:54:00:00:00:02", "<link state='up'/>")));
        assert_eq!(with_link(&domain, "52:54:00:00:00:03", true), None);
    }
}
