//! `lshw -json`: a tree of nodes, each with a class, a product, a driver.

use serde_json::Value;

use super::{Bus, Card, Disk, Inventory, Unreadable, card, name, processor, unreadable};
use crate::catalog::hardware::{Chipset, DiskBus};

pub(super) fn read(text: &str) -> Result<Inventory, Unreadable> {
    let value: Value = serde_json::from_str(text).map_err(|error| {
        let hint = "run `lshw -json` without -class or -C: some versions write broken JSON with them";
        unreadable(format!("not valid JSON: {error}"), hint)
    })?;
    let tops = match &value {
        Value::Array(nodes) => nodes.as_slice(),
        node => std::slice::from_ref(node),
    };
    let system = tops.iter().find(|node| string(node, "class") == "system").ok_or_else(|| {
        let problem = "JSON without a node of class \"system\"";
        unreadable(problem, "run `lshw -json` as root, without -class or -C: the whole machine is wanted")
    })?;
    let mut inventory = Inventory::default();
    identity(system, &mut inventory);
    Walk { inventory: &mut inventory }.node(system, &Path::default());
    let processors = &mut inventory.processors;
    processors.cores = processors.cores.max(1);
    processors.threads = (processors.threads / processors.cores).max(1);
    inventory.disks.retain(|disk| disk.bus != Bus::Usb || disk.starts);
    Ok(inventory)
}

fn string<'a>(node: &'a Value, key: &str) -> &'a str {
    node.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn configuration<'a>(node: &'a Value, key: &str) -> &'a str {
    node.pointer("/configuration").map_or("", |table| string(table, key))
}

fn can(node: &Value, capability: &str) -> bool {
    node.pointer("/capabilities").is_some_and(|table| table.get(capability).is_some_and(|value| *value != Value::Bool(false)))
}

/// A number of a configuration, which lshw writes as text.
fn number(node: &Value, key: &str) -> u32 {
    configuration(node, key).parse().unwrap_or(0)
}

/// The places at which a node is known to the system: one text or several.
fn logical_names(node: &Value) -> Vec<&str> {
    match node.get("logicalname") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// `vendor product`, without saying the vendor twice.
fn product(node: &Value) -> Option<String> {
    let (vendor, product) = (string(node, "vendor"), string(node, "product"));
    let first = |text: &str| text.split_whitespace().next().unwrap_or_default().to_lowercase();
    let whole = match (product.is_empty(), first(product) == first(vendor) || vendor.is_empty()) {
        (true, _) => string(node, "description").to_owned(),
        (false, true) => product.to_owned(),
        (false, false) => format!("{vendor} {product}"),
    };
    name(&whole)
}

fn identity(system: &Value, inventory: &mut Inventory) {
    let text = |value: &str| name(value);
    let sku = text(configuration(system, "sku"));
    // lshw puts the SKU behind the product.
    let product = string(system, "product");
    let product = match &sku {
        Some(sku) => product.strip_suffix(&format!(" ({sku})")).unwrap_or(product),
        None => product,
    };
    let into = &mut inventory.identity;
    into.manufacturer = text(string(system, "vendor"));
    // Not run as root, lshw knows no more than that it is a computer.
    into.product = text(product).filter(|product| product != "Computer");
    into.version = text(string(system, "version"));
    into.serial = text(string(system, "serial"));
    into.uuid = text(configuration(system, "uuid"));
    into.sku = sku;
    into.family = text(configuration(system, "family"));
}

/// What a node hangs on.
#[derive(Clone, Debug, Default)]
struct Path {
    controller: String,
    bus: Option<Bus>,
    /// The product of the PCI device above, for devices that have no name of their own.
    above: Option<String>,
}

struct Walk<'a> {
    inventory: &'a mut Inventory,
}

