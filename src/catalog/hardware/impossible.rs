//! Which combinations exist at all.

use super::{Chipset, DiskBus, Firmware, Hardware, NicModel, Tpm, TpmInterface, cpu};
use crate::catalog::text::Size;

/// Virtual processors of one machine.
const PROCESSORS: u32 = 64;

impl Hardware {
    /// What of this profile no machine can have, as (key, reason, hint). Empty for a possible one.
    pub fn impossible(&self) -> Vec<(&'static str, String, &'static str)> {
        let mut reasons = Vec::new();
        self.buses(&mut reasons);
        self.guards(&mut reasons);
        self.sizes(&mut reasons);
        self.identity(&mut reasons);
        reasons
    }

    fn buses(&self, reasons: &mut Vec<(&'static str, String, &'static str)>) {
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
    }

    /// Firmware and TPM.
    fn guards(&self, reasons: &mut Vec<(&'static str, String, &'static str)>) {
        if self.chipset == Chipset::Pc && self.firmware == Firmware::UefiSecureBoot {
            reasons.push((
                "firmware",
                "Secure Boot needs the system management mode of the q35 chipset to guard its keys".to_owned(),
                "use chipset = \"q35\", or firmware = \"uefi\"",
            ));
        }
        match (self.tpm_interface, self.tpm, self.chipset) {
            (Some(_), Tpm::None, _) => {
                let reason = "there is no TPM that could have an interface".to_owned();
                reasons.push(("tpm-interface", reason, "say tpm = \"1.2\" or tpm = \"2.0\", or remove it"));
            }
            (Some(TpmInterface::Crb), Tpm::V1_2, _) => {
                let reason = "the command response buffer came with TPM 2.0; a TPM 1.2 has none".to_owned();
                reasons.push(("tpm-interface", reason, "use tpm-interface = \"tis\", or tpm = \"2.0\""));
            }
            (Some(TpmInterface::Crb), Tpm::V2_0, Chipset::Pc) => {
                let reason = "no machine with the pc chipset had a TPM with a command response buffer".to_owned();
                reasons.push(("tpm-interface", reason, "use tpm-interface = \"tis\", or chipset = \"q35\""));
            }
            (Some(TpmInterface::Crb), Tpm::V2_0, Chipset::Q35) | (Some(TpmInterface::Tis), Tpm::V1_2 | Tpm::V2_0, _) | (None, _, _) => {}
        }
    }

