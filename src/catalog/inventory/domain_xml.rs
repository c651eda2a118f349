//! libvirt's domain XML (`virsh dumpxml`): most of it has the very words of a profile.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::{Bus, Card, Disk, Inventory, Tpm, Unreadable, name, processor, unreadable};
use crate::catalog::hardware::{Chipset, ClockBase, DiskBus, NicModel, TpmInterface, TpmVersion, cpu};

/// Elements that are read, and how deep they may lie in each other.
const ELEMENTS: usize = 50_000;
const DEEPEST: usize = 64;

#[derive(Default)]
struct Node {
    name: String,
    attributes: Vec<(String, String)>,
    text: String,
    children: Vec<Node>,
}

impl Node {
    fn get(&self, attribute: &str) -> &str {
        self.attributes.iter().find(|(known, _)| known == attribute).map_or("", |(_, value)| value)
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Node> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The first element along a path of names.
    fn at(&self, path: &str) -> Option<&Node> {
        path.split('/').try_fold(self, |here, name| here.children.iter().find(|child| child.name == name))
    }

    /// An attribute of the first element along a path.
    fn attribute(&self, path: &str, attribute: &str) -> &str {
        self.at(path).map_or("", |node| node.get(attribute))
    }

    fn text_at(&self, path: &str) -> &str {
        self.at(path).map_or("", |node| node.text.trim())
    }
}

pub(super) fn read(text: &str) -> Result<Inventory, Unreadable> {
    let root = parse(text)?;
    match root.name.as_str() {
        "domain" => {}
        "node" | "list" => return Err(unreadable("lshw's XML", "give lshw -json instead of -xml")),
        "html" | "HTML" => return Err(unreadable("a page of HTML", "give lshw -json")),
        other => {
            let shown = name(other).unwrap_or_default();
            return Err(unreadable(format!("XML whose outermost element is <{shown}>, not <domain>"), "`virsh dumpxml MACHINE` writes it"));
        }
    }
    let mut inventory = Inventory::default();
    start(&root, &mut inventory);
    identity(&root, &mut inventory);
    processors(&root, &mut inventory);
    if let Some(devices) = root.at("devices") {
        disks(devices, &mut inventory);
        cards(devices, &mut inventory);
        inventory.tpm = Some(devices.all("tpm").next().map_or(Tpm::None, tpm));
        rest(devices, &mut inventory);
    }
    Ok(inventory)
}

/// The document as a tree. Entities other than XML's own five are refused by the parser, so that nothing grows.
fn parse(text: &str) -> Result<Node, Unreadable> {
    let broken = |why: String| unreadable(format!("not well-formed XML: {why}"), "`virsh dumpxml MACHINE` writes it");
    let mut reader = Reader::from_str(text);
    let mut open = vec![Node::default()];
    let mut elements = 0;
    loop {
        let event = reader.read_event().map_err(|error| broken(error.to_string()))?;
        elements += usize::from(matches!(event, Event::Start(_) | Event::Empty(_)));
        if elements > ELEMENTS || open.len() > DEEPEST {
            return Err(unreadable("XML with far too many elements for one machine", "give one machine's definition"));
        }
        match event {
            Event::Start(element) => open.push(node(&element).map_err(broken)?),
            Event::Empty(element) => {
                let node = node(&element).map_err(broken)?;
                if let Some(parent) = open.last_mut() {
                    parent.children.push(node);
                }
            }
            Event::End(_) => {
                if let (Some(done), Some(parent)) = (open.pop(), open.last_mut()) {
                    parent.children.push(done);
                }
            }
            Event::Text(text) => {
                if let (Some(node), Ok(text)) = (open.last_mut(), text.decode()) {
                    node.text.push_str(&text);
                }
            }
            Event::GeneralRef(entity) => {
                let resolved = entity.resolve_char_ref().ok().flatten();
                let named = || match &*entity.decode().unwrap_or_default() {
                    "amp" => Some('&'),
                    "lt" => Some('<'),
                    "gt" => Some('>'),
                    "quot" => Some('"'),
                    "apos" => Some('\''),
                    _ => None,
                };
                let resolved = resolved.or_else(named).ok_or_else(|| broken("an entity that XML itself does not have".to_owned()))?;
                if let Some(node) = open.last_mut() {
                    node.text.push(resolved);
                }
            }
            Event::Eof => break,
            Event::CData(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
    if open.len() != 1 {
        return Err(broken("it ends in the middle".to_owned()));
    }
    let mut tops = open.pop().map(|top| top.children).unwrap_or_default().into_iter();
    match (tops.next(), tops.next()) {
        (Some(root), None) => Ok(root),
        (None, _) => Err(broken("it has no element".to_owned())),
        (Some(_), Some(_)) => Err(unreadable("several XML documents in one file", "give one machine's definition")),
    }
}

fn node(element: &BytesStart<'_>) -> Result<Node, String> {
    let mut node = Node { name: String::from_utf8_lossy(element.name().as_ref()).into_owned(), ..Node::default() };
    for attribute in element.attributes().take(100) {
        let attribute = attribute.map_err(|error| error.to_string())?;
        let value = attribute.normalized_value(quick_xml::XmlVersion::Implicit1_0).map_err(|error| error.to_string())?;
        node.attributes.push((String::from_utf8_lossy(attribute.key.as_ref()).into_owned(), value.into_owned()));
    }
    Ok(node)
}

/// Chipset, firmware and clock.
fn start(root: &Node, inventory: &mut Inventory) {
    let machine = root.attribute("os/type", "machine");
    inventory.chipset = Some(if machine.contains("q35") { Chipset::Q35 } else { Chipset::Pc });
    let architecture = root.attribute("os/type", "arch");
    if !matches!(architecture, "" | "x86_64" | "i686") {
        inventory.rest.push(("architecture", name(architecture).unwrap_or_default()));
    }
    let loader = root.at("os/loader");
    let pflash = loader.is_some_and(|loader| loader.get("type") == "pflash");
    inventory.uefi = Some(pflash || root.attribute("os", "firmware") == "efi");
    let feature = |wanted: &str| {
        let features = root.at("os/firmware").into_iter().flat_map(|firmware| firmware.all("feature"));
        features.into_iter().any(|feature| feature.get("name") == wanted && feature.get("enabled") == "yes")
    };
    inventory.secure_boot =
        Some(feature("secure-boot") && feature("enrolled-keys") || loader.is_some_and(|loader| loader.get("secure") == "yes"));
    inventory.clock = match root.attribute("clock", "offset") {
        "localtime" => Some(ClockBase::Localtime),
        "utc" => Some(ClockBase::Utc),
        _ => None,
    };
    inventory.memory = root.at("memory").and_then(|memory| {
        let shift = match memory.get("unit") {
            "b" | "bytes" => 0,
            "" | "k" | "KiB" => 10,
            "M" | "MiB" => 20,
            "G" | "GiB" => 30,
            "T" | "TiB" => 40,
            _ => return None,
        };
        memory.text.trim().parse::<u64>().ok()?.checked_mul(1 << shift)
    });
}

fn identity(root: &Node, inventory: &mut Inventory) {
    let into = &mut inventory.identity;
    for entry in root.at("sysinfo/system").into_iter().flat_map(|system| system.all("entry")) {
        let field = match entry.get("name") {
            "manufacturer" => &mut into.manufacturer,
            "product" => &mut into.product,
            "version" => &mut into.version,
            "serial" => &mut into.serial,
            "sku" => &mut into.sku,
            "family" => &mut into.family,
            "uuid" => &mut into.uuid,
            _ => continue,
        };
        *field = name(&entry.text);
    }
    // Without a table of its own, the machine's UUID is what the guest sees.
    into.uuid = into.uuid.take().or_else(|| name(root.text_at("uuid")));
}

fn processors(root: &Node, inventory: &mut Inventory) {
    let into = &mut inventory.processors;
    let number = |text: &str| text.trim().parse::<u32>().unwrap_or(0);
    let topology = |key| number(root.attribute("cpu/topology", key));
    let dies = topology("dies").max(1);
    (into.sockets, into.cores, into.threads) = (topology("sockets"), topology("cores").saturating_mul(dies), topology("threads"));
    if into.sockets == 0 {
        // libvirt makes each its own socket.
        (into.sockets, into.cores, into.threads) = (number(root.text_at("vcpu")).max(1), 1, 1);
    }
    let mode = root.attribute("cpu", "mode");
    let model = name(root.text_at("cpu/model")).filter(|model| cpu_name(model));
    into.vendor = processor::vendor(root.text_at("cpu/vendor")).or_else(|| model.as_deref().and_then(cpu::vendor));
    match (mode, model) {
        ("host-passthrough" | "maximum", _) | ("host-model", None) => {
            into.name = format!("{mode}: the production host's own processor");
        }
        (_, Some(model)) => {
            let features: Vec<_> =
                root.at("cpu").into_iter().flat_map(|cpu| cpu.all("feature")).map(|feature| feature.get("name")).collect();
            if !features.is_empty() {
                let more = if features.len() > 12 { ", …" } else { "" };
                let shown = features.iter().take(12).copied().collect::<Vec<_>>().join(", ");
                inventory.rest.push(("processor features", name(&format!("{model} changed in {shown}{more}")).unwrap_or_default()));
            }
            into.name.clone_from(&model);
            into.model = Some(model);
        }
        // QEMU's default.
        (_, None) => into.model = Some("qemu64".to_owned()),
    }
    inventory.numa_nodes = root.at("cpu/numa").map_or(0, |numa| numa.all("cell").count());
}

/// A name that a profile can have for a CPU model.
fn cpu_name(model: &str) -> bool {
    model.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn disks(devices: &Node, inventory: &mut Inventory) {
    let scsi =
        devices.all("controller").find(|controller| controller.get("type") == "scsi").map_or("", |controller| controller.get("model"));
    let mut first = None;
    for disk in devices.all("disk").filter(|disk| matches!(disk.get("device"), "" | "disk" | "lun")) {
        let bus = match disk.attribute("target", "bus") {
            "virtio" => Bus::Exact(DiskBus::Virtio),
            "sata" => Bus::Exact(DiskBus::Sata),
            "ide" => Bus::Exact(DiskBus::Ide),
            "nvme" => Bus::Exact(DiskBus::Nvme),
            "scsi" if matches!(scsi, "" | "virtio-scsi" | "virtio-transitional" | "virtio-non-transitional") => Bus::Exact(DiskBus::Scsi),
            "scsi" => Bus::Scsi,
            "usb" => Bus::Usb,
            _ => Bus::Unknown,
        };
        let target = name(disk.attribute("target", "dev")).unwrap_or_else(|| "disk".to_owned());
        let kind = name(disk.get("type")).unwrap_or_else(|| "file".to_owned());
        let controller = match bus {
            Bus::Scsi => name(scsi).unwrap_or_default(),
            _ => name(disk.attribute("target", "bus")).unwrap_or_default(),
        };
        let order = disk.attribute("boot", "order").parse::<u32>().ok();
        if order.is_some_and(|order| first.is_none_or(|(least, _)| order < least)) {
            first = order.map(|order| (order, inventory.disks.len()));
        }
        inventory.disks.push(Disk { name: format!("{target} ({kind})"), controller, bus, starts: false });
    }
    if let Some(disk) = first.and_then(|(_, at)| inventory.disks.get_mut(at)) {
        disk.starts = true;
    }
}

fn cards(devices: &Node, inventory: &mut Inventory) {
    for interface in devices.all("interface") {
        let model = interface.attribute("model", "type");
        if interface.get("type") == "hostdev" {
            inventory.rest.push(("network card given through", "an adapter of the production host".to_owned()));
            continue;
        }
        let known = match model {
            "virtio" | "virtio-transitional" | "virtio-non-transitional" => Some(NicModel::Virtio),
            "e1000" => Some(NicModel::E1000),
            "e1000e" => Some(NicModel::E1000e),
            // libvirt's default for x86.
            "rtl8139" | "" => Some(NicModel::Rtl8139),
            "vmxnet3" => Some(NicModel::Vmxnet3),
            _ => None,
        };
        let shown = name(model).unwrap_or_else(|| "rtl8139".to_owned());
        inventory.cards.push(Card { name: shown.clone(), driver: shown, model: known.map(|model| (model, true)) });
    }
}

fn tpm(node: &Node) -> Tpm {
    let interface = match node.get("model") {
        "tpm-crb" => Some(TpmInterface::Crb),
        "tpm-tis" => Some(TpmInterface::Tis),
        _ => None,
    };
    let version = if node.attribute("backend", "version") == "1.2" { TpmVersion::V1_2 } else { TpmVersion::V2_0 };
    let backend = name(node.attribute("backend", "type")).unwrap_or_else(|| "emulator".to_owned());
    Tpm::There(version, interface, backend)
}

fn rest(devices: &Node, inventory: &mut Inventory) {
    for device in &devices.children {
        let model = |path: &str, attribute: &str| name(device.attribute(path, attribute)).or_else(|| name(device.get(attribute)));
        let found = match device.name.as_str() {
            "hostdev" => {
                let part = |key| device.attribute("source/address", key).trim_start_matches("0x");
                let place = if part("bus").is_empty() {
                    device.get("type").to_owned()
                } else {
                    format!("{}:{}.{}", part("bus"), part("slot"), part("function"))
                };
                ("device given through", name(&format!("{} {place}", device.get("type"))))
            }
            "video" => ("graphics", model("model", "type").filter(|model| !matches!(model.as_str(), "vga" | "none"))),
            "sound" => ("sound", model("", "model")),
            "watchdog" => ("watchdog", model("", "model")),
            "smartcard" => ("smart card reader", model("", "mode")),
            "filesystem" => ("shared folder", model("target", "dir").or_else(|| Some("of the production host".to_owned()))),
            "shmem" => ("shared memory", model("", "name")),
            "redirdev" => ("redirected USB device", model("", "bus")),
            "memory" => ("memory module", model("", "model")),
            "vsock" => ("vsock", Some("to the production host".to_owned())),
            "iommu" => ("IOMMU", model("", "model")),
            "memballoon" => ("memory balloon", model("", "model").filter(|model| model != "none")),
            "controller" if device.get("type") == "usb" => ("USB controller", model("", "model").filter(|model| model != "none")),
            _ => continue,
        };
        if let (kind, Some(shown)) = found {
            inventory.rest.push((kind, shown));
        }
    }
}
