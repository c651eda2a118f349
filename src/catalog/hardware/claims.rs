//! What a guest must see of its profile: each device and the drivers that have to hold it, firmware and TPM.
//!
//! The drivers are Linux's. A device is known by its chain of drivers, from the device itself up to its bus.

use super::{DiskBus, Firmware, Hardware, NicModel, TpmInterface, TpmVersion, cpu};

/// What a guest must see of a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    pub devices: Vec<Device>,
    pub firmware: Firmware,
    pub tpm: Option<TpmVersion>,
    pub processors: u32,
    /// Who makes the CPU model, where its name says so.
    pub vendor: Option<cpu::Vendor>,
    /// SMBIOS, by the kernel's name of each field.
    pub identity: Vec<(&'static str, String)>,
}

/// A device that the profile promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    pub kind: Kind,
    /// What it is to people.
    pub name: &'static str,
    /// Chains of drivers, any of which will do: the device's own first, then that of its controller.
    pub chains: &'static [&'static [&'static str]],
}

/// Kinds of devices, by the kernel's classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Disk,
    Network,
    Tpm,
}

impl Kind {
    /// As the facts say it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Network => "network",
            Self::Tpm => "tpm",
        }
    }
}

/// What a guest must see of this profile.
pub fn claims(hardware: &Hardware) -> Claims {
    let tpm = hardware.tpm();
    let devices = [Some(disk(hardware.disk)), Some(network(hardware.nic)), tpm.map(|(_, interface)| tpm_device(interface))];
    let smbios = hardware.smbios.iter();
    let texts = smbios.clone().flat_map(|smbios| smbios.texts()).map(|(key, text)| (kernel_name(key), text.to_string()));
    let uuid = smbios.filter_map(|smbios| smbios.uuid).map(|uuid| ("product_uuid", uuid.to_string()));
    Claims {
        devices: devices.into_iter().flatten().collect(),
        firmware: hardware.firmware,
        tpm: tpm.map(|(version, _)| version),
        processors: hardware.processors(),
        vendor: cpu::vendor(&hardware.cpu),
        identity: texts.chain(uuid).collect(),
    }
}

const fn disk(bus: DiskBus) -> Device {
    let (name, chains): (_, &[&[&str]]) = match bus {
        DiskBus::Virtio => ("virtio-blk disk", &[&["virtio_blk", "virtio-pci"]]),
        DiskBus::Scsi => ("virtio-scsi disk", &[&["sd", "virtio_scsi", "virtio-pci"]]),
        DiskBus::Sata => ("SATA disk", &[&["sd", "ahci"]]),
        DiskBus::Ide => ("IDE disk", &[&["sd", "ata_piix"], &["sd", "ata_generic"]]),
        DiskBus::Nvme => ("NVMe disk", &[&["nvme"]]),
    };
    Device { kind: Kind::Disk, name, chains }
}

const fn network(model: NicModel) -> Device {
    let (name, chains): (_, &[&[&str]]) = match model {
        NicModel::Virtio => ("virtio network card", &[&["virtio_net", "virtio-pci"]]),
        NicModel::E1000 => ("Intel 82540EM network card", &[&["e1000"]]),
        NicModel::E1000e => ("Intel 82574L network card", &[&["e1000e"]]),
        // 8139C+ chips are the former's, as QEMU's is; older ones the latter's.
        NicModel::Rtl8139 => ("Realtek 8139 network card", &[&["8139cp"], &["8139too"]]),
        NicModel::Vmxnet3 => ("VMXNET3 network card", &[&["vmxnet3"]]),
    };
    Device { kind: Kind::Network, name, chains }
}

const fn tpm_device(interface: TpmInterface) -> Device {
    let (name, chains): (_, &[&[&str]]) = match interface {
        TpmInterface::Tis => ("TPM with a TIS interface", &[&["tpm_tis"]]),
        TpmInterface::Crb => ("TPM with a CRB interface", &[&["tpm_crb"]]),
    };
    Device { kind: Kind::Tpm, name, chains }
}

/// The kernel's name (`/sys/class/dmi/id`) of an SMBIOS field.
fn kernel_name(key: &str) -> &'static str {
    match key {
        "manufacturer" => "sys_vendor",
        "product" => "product_name",
        "version" => "product_version",
        "serial" => "product_serial",
        "sku" => "product_sku",
        _ => "product_family",
    }
}
