//! `dmidecode`: tables of SMBIOS as text. It knows the machine's identity, processors, memory, TPM and what is soldered on; no disk and no
//! driver.

use super::{Inventory, Tpm, Unreadable, name, processor, unreadable};
use crate::catalog::hardware::TpmVersion;

/// Tables that are read.
const TABLES: usize = 4_000;

/// One table: its type's number and its lines. A key may have further lines of its own.
#[derive(Default)]
struct Table<'a> {
    kind: u32,
    values: Vec<(&'a str, &'a str)>,
    /// Indented lines that belong to the key before them: (key, line).
    lists: Vec<(&'a str, &'a str)>,
}

impl<'a> Table<'a> {
    fn get(&self, key: &str) -> Option<&'a str> {
        self.values.iter().find(|(known, _)| *known == key).map(|(_, value)| *value)
    }

    fn name(&self, key: &str) -> Option<String> {
        self.get(key).and_then(name)
    }

    fn lists(&self, key: &str, text: &str) -> bool {
        self.lists.iter().any(|(known, line)| *known == key && line.contains(text))
    }
}

pub(super) fn is_one(text: &str) -> bool {
    text.starts_with("# dmidecode") || text.lines().any(|line| line.starts_with("Handle 0x") && line.contains("DMI type "))
}

pub(super) fn read(text: &str) -> Result<Inventory, Unreadable> {
    let tables = tables(text);
    let of = |kind: u32| tables.iter().filter(move |table| table.kind == kind);
    let system = of(1).next().ok_or_else(|| {
        unreadable("dmidecode's output without a table of type 1 (System Information)", "run `dmidecode` as root, without -t or -s")
    })?;
    let mut inventory = Inventory::default();
    let into = &mut inventory.identity;
    into.manufacturer = system.name("Manufacturer");
    into.product = system.name("Product Name");
    into.version = system.name("Version");
    into.serial = system.name("Serial Number");
    into.uuid = system.name("UUID");
    into.sku = system.name("SKU Number");
    into.family = system.name("Family");
    inventory.uefi = of(0).next().map(|bios| bios.lists("Characteristics", "UEFI is supported"));
    processors(&mut inventory, of(4));
    let sizes = of(17).filter_map(|module| bytes(module.get("Size")?));
    inventory.memory = Some(sizes.fold(0, u64::saturating_add)).filter(|bytes| *bytes > 0);
    inventory.ecc = of(16).any(|array| array.get("Error Correction Type").is_some_and(|kind| kind.contains("ECC")));
    // A slot's kind tells what buses there are, used or not.
    inventory.has_pci_express = of(9).any(|slot| slot.get("Type").is_some_and(|kind| kind.contains("PCI Express")));
    inventory.tpm = Some(of(43).next().map_or(Tpm::None, tpm)).filter(|tpm| *tpm != Tpm::None || knows_tpms(text));
    for device in of(41) {
        onboard(&mut inventory, device);
    }
    for slot in of(9).filter(|slot| slot.get("Current Usage") == Some("In Use")) {
        let at = slot.name("Designation").unwrap_or_else(|| "a slot".to_owned());
        inventory.rest.push(("expansion card", format!("in {at} ({})", slot.name("Type").unwrap_or_else(|| "of unknown type".to_owned()))));
    }
    for bmc in of(38) {
        let interface = bmc.name("Interface Type").unwrap_or_else(|| "IPMI".to_owned());
        inventory.rest.push(("remote management controller", interface));
    }
    for battery in of(22) {
        inventory.rest.push(("battery", battery.name("Name").unwrap_or_else(|| "portable battery".to_owned())));
    }
    let supplies = of(39).filter(|supply| supply.get("Status").is_none_or(|status| status.contains("Present"))).count();
    if supplies > 1 {
        inventory.rest.push(("power supplies", format!("{supplies}, redundant")));
    }
    Ok(inventory)
}

