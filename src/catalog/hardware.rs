//! Hardware profiles: `builds/hardware/<profile>.toml`, and which combinations exist at all.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::Size;

/// The virtual hardware of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Hardware {
    /// One line for people.
    #[schemars(length(min = 1))]
    pub title: String,
    pub chipset: Chipset,
    pub firmware: Firmware,
    /// A CPU model that QEMU knows (`virsh cpu-models x86_64`), or `max` for all that the accelerator can do.
    #[serde(default = "Hardware::default_cpu")]
    pub cpu: String,
    /// Virtual processors, 1 to 64.
    #[serde(default = "Hardware::default_cores")]
    #[schemars(range(min = 1, max = 64))]
    pub cores: u32,
    #[serde(default = "Hardware::default_memory")]
    pub memory: Size,
    pub disk: DiskBus,
    pub nic: NicModel,
    /// Whether a machine on this profile is also switched off and started once more after the patch: some failures show only at the second boot.
    #[serde(default)]
    pub second_cold_boot: bool,
}

impl Hardware {
    fn default_cpu() -> String {
        "max".to_owned()
    }

    fn default_cores() -> u32 {
        1
    }

    fn default_memory() -> Size {
        Size::mib(768)
    }

    /// What of this profile no machine can have, as (key, reason, hint). Empty for a possible one.
    pub fn impossible(&self) -> Vec<(&'static str, String, &'static str)> {
        let mut reasons = Vec::new();
        if self.chipset == Chipset::Q35 && self.disk == DiskBus::Ide {
            reasons.push(("disk", "the q35 chipset has no IDE controller".to_owned(), "use disk = \"sata\", or chipset = \"pc\""));
        }
        if self.chipset == Chipset::Pc && self.nic == NicModel::E1000e {
            reasons.push((
                "nic",
                "e1000e is a PCI Express device and the pc chipset has only PCI".to_owned(),
                "use nic = \"e1000\", or chipset = \"q35\"",
            ));
        }
        if !(1..=64).contains(&self.cores) {
            reasons.push(("cores", format!("{} virtual processors", self.cores), "use 1 to 64"));
        }
        if self.memory < Size::mib(256) {
            reasons.push(("memory", format!("{} is too little for any image to boot", self.memory), "use at least \"256MiB\""));
        }
        if self.memory > Size::mib(1 << 20) {
            reasons.push(("memory", format!("{} is more than any host has", self.memory), "use at most \"1TiB\""));
        }
        if !self.memory.0.is_multiple_of(1 << 20) {
            reasons.push(("memory", format!("{} is not a whole number of MiB", self.memory), "use a multiple of 1MiB"));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.cpu.is_empty() || !self.cpu.chars().all(plain) {
            reasons.push((
                "cpu",
                format!("{:?} is not a CPU model name", self.cpu),
                "use \"max\" or a name from `virsh cpu-models x86_64`",
            ));
        }
        reasons
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NicModel {
    Virtio,
    E1000,
    /// PCI Express; q35 only.
    E1000e,
    Rtl8139,
    Vmxnet3,
}
