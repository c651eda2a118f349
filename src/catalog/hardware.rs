//! Hardware profiles: `builds/hardware/<profile>.toml`, which combinations exist at all, and what a guest must see of one.

mod claims;
pub mod cpu;
mod identity;
mod impossible;

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::Size;
use crate::id::Name;

pub use claims::{Claims, Device, Kind, claims};
pub use identity::{Smbios, SmbiosText};

/// The virtual hardware of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Hardware {
    /// One line for people.
    #[schemars(length(min = 1))]
    pub title: String,
    pub chipset: Chipset,
    pub firmware: Firmware,
    #[serde(default, skip_serializing_if = "Tpm::is_none")]
    pub tpm: Tpm,
    /// How the guest talks to its TPM; by itself `crb` for a TPM 2.0 on q35, else `tis`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm_interface: Option<TpmInterface>,
    /// A CPU model that QEMU knows (`virsh cpu-models x86_64`), or `max` for all that the accelerator can do.
    #[serde(default = "Hardware::default_cpu")]
    pub cpu: String,
    /// Processor sockets, 1 to 8.
    #[serde(default = "Hardware::one", skip_serializing_if = "Hardware::is_one")]
    #[schemars(range(min = 1, max = 8))]
    pub sockets: u32,
    /// Cores of each socket, 1 to 64. All sockets together may have 64 threads.
    #[serde(default = "Hardware::one")]
    #[schemars(range(min = 1, max = 64))]
    pub cores: u32,
    /// Threads of each core, 1 or 2.
    #[serde(default = "Hardware::one", skip_serializing_if = "Hardware::is_one")]
    #[schemars(range(min = 1, max = 2))]
    pub threads: u32,
    #[serde(default = "Hardware::default_memory")]
    pub memory: Size,
    pub disk: DiskBus,
    pub nic: NicModel,
    #[serde(default, skip_serializing_if = "ClockBase::is_utc")]
    pub clock: ClockBase,
    /// Whether a machine on this profile is also switched off and started once more after the patch: some failures show only at the second boot.
    #[serde(default)]
    pub second_cold_boot: bool,
    /// Labels that a host must have for such a machine to run there.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub host_labels: BTreeSet<Name>,
    /// Who the machine says it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smbios: Option<Smbios>,
    /// What the machine in production has and this profile can't give. Every report shows it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
}

impl Hardware {
    /// A profile that says only what every profile must.
    pub fn plain(chipset: Chipset, firmware: Firmware, disk: DiskBus, nic: NicModel) -> Self {
        Self {
            title: "a machine".to_owned(),
            chipset,
            firmware,
            tpm: Tpm::None,
            tpm_interface: None,
            cpu: Self::default_cpu(),
            sockets: 1,
            cores: 1,
            threads: 1,
            memory: Self::default_memory(),
            disk,
            nic,
            clock: ClockBase::Utc,
            second_cold_boot: false,
            host_labels: BTreeSet::new(),
            smbios: None,
            differences: Vec::new(),
        }
    }

    fn default_cpu() -> String {
        "max".to_owned()
    }

    const fn one() -> u32 {
        1
    }

    // The form that serde calls it by.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    const fn is_one(number: &u32) -> bool {
        *number == 1
    }

    fn default_memory() -> Size {
        Size::mib(768)
    }

    /// Virtual processors: the threads of all cores of all sockets.
    pub const fn processors(&self) -> u32 {
        self.sockets.saturating_mul(self.cores).saturating_mul(self.threads)
    }

    /// The TPM's version and interface, where there is one.
    pub const fn tpm(&self) -> Option<(TpmVersion, TpmInterface)> {
        let version = match self.tpm {
            Tpm::None => return None,
            Tpm::V1_2 => TpmVersion::V1_2,
            Tpm::V2_0 => TpmVersion::V2_0,
        };
        let interface = match (self.tpm_interface, version, self.chipset) {
            (Some(interface), _, _) => interface,
            (None, TpmVersion::V2_0, Chipset::Q35) => TpmInterface::Crb,
            (None, _, _) => TpmInterface::Tis,
        };
        Some((version, interface))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Chipset {
    /// i440FX, PCI.
    Pc,
    /// Q35, PCI Express.
    Q35,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    Bios,
    Uefi,
    /// UEFI that starts only what Microsoft's keys have signed; q35 only.
    UefiSecureBoot,
}

impl Firmware {
    /// As the files say it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bios => "bios",
            Self::Uefi => "uefi",
            Self::UefiSecureBoot => "uefi-secure-boot",
        }
    }
}

/// A Trusted Platform Module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Tpm {
    #[default]
    #[serde(rename = "none")]
    None,
    #[serde(rename = "1.2")]
    V1_2,
    #[serde(rename = "2.0")]
    V2_0,
}

impl Tpm {
    // The form that serde calls it by.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }
}

/// The version of a TPM that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TpmVersion {
    V1_2,
    V2_0,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TpmInterface {
    /// The older register interface, of either version.
    Tis,
    /// TPM 2.0's command response buffer; q35 only.
    Crb,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DiskBus {
    /// virtio-blk.
    Virtio,
    /// virtio-scsi.
    Scsi,
    /// AHCI.
    Sata,
    /// PIIX IDE; pc only.
    Ide,
    Nvme,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NicModel {
    Virtio,
    /// Intel 82540EM.
    E1000,
    /// Intel 82574L, PCI Express; q35 only.
    E1000e,
    /// Realtek 8139.
    Rtl8139,
    /// VMware's paravirtual card.
    Vmxnet3,
}

/// What the machine's hardware clock shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClockBase {
    #[default]
    Utc,
    /// The host's local time, as Windows expects it.
    Localtime,
}

impl ClockBase {
    // The form that serde calls it by.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    const fn is_utc(&self) -> bool {
        matches!(self, Self::Utc)
    }
}

/// Something that the machine in production has and that a virtual machine can't reproduce.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Difference {
    /// The kind of device, for example `network card`.
    #[schemars(length(min = 1, max = 200))]
    pub device: String,
    /// What it is in production.
    #[schemars(length(min = 1, max = 400))]
    pub production: String,
    /// What stands in for it in the lab.
    #[schemars(length(min = 1, max = 400))]
    pub lab: String,
}