impl Walk<'_> {
    fn node(&mut self, node: &Value, path: &Path) {
        let on_pci = string(node, "businfo").starts_with("pci@");
        self.inventory.has_pci_express |= can(node, "pciexpress");
        let mut below = path.clone();
        if on_pci {
            below.above = product(node);
        }
        match string(node, "class") {
            "memory" => self.memory(node),
            "processor" => self.processor(node),
            "bridge" => self.bridge(node),
            "storage" => {
                if let Some((controller, bus)) = controller(node, on_pci) {
                    below = Path { controller, bus: Some(bus), ..below };
                }
            }
            "disk" => return self.disk(node, path),
            "network" if !children(node).any(|child| string(child, "class") == "network") => self.network(node, path),
            "display" => self.display(node),
            "multimedia" => self.rest("sound", node),
            "communication" => self.rest("communication device", node),
            "power" if string(node, "id").starts_with("battery") => self.rest("battery", node),
            "printer" => self.rest("printer", node),
            "tape" => self.rest("tape drive", node),
            "generic" if string(node, "id").starts_with("generic") => {}
            "bus" if string(node, "id").starts_with("fiber") || can(node, "fibrechannel") => self.rest("Fibre Channel adapter", node),
            _ => {}
        }
        for child in children(node) {
            self.node(child, &below);
        }
    }

    fn memory(&mut self, node: &Value) {
        match string(node, "id") {
            "firmware" => self.inventory.uefi = Some(can(node, "uefi")).or(self.inventory.uefi),
            id if id == "memory" || id.starts_with("memory:") => {
                let size = node.get("size").and_then(Value::as_u64).unwrap_or(0);
                // Sockets that have a bank of memory each are listed apart.
                if string(node, "description") == "System Memory" || string(node, "description") == "System memory" {
                    self.inventory.memory = Some(self.inventory.memory.unwrap_or(0).saturating_add(size));
                }
                self.inventory.ecc |= configuration(node, "errordetection").contains("ecc");
            }
            _ => {}
        }
    }

    fn processor(&mut self, node: &Value) {
        if node.get("disabled").and_then(Value::as_bool).unwrap_or(false) || product(node).is_none() {
            return;
        }
        let into = &mut self.inventory.processors;
        into.sockets = into.sockets.saturating_add(1);
        if into.sockets > 1 {
            return;
        }
        into.name = name(string(node, "product")).unwrap_or_default();
        into.vendor = processor::vendor(string(node, "vendor")).or_else(|| processor::vendor(string(node, "product")));
        into.signature = signature(string(node, "version"));
        into.cores = number(node, "cores");
        into.threads = number(node, "threads");
        if let Some(Value::Object(flags)) = node.get("capabilities") {
            into.flags = flags.keys().take(400).cloned().collect();
        }
    }

    fn bridge(&mut self, node: &Value) {
        let product = string(node, "product");
        if ["440FX", "440BX", "82441FX", "82443BX"].iter().any(|chip| product.contains(chip)) {
            self.inventory.chipset = Some(Chipset::Pc);
        }
    }

    fn disk(&mut self, node: &Value, path: &Path) {
        let names = logical_names(node);
        if string(node, "id").starts_with("cdrom") || names.iter().any(|name| name.starts_with("/dev/sr") || name.starts_with("/dev/cdrom"))
        {
            return;
        }
        // Card readers without a card, and nodes that only stand for a sensor.
        if string(node, "id").starts_with("medium") || (node.get("size").is_none() && !names.iter().any(|name| name.starts_with("/dev/"))) {
            return;
        }
        let volumes = || descendants(node);
        let starts = volumes().flat_map(logical_names).any(|name| name == "/");
        if volumes().flat_map(logical_names).any(|name| name == "/boot/efi") {
            self.inventory.uefi = Some(true);
        }
        let bus = match (path.bus, string(node, "businfo")) {
            (_, businfo) if businfo.starts_with("usb@") => Bus::Usb,
            (_, businfo) if businfo.starts_with("nvme@") => Bus::Exact(DiskBus::Nvme),
            (Some(bus), _) => bus,
            (None, businfo) if businfo.starts_with("virtio@") => Bus::Exact(DiskBus::Virtio),
            (None, _) => Bus::Unknown,
        };
        let size = node.get("size").and_then(Value::as_u64).map_or_else(String::new, |bytes| format!(", {} GB", bytes / 1_000_000_000));
        let shown = product(node).unwrap_or_else(|| "disk".to_owned());
        self.inventory.disks.push(Disk { name: format!("{shown}{size}"), controller: path.controller.clone(), bus, starts });
    }

    fn network(&mut self, node: &Value, path: &Path) {
        let businfo = string(node, "businfo");
        // Bridges, bonds and tunnels are the system's, not the machine's.
        if !["pci@", "virtio@", "usb@"].iter().any(|bus| businfo.starts_with(bus)) {
            return;
        }
        let driver = configuration(node, "driver");
        let shown = name(string(node, "product")).is_some().then(|| product(node)).flatten().or_else(|| path.above.clone());
        let shown = shown.unwrap_or_else(|| "network card".to_owned());
        if can(node, "wireless") || string(node, "description").contains("Wireless") || !configuration(node, "wireless").is_empty() {
            self.inventory.rest.push(("wireless network", shown));
        } else if can(node, "infiniband") || string(node, "description").contains("InfiniBand") {
            self.inventory.rest.push(("InfiniBand adapter", shown));
        } else if !businfo.starts_with("usb@") {
            let Card { name, driver, model } = card(&shown, driver);
            self.inventory.cards.push(Card { name, driver, model });
        }
    }

    fn display(&mut self, node: &Value) {
        let Some(shown) = product(node) else { return };
        if string(node, "id").starts_with("display") || string(node, "businfo").starts_with("pci@") {
            // Such graphics come with a management controller and nothing else.
            if ["G200e", "ASPEED", "iLO", "Integrated Remote Management"].iter().any(|chip| shown.contains(chip)) {
                self.inventory.rest.push(("remote management controller", format!("judged by its graphics, {shown}")));
            }
            self.inventory.rest.push(("graphics", shown));
        }
    }

    fn rest(&mut self, device: &'static str, node: &Value) {
        if let Some(shown) = product(node) {
            self.inventory.rest.push((device, shown));
        }
    }
}

