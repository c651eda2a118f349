//! Which virtual hardware stands for a machine, and what is different about it.

use std::collections::BTreeMap;

use super::{Bus, Form, Inventory, Tpm, name, processor};
use crate::catalog::hardware::{
    self, Chipset, Difference, DiskBus, Firmware, Hardware, NicModel, Smbios, SmbiosText, TpmInterface, TpmVersion,
};
use crate::catalog::text::Size;

/// What one machine of the lab gets at the most without being asked: a host has to bear several.
const PROCESSORS: u32 = 4;
const MEMORY: Size = Size::mib(4096);
const LEAST: Size = Size::mib(512);
/// Differences that are listed one by one.
const LISTED: usize = 60;

/// The profile and the differences, on their way.
struct Choice<'a> {
    form: Form,
    from: &'a Inventory,
    hardware: Hardware,
}

/// The profile that stands for a machine. It can exist, whatever the inventory says.
pub fn hardware(form: Form, from: &Inventory) -> Hardware {
    let (chipset, firmware) = start(from);
    let plain = Hardware::plain(chipset, firmware, DiskBus::Virtio, NicModel::Virtio);
    let mut choice = Choice { form, from, hardware: plain };
    choice.title();
    choice.firmware();
    choice.disks();
    choice.cards();
    choice.processors();
    choice.memory();
    choice.tpm();
    choice.identity();
    choice.rest();
    choice.hardware.clock = from.clock.unwrap_or_default();
    choice.finish()
}

fn start(from: &Inventory) -> (Chipset, Firmware) {
    let uefi = from.uefi.unwrap_or(false);
    let secure = uefi && from.secure_boot.unwrap_or(false);
    let chipset = match from.chipset {
        Some(Chipset::Pc) if !secure => Chipset::Pc,
        Some(_) => Chipset::Q35,
        None if uefi || from.has_pci_express => Chipset::Q35,
        None => Chipset::Pc,
    };
    let firmware = match (uefi, secure) {
        (false, _) => Firmware::Bios,
        (true, false) => Firmware::Uefi,
        (true, true) => Firmware::UefiSecureBoot,
    };
    (chipset, firmware)
}

