//! The machine as libvirt's domain XML: a typed model, how a [`MachineSpec`] becomes one, and how it is written. Pure.
//!
//! What is decided here, and why:
//! - *No way out.* A NIC is one end of a UDP wire over loopback whose other end is a segment's switch, or nobody: then the guest sees a
//!   carrier and silence.
//! - *The host's trouble stays the host's.* Disk errors stop the machine (`error_policy='stop'`, reads and writes) and raise an
//!   event; the guest never sees one. NVMe is the exception: QEMU's NVMe device has no such policy, so such a
//!   machine is suspended before the host is full (see `guard_room`).
//! - *`cache='unsafe'`.* The guest's flushes reach the host's page cache and no further. Data survives a reset, a power cut
//!   and a killed emulator; it does not survive a crash of the host, and neither does the run.
//! - *A panic is seen, not rebooted away.* `on_crash='preserve'` keeps the panicked machine for its screenshot and raises an event.
//! - *Images are not touched.* libvirt may change the owner of the overlay, never that of the image or the media.
//! - *Secure Boot is enforced, not offered.* Its variables come with Microsoft's keys enrolled, and only code in system management mode may
//!   write to them (`secure='yes'` with SMM), so that a guest can't switch it off.
//! - *A TPM is the machine's own.* libvirt runs one emulator (swtpm) for it and removes its state with the machine's definition.
//! - *No USB.* Nothing needs it, and its timers cost an emulated machine much of its time.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::xml::{Element, element, text};
use crate::catalog::hardware::{Chipset, ClockBase, DiskBus, Firmware, NicModel, Smbios, TpmInterface, TpmVersion};
use crate::hypervisor::segments::Mac;
use crate::hypervisor::{MachineSpec, Tag};

/// The XML namespace of the ownership tag.
pub const NAMESPACE: &str = "urn:patchlab:1";
/// QEMU's name for a disk that libvirt does not manage.
pub const NVME_NODE: &str = "patchlab-nvme";
const QEMU_NAMESPACE: &str = "http://libvirt.org/schemas/domain/qemu/1.0";

/// What a machine's definition needs to know of the host and of the machine's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    pub kind: Kind,
    pub files: Files,
    /// The read-only UEFI code, used by UEFI profiles only.
    pub uefi_code: PathBuf,
    /// What libvirt makes the UEFI variables from, where nobody else has made them.
    pub fresh_variables: Option<PathBuf>,
    /// Each NIC's place.
    pub nics: Vec<SiteNic>,
    /// Whether this libvirt gives files to the user that QEMU runs as (its DAC driver). An unprivileged one has none.
    pub gives_files: bool,
    /// Whether QEMU itself opens what its ports write to. libvirt's log daemon does so elsewhere, and opens a file for one port alone.
    pub opens_files: bool,
}

/// A NIC's place on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteNic {
    pub mac: Mac,
    pub at: Place,
}

/// Where a NIC leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// To the controller's switch, or nowhere.
    Wire(Wire),
    /// Onto libvirt's network of this name.
    Network(String),
}

/// Who executes the guest's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Kvm,
    /// QEMU's own translator, TCG.
    Qemu,
    /// libvirt's in-process fake.
    Test,
}

/// A wire over loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    pub local: u16,
    pub remote: u16,
}

/// The files of a machine, by their paths on its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    pub overlay: PathBuf,
    pub console: PathBuf,
    pub variables: PathBuf,
    /// The disk of the template that the machine began as.
    pub template: PathBuf,
    /// What lies between that and the image.
    pub below: Option<PathBuf>,
}

impl Files {
    /// All in its folder, and nothing below its template.
    pub fn of(folder: &Path) -> Self {
        Self {
            overlay: folder.join("overlay.qcow2"),
            console: folder.join("console.log"),
            variables: folder.join("variables.fd"),
            template: folder.join("template.qcow2"),
            below: None,
        }
    }
}