    fn sizes(&self, reasons: &mut Vec<(&'static str, String, &'static str)>) {
        for (key, number, most, hint) in [
            ("sockets", self.sockets, 8, "use 1 to 8"),
            ("cores", self.cores, PROCESSORS, "use 1 to 64"),
            ("threads", self.threads, 2, "use 1 or 2"),
        ] {
            if !(1..=most).contains(&number) {
                reasons.push((key, format!("{number} {key}"), hint));
            }
        }
        if self.cores <= PROCESSORS && self.processors() > PROCESSORS {
            let reason = format!("{} sockets x {} cores x {} threads are more than 64 processors", self.sockets, self.cores, self.threads);
            reasons.push(("cores", reason, "use fewer"));
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
    }

    /// CPU model and SMBIOS.
    fn identity(&self, reasons: &mut Vec<(&'static str, String, &'static str)>) {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.cpu.is_empty() || !self.cpu.chars().all(plain) {
            reasons.push((
                "cpu",
                format!("{:?} is not a CPU model name", self.cpu),
                "use \"max\" or a name from `virsh cpu-models x86_64`",
            ));
        }
        if self.firmware != Firmware::Bios && !cpu::is_wide(&self.cpu) {
            reasons.push((
                "cpu",
                format!("UEFI firmware is 64-bit code and {} has no 64-bit mode", self.cpu),
                "use another CPU model, or firmware = \"bios\"",
            ));
        }
        if self.threads > 1 && matches!(cpu::vendor(&self.cpu), Some(cpu::Vendor::Amd)) && !self.cpu.starts_with("EPYC") {
            let reason = format!("{} has one thread a core; AMD's first with two are the EPYCs", self.cpu);
            reasons.push(("threads", reason, "use threads = 1 and twice the cores, or an EPYC model"));
        }
        if self.smbios.as_ref().and_then(|smbios| smbios.uuid).is_some_and(|uuid| uuid.is_nil() || uuid.is_max()) {
            let reason = "to SMBIOS this UUID means that there is none".to_owned();
            reasons.push(("smbios.uuid", reason, "use the machine's own UUID, or leave it out"));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn profile(change: impl FnOnce(&mut Hardware)) -> Hardware {
        let mut hardware = Hardware::plain(Chipset::Q35, Firmware::Uefi, DiskBus::Virtio, NicModel::Virtio);
        change(&mut hardware);
        hardware
    }

    #[test]
    fn what_cannot_be_is_refused_at_its_key() {
        for (hardware, key) in [
            (profile(|it| it.disk = DiskBus::Ide), "disk"),
            (profile(|it| (it.chipset, it.nic) = (Chipset::Pc, NicModel::E1000e)), "nic"),
            (profile(|it| (it.chipset, it.firmware) = (Chipset::Pc, Firmware::UefiSecureBoot)), "firmware"),
            (profile(|it| it.tpm_interface = Some(TpmInterface::Tis)), "tpm-interface"),
            (profile(|it| (it.tpm, it.tpm_interface) = (Tpm::V1_2, Some(TpmInterface::Crb))), "tpm-interface"),
            (profile(|it| (it.chipset, it.tpm, it.tpm_interface) = (Chipset::Pc, Tpm::V2_0, Some(TpmInterface::Crb))), "tpm-interface"),
            (profile(|it| it.sockets = 9), "sockets"),
            (profile(|it| it.cores = 65), "cores"),
            (profile(|it| (it.sockets, it.cores) = (8, 9)), "cores"),
            (profile(|it| it.threads = 3), "threads"),
            (profile(|it| (it.cpu, it.threads) = ("Opteron_G5".to_owned(), 2)), "threads"),
            (profile(|it| it.memory = Size(256 << 20 | 1)), "memory"),
            (profile(|it| it.cpu = "pentium3".to_owned()), "cpu"),
            (profile(|it| it.cpu = "max,+svm".to_owned()), "cpu"),
            (profile(|it| it.smbios = Some(super::super::Smbios { uuid: Some(uuid::Uuid::nil()), ..Default::default() })), "smbios.uuid"),
        ] {
            let keys: Vec<_> = hardware.impossible().into_iter().map(|(key, ..)| key).collect();
            assert_eq!(keys, [key], "{hardware:?}");
        }
    }

    #[test]
    fn what_can_be_is_not_refused() {
        for hardware in [
            profile(|it| (it.firmware, it.tpm) = (Firmware::UefiSecureBoot, Tpm::V2_0)),
            profile(|it| (it.chipset, it.firmware, it.tpm) = (Chipset::Pc, Firmware::Bios, Tpm::V1_2)),
            profile(|it| (it.tpm, it.tpm_interface) = (Tpm::V2_0, Some(TpmInterface::Tis))),
            profile(|it| (it.chipset, it.disk, it.nic) = (Chipset::Pc, DiskBus::Nvme, NicModel::Vmxnet3)),
            profile(|it| (it.sockets, it.cores, it.threads) = (2, 16, 2)),
            profile(|it| (it.cpu, it.threads) = ("EPYC-Milan".to_owned(), 2)),
            profile(|it| (it.firmware, it.cpu) = (Firmware::Bios, "pentium3".to_owned())),
        ] {
            assert_eq!(hardware.impossible(), [], "{hardware:?}");
        }
    }

    proptest! {
        #[test]
        fn no_numbers_overflow(sockets: u32, cores: u32, threads: u32, memory: u64) {
            let hardware = profile(|it| {
                (it.sockets, it.cores, it.threads, it.memory) = (sockets, cores, threads, Size(memory));
            });
            let possible = hardware.impossible().is_empty();
            prop_assert!(!possible || u64::from(sockets) * u64::from(cores) * u64::from(threads) <= 64);
        }
    }
}