impl Choice<'_> {
    fn differs(&mut self, device: &str, production: impl Into<String>, lab: impl Into<String>) {
        let clipped = |text: String, most: usize| text.chars().take(most).collect::<String>();
        let (production, lab) = (clipped(production.into(), 400), clipped(lab.into(), 400));
        self.hardware.differences.push(Difference { device: clipped(device.to_owned(), 200), production, lab });
    }

    fn not_told(&mut self, device: &str, lab: &str) {
        let production = match (self.form, device) {
            // Such a definition leaves out no disk and no card.
            (Form::DomainXml, "disks" | "network card") => "none".to_owned(),
            _ => format!("not told by {}", self.form.as_str()),
        };
        self.differs(device, production, lab);
    }

    fn title(&mut self) {
        let identity = &self.from.identity;
        let said: Vec<&str> = [&identity.manufacturer, &identity.product].into_iter().flatten().map(String::as_str).collect();
        let machine = if said.is_empty() { "a machine".to_owned() } else { said.join(" ") };
        self.hardware.title = format!("{machine}, imported from {}", self.form.as_str());
    }

    fn firmware(&mut self) {
        match (self.form, self.from.uefi) {
            (Form::DomainXml, _) | (_, Some(false)) => {}
            (Form::Lshw | Form::Dmidecode, Some(true)) => {
                let production = "can do UEFI; whether it starts so, and with Secure Boot, is not told";
                self.differs("firmware", production, "OVMF, without Secure Boot (firmware = \"uefi-secure-boot\" enforces it)");
            }
            (Form::Lshw | Form::Dmidecode, None) => self.not_told("firmware", "SeaBIOS"),
        }
        if self.from.chipset == Some(Chipset::Pc) && self.hardware.chipset == Chipset::Q35 {
            self.differs("chipset", "i440FX with Secure Boot", "q35, which alone can guard Secure Boot's keys");
        }
    }

    /// The disk that the machine starts from decides; the lab's machines have one.
    fn disks(&mut self) {
        let disks = &self.from.disks;
        let Some(disk) = disks.iter().find(|disk| disk.starts).or_else(|| disks.iter().find(|disk| disk.bus != Bus::Usb)).or(disks.first())
        else {
            let lab = if self.hardware.chipset == Chipset::Q35 { DiskBus::Sata } else { DiskBus::Ide };
            self.hardware.disk = lab;
            return self.not_told("disks", &format!("one disk on {}", disk_words(lab)));
        };
        let (lab, exact) = match disk.bus {
            Bus::Exact(DiskBus::Ide) if self.hardware.chipset == Chipset::Q35 => (DiskBus::Sata, false),
            Bus::Exact(bus) => (bus, true),
            Bus::Scsi => (DiskBus::Scsi, false),
            Bus::Usb | Bus::Unknown => (DiskBus::Sata, false),
        };
        self.hardware.disk = lab;
        let controller = if disk.controller.is_empty() { disk.name.clone() } else { disk.controller.clone() };
        if !exact {
            self.differs(
                "storage controller",
                controller,
                format!("{}: another driver, and nothing of the controller's own (RAID, cache, firmware)", disk_words(lab)),
            );
        } else if self.form != Form::DomainXml {
            self.differs("storage controller", controller, format!("{} as QEMU emulates it", disk_words(lab)));
        }
        let names: Vec<&str> = disks.iter().map(|disk| disk.name.as_str()).collect();
        match (names.as_slice(), self.form) {
            ([], _) | ([_], Form::DomainXml) => {}
            ([one], _) => self.differs("disk", *one, "one disk with the image's contents: other model, size and speed"),
            (several, _) => {
                let shown = counted(several);
                self.differs("disks", format!("{}: {shown}", several.len()), "one disk, with the image's contents");
            }
        }
    }

    fn cards(&mut self) {
        let stand_in = if self.hardware.chipset == Chipset::Q35 { NicModel::E1000e } else { NicModel::E1000 };
        let Some(first) = self.from.cards.first() else {
            self.hardware.nic = stand_in;
            return self.not_told("network card", &format!("one {}", card_words(stand_in)));
        };
        let (model, exact) = match first.model {
            Some((NicModel::E1000e, _)) if self.hardware.chipset == Chipset::Pc => (NicModel::E1000, false),
            Some((model, exact)) => (model, exact),
            None => (stand_in, false),
        };
        self.hardware.nic = model;
        let shown: Vec<String> = self
            .from
            .cards
            .iter()
            .map(|card| {
                if card.driver.is_empty() || card.driver == card.name {
                    card.name.clone()
                } else {
                    format!("{} ({})", card.name, card.driver)
                }
            })
            .collect();
        let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
        let how = match (exact, first.model) {
            (true, _) => String::new(),
            (false, Some((same, _))) if same == model => ": another chip of the same driver".to_owned(),
            (false, _) => ": another driver, no firmware, no offloads of the card's own".to_owned(),
        };
        if !exact || shown.len() > 1 {
            self.differs("network card", counted(&shown), format!("one {}{how}", card_words(model)));
        }
    }

    fn processors(&mut self) {
        let seen = &self.from.processors;
        let shown = if seen.name.is_empty() { "not named".to_owned() } else { seen.name.clone() };
        match (&seen.model, processor::nearest(seen)) {
            (Some(model), _) => {
                self.hardware.cpu.clone_from(model);
            }
            (None, Some((model, exact))) => {
                model.clone_into(&mut self.hardware.cpu);
                let how = if exact {
                    "of the same generation: other clock, caches and microcode"
                } else {
                    "of an older generation, the nearest there is"
                };
                self.differs("processor", &shown, format!("QEMU's model {model}, {how}"));
            }
            (None, None) => self.differs("processor", &shown, "QEMU's model max: all that the accelerator can do, with another name"),
        }
        if self.hardware.firmware != Firmware::Bios && !hardware::cpu::is_wide(&self.hardware.cpu) {
            let model = std::mem::replace(&mut self.hardware.cpu, "max".to_owned());
            self.differs("processor", model, "QEMU's model max: the firmware needs a 64-bit mode");
        }
        let flags = processor::bare_flags(&seen.flags);
        if !flags.is_empty() {
            self.differs("processor features", flags.join(", "), "not shown to the guest");
        }
        self.topology();
    }

    /// As many sockets and threads as in production, as far as a lab's machine goes; the rest in cores.
    fn topology(&mut self) {
        let seen = &self.from.processors;
        let (sockets, cores, threads) = (seen.sockets.max(1), seen.cores.max(1), seen.threads.max(1));
        let one_thread =
            hardware::cpu::vendor(&self.hardware.cpu) == Some(hardware::cpu::Vendor::Amd) && !self.hardware.cpu.starts_with("EPYC");
        let lab = &mut self.hardware;
        lab.sockets = sockets.min(2);
        lab.threads = if one_thread { 1 } else { threads.min(2) };
        lab.cores = cores.min((PROCESSORS / (lab.sockets * lab.threads)).max(1));
        let count = |number: u32, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
        let told =
            |sockets, cores, threads| format!("{} x {} x {}", count(sockets, "socket"), count(cores, "core"), count(threads, "thread"));
        let (production, now) = (told(sockets, cores, threads), told(lab.sockets, lab.cores, lab.threads));
        if seen.sockets == 0 {
            self.not_told("processors", "one");
        } else if production != now {
            self.differs("processors", production, format!("{now}; more by choice in the profile"));
        }
        let nodes = match (self.from.numa_nodes, seen.sockets) {
            (0 | 1, sockets) if sockets > 1 && self.form != Form::DomainXml => {
                format!("{sockets} sockets, each with its own way to memory")
            }
            (0 | 1, _) => return,
            (nodes, _) => format!("{nodes} nodes"),
        };
        self.differs("NUMA", nodes, "one node: the same way to all memory");
    }

    fn memory(&mut self) {
        match self.from.memory {
            None | Some(0) => {
                let lab = self.hardware.memory;
                self.not_told("memory", &lab.to_string());
            }
            Some(bytes) => {
                let whole = Size(bytes >> 20 << 20);
                self.hardware.memory = whole.clamp(LEAST, MEMORY);
                if self.hardware.memory != whole {
                    let lab = format!("{}; more by choice in the profile", self.hardware.memory);
                    self.differs("memory", whole.to_string(), lab);
                }
            }
        }
        if self.from.ecc {
            self.differs("memory error correction", "ECC", "none to be seen by the guest");
        }
    }

    fn tpm(&mut self) {
        match &self.from.tpm {
            None => self.not_told("TPM", "none (tpm = \"2.0\" or \"1.2\" adds an emulated one)"),
            Some(Tpm::None) => {}
            Some(Tpm::There(version, interface, shown)) => {
                self.hardware.tpm = match version {
                    TpmVersion::V1_2 => hardware::Tpm::V1_2,
                    TpmVersion::V2_0 => hardware::Tpm::V2_0,
                };
                let crb = (*interface, version, self.hardware.chipset) == (Some(TpmInterface::Crb), &TpmVersion::V2_0, Chipset::Q35);
                self.hardware.tpm_interface = interface.map(|_| if crb { TpmInterface::Crb } else { TpmInterface::Tis });
                if self.form != Form::DomainXml || shown != "emulator" {
                    self.differs("TPM", shown.clone(), "emulated by swtpm: another endorsement key, empty, and no certificate of a maker");
                }
            }
        }
    }

    fn identity(&mut self) {
        let from = &self.from.identity;
        let mut refused = Vec::new();
        let mut text = |key: &str, value: &Option<String>| -> Option<SmbiosText> {
            let value = value.as_ref()?;
            let parsed = value.parse().ok();
            if parsed.is_none() {
                refused.push(format!("{key} {value:?}"));
            }
            parsed
        };
        let mut smbios = Smbios {
            manufacturer: text("manufacturer", &from.manufacturer),
            product: text("product", &from.product),
            version: text("version", &from.version),
            serial: text("serial", &from.serial),
            uuid: None,
            sku: text("sku", &from.sku),
            family: text("family", &from.family),
        };
        if let Some(value) = &from.uuid {
            smbios.uuid = value.parse().ok().filter(|uuid: &uuid::Uuid| !uuid.is_nil() && !uuid.is_max());
            if smbios.uuid.is_none() {
                refused.push(format!("uuid {value:?}"));
            }
        }
        if smbios != Smbios::default() {
            self.hardware.smbios = Some(smbios);
        }
        if !refused.is_empty() {
            self.differs("SMBIOS identity", refused.join(", "), "QEMU's own: SMBIOS can't carry these");
        }
    }

    fn rest(&mut self) {
        let mut kinds: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (kind, shown) in &self.from.rest {
            kinds.entry(kind).or_default().push(shown);
        }
        for (kind, shown) in kinds {
            let lab = match kind {
                "graphics" => "a plain VGA",
                "network port on the board" => "the one network card",
                "storage controller on the board" => "the one disk's",
                "processor features" => "the model as it is",
                "architecture" => "x86_64: no machine of this lab can stand for it",
                _ => "none",
            };
            self.differs(kind, counted(&shown), lab);
        }
    }

    fn finish(mut self) -> Hardware {
        let dropped = self.hardware.differences.len().saturating_sub(LISTED);
        self.hardware.differences.truncate(LISTED);
        if dropped > 0 {
            self.differs("more", format!("{dropped} more differences"), "read the inventory");
        }
        self.hardware.title = name(&self.hardware.title).unwrap_or_else(|| "an imported machine".to_owned());
        self.hardware
    }
}

