//! From a real machine's inventory to a hardware profile: `lshw -json`, `dmidecode`, or libvirt's domain XML.
//!
//! ```text
//!  bytes -> which form? -> lshw | dmidecode | domain_xml -> Inventory -> choose -> Hardware, with the differences from production
//! ```
//!
//! Invariants: pure; whatever the bytes are, reading them is bounded in time and memory and ends in a profile that can exist or in an
//! [`Unreadable`]; what the inventory has or leaves open and the profile can't give is among the profile's differences.

mod choose;
mod dmidecode;
mod domain_xml;
mod lshw;
mod processor;
mod write;

use thiserror::Error;

use super::hardware::{Chipset, ClockBase, DiskBus, Hardware, NicModel, TpmInterface, TpmVersion, cpu::Vendor};

pub use write::toml;

/// The longest inventory that is read.
pub const LONGEST: usize = 16 << 20;
/// Characters kept of any name in an inventory.
const NAME: usize = 160;

/// An inventory that no profile can be made of.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{problem}\n  expected the output of `lshw -json`, of `dmidecode`, or of `virsh dumpxml`\n  {hint}")]
pub struct Unreadable {
    pub problem: String,
    pub hint: &'static str,
}

fn unreadable(problem: impl Into<String>, hint: &'static str) -> Unreadable {
    Unreadable { problem: problem.into(), hint }
}

/// The forms of inventory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Lshw,
    Dmidecode,
    DomainXml,
}

impl Form {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lshw => "lshw",
            Self::Dmidecode => "dmidecode",
            Self::DomainXml => "libvirt's domain XML",
        }
    }
}

/// What an inventory says of a machine. `None`, and an empty list in a form that does not know such things, is not told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Inventory {
    identity: Identity,
    /// Where the form tells it.
    chipset: Option<Chipset>,
    has_pci_express: bool,
    uefi: Option<bool>,
    secure_boot: Option<bool>,
    processors: Processors,
    /// Bytes.
    memory: Option<u64>,
    ecc: bool,
    numa_nodes: usize,
    disks: Vec<Disk>,
    cards: Vec<Card>,
    tpm: Option<Tpm>,
    clock: Option<ClockBase>,
    /// Whatever else it has and no profile speaks of: (kind of device, name).
    rest: Vec<(&'static str, String)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Identity {
    manufacturer: Option<String>,
    product: Option<String>,
    version: Option<String>,
    serial: Option<String>,
    uuid: Option<String>,
    sku: Option<String>,
    family: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Processors {
    name: String,
    vendor: Option<Vendor>,
    /// Family, model and stepping, as the processor itself numbers them.
    signature: Option<(u32, u32, u32)>,
    /// QEMU's name of the model, where the inventory is a virtual machine's.
    model: Option<String>,
    sockets: u32,
    /// Of each socket.
    cores: u32,
    /// Of each core.
    threads: u32,
    flags: Vec<String>,
}

/// What a disk hangs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bus {
    /// As it is in a profile.
    Exact(DiskBus),
    /// A RAID controller, a host bus adapter, or what else speaks SCSI.
    Scsi,
    Usb,
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Disk {
    name: String,
    controller: String,
    bus: Bus,
    /// Whether it holds the root file system, or is the one to start from.
    starts: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Card {
    name: String,
    driver: String,
    /// The profile's model that its driver drives, and whether it is that very card.
    model: Option<(NicModel, bool)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Tpm {
    None,
    There(TpmVersion, Option<TpmInterface>, String),
}

/// Makes a profile of an inventory.
///
/// # Errors
/// See [`Unreadable`].
pub fn import(bytes: &[u8]) -> Result<(Form, Hardware), Unreadable> {
    let (form, inventory) = read(bytes)?;
    Ok((form, choose::hardware(form, &inventory)))
}

fn read(bytes: &[u8]) -> Result<(Form, Inventory), Unreadable> {
    if bytes.len() > LONGEST {
        return Err(unreadable(format!("more than {} MiB", LONGEST >> 20), "an inventory of one machine is far shorter"));
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(unreadable("UTF-16 text", "save it as UTF-8: PowerShell's `>` does not"));
    }
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_start_matches('\u{feff}').trim();
    match text.chars().next() {
        None => Err(unreadable("an empty file", "run the tool as root and look at what it says on standard error")),
        Some('{' | '[') => lshw::read(text).map(|inventory| (Form::Lshw, inventory)),
        Some('<') => domain_xml::read(text).map(|inventory| (Form::DomainXml, inventory)),
        Some(_) if dmidecode::is_one(text) => dmidecode::read(text).map(|inventory| (Form::Dmidecode, inventory)),
        Some(_) if text.contains("*-core") => Err(unreadable("lshw's text for people", "give it -json")),
        Some(_) => Err(unreadable("none of the known forms of inventory", "run one of them on the machine, as root")),
    }
}

/// A name of the inventory as one plain line: no controls, no runs of spaces, not too long. `None` for one that says nothing.
fn name(text: &str) -> Option<String> {
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    let line: String = words.join(" ").chars().filter(|c| !is_hidden(*c)).take(NAME).collect();
    let says_nothing = ["", "not specified", "unknown", "none", "n/a", "no asset tag", "<out of spec>", "<bad index>"];
    (!says_nothing.contains(&line.to_lowercase().as_str())).then_some(line)
}

/// Whether a character changes how its neighbours are shown instead of being shown.
const fn is_hidden(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// The profile's model that Linux's driver drives, and whether the card is that very one.
fn card(name: &str, driver: &str) -> Card {
    let is = |chip: &str| name.contains(chip);
    let model = match driver {
        "virtio_net" | "virtio-net" | "virtio" => Some((NicModel::Virtio, true)),
        "vmxnet3" => Some((NicModel::Vmxnet3, true)),
        "e1000" => Some((NicModel::E1000, is("82540EM"))),
        "e1000e" => Some((NicModel::E1000e, is("82574L"))),
        "8139cp" | "8139too" => Some((NicModel::Rtl8139, true)),
        _ => None,
    };
    Card { name: name.to_owned(), driver: driver.to_owned(), model }
}