fn children(node: &Value) -> impl Iterator<Item = &Value> {
    node.get("children").and_then(Value::as_array).into_iter().flatten()
}

/// A node and all below it. The parser bounds how deep that is.
fn descendants(node: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    Box::new(std::iter::once(node).chain(children(node).flat_map(descendants)))
}

/// A controller's name and what its disks are to a profile. `None` for a node that only stands between a controller and its disks.
fn controller(node: &Value, on_pci: bool) -> Option<(String, Bus)> {
    let description = string(node, "description").to_lowercase();
    let driver = configuration(node, "driver");
    if !on_pci && !driver.starts_with("usb") && driver != "uas" {
        return None;
    }
    let bus = match (driver, description.as_str()) {
        ("nvme", _) => Bus::Exact(DiskBus::Nvme),
        (_, text) if text.contains("nvme") || text.contains("non-volatile") => Bus::Exact(DiskBus::Nvme),
        ("ahci", _) => Bus::Exact(DiskBus::Sata),
        ("ata_piix" | "pata_acpi" | "ata_generic", _) => Bus::Exact(DiskBus::Ide),
        ("usb-storage" | "uas", _) => Bus::Usb,
        (_, text) if text.contains("raid") => Bus::Scsi,
        (_, text) if text.contains("sata") => Bus::Exact(DiskBus::Sata),
        (_, text) if text.contains("ide interface") => Bus::Exact(DiskBus::Ide),
        ("virtio-pci" | "virtio_scsi", _) => match string(node, "product").to_lowercase() {
            product if product.contains("scsi") => Bus::Exact(DiskBus::Scsi),
            _ => Bus::Exact(DiskBus::Virtio),
        },
        _ => Bus::Scsi,
    };
    Some((product(node).unwrap_or_else(|| "storage controller".to_owned()), bus))
}

/// `6.85.4`: family, model, stepping.
fn signature(version: &str) -> Option<(u32, u32, u32)> {
    let mut numbers = version.split('.').map(|part| part.parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}