fn tables(text: &str) -> Vec<Table<'_>> {
    let mut tables: Vec<Table<'_>> = Vec::new();
    let mut key = "";
    for line in text.lines() {
        if line.starts_with("Handle 0x") {
            if tables.len() == TABLES {
                break;
            }
            let kind = line.split("DMI type ").nth(1).and_then(|rest| rest.split(',').next()).and_then(|number| number.trim().parse().ok());
            // What has no number of its own belongs to nobody; 127 is the end.
            tables.push(Table { kind: kind.unwrap_or(127), ..Table::default() });
            continue;
        }
        let Some(table) = tables.last_mut() else { continue };
        if let Some(item) = line.strip_prefix("\t\t") {
            table.lists.push((key, item.trim()));
        } else if let Some((before, value)) = line.strip_prefix('\t').and_then(|line| line.split_once(':')) {
            key = before.trim();
            table.values.push((key, value.trim()));
        }
    }
    tables
}

fn processors<'a>(inventory: &mut Inventory, tables: impl Iterator<Item = &'a Table<'a>>) {
    let into = &mut inventory.processors;
    for table in tables.filter(|table| table.get("Status").is_none_or(|status| status.starts_with("Populated"))) {
        into.sockets = into.sockets.saturating_add(1);
        if into.sockets > 1 {
            continue;
        }
        into.name = table.name("Version").unwrap_or_default();
        let maker = table.get("Manufacturer").and_then(processor::vendor);
        into.vendor = maker.or_else(|| processor::vendor(&into.name));
        into.signature = table.get("Signature").and_then(signature);
        let number = |key: &str| table.get(key).and_then(|text| text.parse::<u32>().ok()).unwrap_or(1).max(1);
        into.cores = number("Core Count");
        into.threads = (number("Thread Count") / into.cores).max(1);
        let word = |line: &str| line.split_whitespace().next().map(str::to_lowercase);
        into.flags = table.lists.iter().filter(|(key, _)| *key == "Flags").filter_map(|(_, line)| word(line)).take(400).collect();
    }
}

/// `Type 0, Family 6, Model 85, Stepping 4`.
fn signature(text: &str) -> Option<(u32, u32, u32)> {
    let number = |word: &str| text.split(word).nth(1)?.split(',').next()?.trim().parse().ok();
    Some((number("Family ")?, number("Model ")?, number("Stepping ")?))
}

/// `16384 MB`, `16 GB`, `No Module Installed`.
fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = text.split_once(' ')?;
    let shift = match unit.trim() {
        "kB" | "KB" => 10,
        "MB" => 20,
        "GB" => 30,
        "TB" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// TPMs are told of from SMBIOS 3.1 on.
fn knows_tpms(text: &str) -> bool {
    let version = text.lines().find_map(|line| line.strip_prefix("SMBIOS ")?.strip_suffix(" present."));
    let mut numbers = version.unwrap_or_default().split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (3, 1)
}

fn tpm(table: &Table<'_>) -> Tpm {
    let shown = table.name("Description").or_else(|| table.name("Vendor ID")).unwrap_or_else(|| "TPM".to_owned());
    let version = if table.get("Specification Version").is_some_and(|version| version.starts_with('1')) {
        TpmVersion::V1_2
    } else {
        TpmVersion::V2_0
    };
    Tpm::There(version, None, shown)
}

fn onboard(inventory: &mut Inventory, table: &Table<'_>) {
    if table.get("Status").is_some_and(|status| status != "Enabled") {
        return;
    }
    let shown = table.name("Reference Designation").unwrap_or_else(|| "on the board".to_owned());
    let device = match table.get("Type").unwrap_or_default() {
        "Ethernet" => "network port on the board",
        "Video" => "graphics",
        "Sound" => "sound",
        "SATA Controller" | "SAS Controller" | "SCSI Controller" | "PATA Controller" => "storage controller on the board",
        "Token Ring" => "token ring",
        _ => "device on the board",
    };
    inventory.rest.push((device, shown));
}