/// `2 x a, b`: each name once with its number, the first few.
fn counted(names: &[&str]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for name in names {
        match counts.iter().position(|(known, _)| known == name) {
            Some(at) => counts[at].1 += 1,
            None if counts.len() < 8 => counts.push((name, 1)),
            None => {}
        }
    }
    let told: usize = counts.iter().map(|(_, count)| count).sum();
    let mut shown: Vec<String> =
        counts.into_iter().map(|(name, count)| if count == 1 { name.to_owned() } else { format!("{count} x {name}") }).collect();
    if told < names.len() {
        shown.push(format!("and {} more", names.len() - told));
    }
    shown.join(", ")
}

const fn disk_words(bus: DiskBus) -> &'static str {
    match bus {
        DiskBus::Virtio => "virtio-blk",
        DiskBus::Scsi => "virtio-scsi",
        DiskBus::Sata => "AHCI",
        DiskBus::Ide => "PIIX IDE",
        DiskBus::Nvme => "NVMe",
    }
}

const fn card_words(model: NicModel) -> &'static str {
    match model {
        NicModel::Virtio => "virtio card",
        NicModel::E1000 => "e1000 (Intel 82540EM)",
        NicModel::E1000e => "e1000e (Intel 82574L)",
        NicModel::Rtl8139 => "rtl8139 (Realtek 8139)",
        NicModel::Vmxnet3 => "vmxnet3",
    }
}