/// A machine's definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    pub kind: Kind,
    pub name: String,
    pub uuid: Uuid,
    pub tag: Tag,
    pub chipset: Chipset,
    pub boot: Boot,
    pub cpu: Cpu,
    pub topology: Topology,
    pub memory_mib: u64,
    pub disk: Disk,
    /// What is in the removable drive.
    pub media: Option<PathBuf>,
    pub nics: Vec<Nic>,
    pub tpm: Option<(TpmVersion, TpmInterface)>,
    pub clock: ClockBase,
    pub smbios: Option<Smbios>,
    pub console: PathBuf,
    /// See [`Site::gives_files`].
    pub gives_files: bool,
    /// See [`Site::opens_files`].
    pub opens_files: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Boot {
    Bios,
    Uefi {
        code: PathBuf,
        variables: PathBuf,
        /// See [`Site::fresh_variables`].
        fresh: Option<PathBuf>,
        /// Whether Secure Boot is enforced.
        secure: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topology {
    pub sockets: u32,
    /// Of each socket.
    pub cores: u32,
    /// Of each core.
    pub threads: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cpu {
    /// All that the accelerator can do.
    Maximum,
    /// A model by name. Features that the accelerator lacks are left out with QEMU's warning.
    Model(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    pub bus: DiskBus,
    pub overlay: PathBuf,
    /// What lies beneath the overlay, down to the image. Never written to.
    pub backing: Vec<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    pub model: NicModel,
    pub mac: Mac,
    pub at: Place,
}

/// The definition of the machine that `spec` wants. The same lab and name always give the same UUID.
pub fn domain(spec: &MachineSpec, site: &Site) -> Domain {
    let uuid = Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{NAMESPACE}:{}:{}", spec.tag.lab, spec.name).as_bytes());
    let hardware = &spec.hardware;
    Domain {
        kind: site.kind,
        name: spec.name.clone(),
        uuid,
        tag: spec.tag.clone(),
        chipset: hardware.chipset,
        boot: match hardware.firmware {
            Firmware::Bios => Boot::Bios,
            Firmware::Uefi | Firmware::UefiSecureBoot => Boot::Uefi {
                code: site.uefi_code.clone(),
                variables: site.files.variables.clone(),
                fresh: site.fresh_variables.clone(),
                secure: hardware.firmware == Firmware::UefiSecureBoot,
            },
        },
        cpu: match hardware.cpu.as_str() {
            "max" => Cpu::Maximum,
            model => Cpu::Model(model.to_owned()),
        },
        topology: Topology { sockets: hardware.sockets, cores: hardware.cores, threads: hardware.threads },
        memory_mib: hardware.memory.0 >> 20,
        disk: Disk {
            bus: hardware.disk,
            overlay: site.files.overlay.clone(),
            backing: spec
                .template
                .iter()
                .flat_map(|_| std::iter::once(&site.files.template).chain(&site.files.below))
                .chain([&spec.image])
                .cloned()
                .collect(),
        },
        media: spec.media.clone(),
        nics: site.nics.iter().map(|nic| Nic { model: hardware.nic, mac: nic.mac, at: nic.at.clone() }).collect(),
        tpm: hardware.tpm(),
        clock: hardware.clock,
        smbios: hardware.smbios.clone(),
        console: site.files.console.clone(),
        gives_files: site.gives_files,
        opens_files: site.opens_files,
    }
}

impl Domain {
    /// The domain XML.
    ///
    /// # Errors
    /// None in practice: the sink is memory.
    pub fn to_xml(&self) -> std::io::Result<String> {
        self.element().to_document()
    }

    fn element(&self) -> Element {
        let kind = match self.kind {
            Kind::Kvm => "kvm",
            Kind::Qemu => "qemu",
            Kind::Test => "test",
        };
        let tag = element("patchlab:machine")
            .with("xmlns:patchlab", NAMESPACE)
            .with("lab", &self.tag.lab)
            .with("run", self.tag.run)
            .with("cell", &self.tag.cell)
            .with("lease", &self.tag.lease);
        let power = |state| element(state).with("enabled", "no");
        let arguments = self.arguments();
        let root = element("domain").with("type", kind);
        let root = if arguments.is_empty() { root } else { root.with("xmlns:qemu", QEMU_NAMESPACE) };
        let passed = |arguments: Vec<String>| {
            element("qemu:commandline").holding(arguments.into_iter().map(|value| element("qemu:arg").with("value", value)))
        };
        let commandline = Some(arguments).filter(|arguments| !arguments.is_empty()).map(passed);
        root.holding([
            text("name", &self.name),
            text("uuid", self.uuid.to_string()),
            // Tells a guest that goes on elsewhere that it did: its kernel then seeds its random numbers anew.
            element("genid"),
            element("metadata").holding([tag]),
            text("memory", self.memory_mib.to_string()).with("unit", "MiB"),
            text("vcpu", (self.topology.sockets * self.topology.cores * self.topology.threads).to_string()),
        ])
        .holding([self.sysinfo()])
        .holding([
            self.os(),
            element("features").holding([
                Some(element("acpi")),
                Some(element("apic")),
                self.secure().then(|| element("smm").with("state", "on")),
            ]),
            self.cpu(),
            element("clock").with(
                "offset",
                match self.clock {
                    ClockBase::Utc => "utc",
                    ClockBase::Localtime => "localtime",
                },
            ),
            text("on_poweroff", "destroy"),
            text("on_reboot", "restart"),
            text("on_crash", "preserve"),
            element("pm").holding([power("suspend-to-mem"), power("suspend-to-disk")]),
            self.devices(),
        ])
        .holding([commandline])
    }

    const fn secure(&self) -> bool {
        matches!(self.boot, Boot::Uefi { secure: true, .. })
    }

    /// Who the machine says it is. The UUID is not among it: see [`Self::arguments`].
    fn sysinfo(&self) -> Option<Element> {
        let entries: Vec<Element> =
            self.smbios.iter().flat_map(Smbios::texts).map(|(key, value)| text("entry", value.as_str()).with("name", key)).collect();
        let system = |entries| element("sysinfo").with("type", "smbios").holding([element("system").holding(entries)]);
        Some(entries).filter(|entries| !entries.is_empty()).map(system)
    }

    fn os(&self) -> Element {
        let machine = match (self.kind, self.chipset) {
            (Kind::Test, _) => None,
            (_, Chipset::Pc) => Some("pc"),
            (_, Chipset::Q35) => Some("q35"),
        };
        let kind = text("type", "hvm").with("arch", if self.kind == Kind::Test { "i686" } else { "x86_64" });
        let kind = machine.into_iter().fold(kind, |kind, machine| kind.with("machine", machine));
        let os = element("os").holding([kind]);
        let os = match &self.boot {
            Boot::Bios => os,
            Boot::Uefi { code, variables, fresh, secure } => {
                let loader = text("loader", path(code)).with("readonly", "yes").with("type", "pflash");
                let loader = if *secure { loader.with("secure", "yes") } else { loader };
                let nvram = text("nvram", path(variables));
                os.holding([loader, fresh.iter().fold(nvram, |nvram, fresh| nvram.with("template", path(fresh)))])
            }
        };
        os.holding([self.sysinfo().map(|_| element("smbios").with("mode", "sysinfo"))])
    }

    fn cpu(&self) -> Element {
        let Topology { sockets, cores, threads } = self.topology;
        let topology = element("topology").with("sockets", sockets).with("cores", cores).with("threads", threads);
        match &self.cpu {
            Cpu::Maximum => element("cpu").with("mode", "maximum").with("check", "none").holding([topology]),
            Cpu::Model(model) => element("cpu")
                .with("mode", "custom")
                .with("match", "exact")
                .with("check", "none")
                .holding([text("model", model).with("fallback", "forbid"), topology]),
        }
    }

    fn devices(&self) -> Element {
        let controller = |kind, model| element("controller").with("type", kind).with("model", model);
        let scsi = (self.disk.bus == DiskBus::Scsi).then(|| controller("scsi", "virtio-scsi"));
        // SeaBIOS talks on its debug port only, which is heard where the file can be shared; UEFI talks on the serial port.
        let debug_port = element("address").with("type", "isa").with("iobase", "0x402");
        let firmware_log = (self.boot == Boot::Bios && self.opens_files).then(|| self.to_console("isa-debug").holding([debug_port]));
        let channel = element("channel")
            .with("type", "unix")
            .holding([element("target").with("type", "virtio").with("name", "org.qemu.guest_agent.0")]);
        let rng = element("rng").with("model", "virtio").holding([text("backend", "/dev/urandom").with("model", "random")]);
        element("devices")
            .holding([Some(controller("usb", "none")), scsi, self.disk(), Some(self.drive())])
            .holding(self.nics.iter().map(Nic::element))
            .holding([
                Some(self.to_console("isa-serial")),
                firmware_log,
                Some(channel),
                self.tpm(),
                Some(element("video").holding([element("model").with("type", "vga")])),
                Some(rng),
                Some(element("panic").with("model", "isa")),
                Some(element("memballoon").with("model", "none")),
            ])
    }

    /// A port whose output is appended to the console's file.
    fn to_console(&self, port: &'static str) -> Element {
        element("serial")
            .with("type", "file")
            .holding([element("source").with("path", path(&self.console)).with("append", "on"), element("target").with("type", port)])
    }

    /// The disk, unless it is one that this libvirt has no words for.
    fn disk(&self) -> Option<Element> {
        let (device, bus) = match self.disk.bus {
            DiskBus::Virtio => ("vda", "virtio"),
            DiskBus::Scsi => ("sda", "scsi"),
            DiskBus::Sata => ("sda", "sata"),
            DiskBus::Ide => ("hda", "ide"),
            DiskBus::Nvme => return None,
        };
        let driver = element("driver")
            .with("name", "qemu")
            .with("type", "qcow2")
            .with("cache", "unsafe")
            .with("error_policy", "stop")
            .with("rerror_policy", "stop")
            .with("discard", "unmap");
        // The chain is spelled out and ends here: a backing file that the image's own header names is never opened.
        let end = element("backingStore");
        let image = self.disk.backing.iter().rev().fold(end, |below, file| {
            let format = element("format").with("type", "qcow2");
            element("backingStore").with("type", "file").holding([format, self.source_as_it_is(file), below])
        });
        Some(element("disk").with("type", "file").with("device", "disk").holding([
            driver,
            element("source").with("file", path(&self.disk.overlay)),
            image,
            element("target").with("dev", device).with("bus", bus),
            element("boot").with("order", 1),
        ]))
    }

    /// A file that libvirt must not give to anyone else.
    fn source_as_it_is(&self, file: &Path) -> Element {
        let kept = self.gives_files.then(|| element("seclabel").with("model", "dac").with("relabel", "no"));
        element("source").with("file", path(file)).holding([kept])
    }

    /// The removable drive with what is in it, as one device.
    ///
    /// # Errors
    /// None in practice: the sink is memory.
    pub fn drive_xml(&self) -> std::io::Result<String> {
        self.drive().to_document()
    }

    fn drive(&self) -> Element {
        let (device, bus) = match self.chipset {
            Chipset::Pc => ("hdc", "ide"),
            Chipset::Q35 => ("sdb", "sata"),
        };
        element("disk").with("type", "file").with("device", "cdrom").holding([
            Some(element("driver").with("name", "qemu").with("type", "raw")),
            self.media.as_deref().map(|iso| self.source_as_it_is(iso)),
            Some(element("target").with("dev", device).with("bus", bus)),
            Some(element("readonly")),
        ])
    }

    fn tpm(&self) -> Option<Element> {
        let (version, interface) = self.tpm?;
        let model = match interface {
            TpmInterface::Tis => "tpm-tis",
            TpmInterface::Crb => "tpm-crb",
        };
        let version = match version {
            TpmVersion::V1_2 => "1.2",
            TpmVersion::V2_0 => "2.0",
        };
        Some(element("tpm").with("model", model).holding([element("backend").with("type", "emulator").with("version", version)]))
    }

    /// What QEMU has to be told itself, because libvirt has no words for it.
    fn arguments(&self) -> Vec<String> {
        let mut arguments = if self.disk.bus == DiskBus::Nvme { self.nvme() } else { Vec::new() };
        // libvirt has one UUID for a machine in both places; machines of one profile at once need their own outside and the same inside.
        if let Some(uuid) = self.smbios.as_ref().and_then(|smbios| smbios.uuid) {
            arguments.extend(["-smbios".to_owned(), format!("type=1,uuid={uuid}")]);
        }
        arguments
    }

    /// libvirt 9.0 knows no emulated NVMe disk. The device sits in slot 0x10, beyond those that libvirt fills.
    fn nvme(&self) -> Vec<String> {
        let bus = match self.chipset {
            Chipset::Pc => "pci.0",
            Chipset::Q35 => "pcie.0",
        };
        let cache = serde_json::json!({ "direct": false, "no-flush": true });
        let backing = self.disk.backing.iter().rev().fold(serde_json::Value::Null, |below, file| {
            serde_json::json!({
                "driver": "qcow2", "read-only": true, "backing": below,
                "file": { "driver": "file", "filename": path(file), "read-only": true },
            })
        });
        let overlay = serde_json::json!({
            "driver": "qcow2", "node-name": NVME_NODE, "discard": "unmap", "cache": cache,
            "file": { "driver": "file", "filename": path(&self.disk.overlay), "discard": "unmap", "cache": cache },
            "backing": backing,
        });
        let device = serde_json::json!({
            "driver": "nvme", "drive": NVME_NODE, "serial": "patchlab", "bootindex": 1, "bus": bus, "addr": "0x10",
        });
        vec!["-blockdev".to_owned(), overlay.to_string(), "-device".to_owned(), device.to_string()]
    }
}

impl Nic {
    fn element(&self) -> Element {
        let model = match self.model {
            NicModel::Virtio => "virtio",
            NicModel::E1000 => "e1000",
            NicModel::E1000e => "e1000e",
            NicModel::Rtl8139 => "rtl8139",
            NicModel::Vmxnet3 => "vmxnet3",
        };
        let end = |name, port| element(name).with("address", "127.0.0.1").with("port", port);
        let (kind, source) = match &self.at {
            Place::Wire(wire) => ("udp", end("source", wire.remote).holding([end("local", wire.local)])),
            Place::Network(name) => ("network", element("source").with("network", name)),
        };
        element("interface").with("type", kind).holding([
            element("mac").with("address", self.mac),
            source,
            element("model").with("type", model),
        ])
    }
}

/// Paths are UTF-8: the adapter refuses others before it comes here.
fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
