//! What the host offers: UEFI code, free ports, versions.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};

use virt::connect::Connect;
use virt::error::Error;

use super::accelerator::Accelerator;
use super::domain::{Kind, Wire};
use crate::catalog::hardware::{Firmware, Hardware};
use crate::journal::HostReport;

/// UEFI code and the fresh variables that go with it, by distribution; the first pair that exists is taken.
const UEFI: [(&str, &str); 4] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
];
/// The same with Secure Boot: code that guards its variables, and variables with Microsoft's keys enrolled.
const SECURE_UEFI: [(&str, &str); 3] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd", "/usr/share/edk2/ovmf/OVMF_VARS.secboot.fd"),
    ("/usr/share/OVMF/OVMF_CODE.secboot.fd", "/usr/share/OVMF/OVMF_VARS.ms.fd"),
];
/// The programs that libvirt emulates a TPM with.
const TPM: [&str; 2] = ["swtpm", "swtpm_setup"];
/// Wires use these ports: below the range from which the kernel gives ports to whoever asks.
const WIRES: std::ops::Range<u16> = 20_000..30_000;

/// Whether the libvirt behind this address works as root: the one in this process as this user, a session's never.
pub fn is_privileged(uri: &str) -> bool {
    if uri.contains(":///embed") { nix::unistd::Uid::effective().is_root() } else { !uri.contains("/session") }
}

/// Whether the hypervisor at this address runs on this host.
pub fn is_local(uri: &str) -> bool {
    uri.split_once("://").is_some_and(|(driver, rest)| rest.starts_with('/') && !driver.contains('+'))
}

/// Whether the segments of a network are switched in this process. libvirt's fake runs no machine that could send a frame, so it may as
/// well show what a libvirt elsewhere is asked for.
pub fn switches_here(uri: &str) -> bool {
    is_local(uri) && !uri.starts_with("test:")
}

/// The UEFI code and its fresh variables. `None` for a profile that has no UEFI, or a host that has no such firmware.
pub fn uefi(firmware: Firmware) -> Option<(PathBuf, PathBuf)> {
    let pairs: &[(&str, &str)] = match firmware {
        Firmware::Bios => &[],
        Firmware::Uefi => &UEFI,
        Firmware::UefiSecureBoot => &SECURE_UEFI,
    };
    let both = |(code, variables): &&(&str, &str)| Path::new(code).exists() && Path::new(variables).exists();
    pairs.iter().find(both).map(|(code, variables)| (code.into(), variables.into()))
}

/// Something that this host needs for a profile and does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    pub what: String,
    /// Debian's packages that bring it.
    pub packages: &'static str,
}

/// What this host lacks for machines of this profile.
pub fn lacking(hardware: &Hardware) -> Vec<Lack> {
    let mut lacks = Vec::new();
    let lacks_uefi = |what: &str| Lack { what: what.to_owned(), packages: "ovmf" };
    match (hardware.firmware, uefi(hardware.firmware)) {
        (Firmware::Bios, _) | (Firmware::Uefi | Firmware::UefiSecureBoot, Some(_)) => {}
        (Firmware::Uefi, None) => lacks.push(lacks_uefi("UEFI firmware for guests")),
        (Firmware::UefiSecureBoot, None) => lacks.push(lacks_uefi("UEFI firmware with Secure Boot and Microsoft's keys")),
    }
    if hardware.tpm().is_some() {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders: Vec<PathBuf> = std::env::split_paths(&path).chain(["/usr/bin".into()]).collect();
        let missing = TPM.iter().filter(|program| !folders.iter().any(|folder| folder.join(program).is_file()));
        lacks.extend(missing.map(|program| Lack { what: format!("{program}, which emulates TPMs"), packages: "swtpm swtpm-tools" }));
    }
    lacks
}

/// Two ports for a wire that nobody uses now. The search starts at a place that depends on `seed`, so that machines made at
/// once rarely meet.
pub fn wire(seed: &[u8]) -> Option<Wire> {
    let seed = seed.iter().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    let pairs = WIRES.len() / 2;
    let free = |port: u16| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    (0..pairs).filter_map(|step| u16::try_from((seed + step) % pairs * 2).ok()).find_map(|offset| {
        let (local, remote) = (WIRES.start + offset, WIRES.start + offset + 1);
        (free(local) && free(remote)).then_some(Wire { local, remote })
    })
}

/// The report of this host and its hypervisor.
pub fn report(connection: &Connect, uri: &str, accelerator: &Accelerator) -> Result<HostReport, Error> {
    let node = connection.node_info()?;
    let kernel = nix::sys::utsname::uname().ok().map(|name| name.release().to_string_lossy().into_owned());
    Ok(HostReport {
        accelerator: match accelerator.kind {
            Kind::Kvm => "kvm",
            Kind::Qemu => "tcg",
            Kind::Test => "none",
        }
        .to_owned(),
        accelerator_reason: accelerator.reason.clone(),
        qemu: version(connection.hyp_version()?),
        libvirt: version(connection.lib_version()?),
        kernel: kernel.filter(|_| is_local(uri)).unwrap_or_else(|| "unknown".to_owned()),
        cpus: node.cpus,
        memory: node.memory * 1024,
    })
}

/// libvirt's version numbers: major * 1,000,000 + minor * 1,000 + release.
fn version(number: u32) -> String {
    format!("{}.{}.{}", number / 1_000_000, number / 1_000 % 1_000, number % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_tell_where_the_machines_are() {
        for local in ["qemu:///embed?root=/x", "qemu:///system", "qemu:///session", "test:///default"] {
            assert!(is_local(local), "{local}");
        }
        for remote in ["qemu+ssh://host/system", "qemu+tls://host/system", "qemu://host/system", "qemu+tcp:///system", ""] {
            assert!(!is_local(remote), "{remote}");
        }
    }

    #[test]
    fn wires_avoid_ports_in_use() {
        let first = wire(b"a").expect("a wire");
        let held = UdpSocket::bind((Ipv4Addr::LOCALHOST, first.remote)).expect("free");
        assert_ne!(wire(b"a").expect("another wire"), first);
        drop(held);
    }

    #[test]
    fn versions_read_as_people_write_them() {
        assert_eq!(version(7_002_022), "7.2.22");
    }
}
