//! Which accelerator executes guests' code, and why.
//!
//! KVM only where the CPU itself says that it can. A host that is a guest without nested virtualisation can show a `/dev/kvm` of some
//! outer hypervisor, and libvirt then offers KVM; guests were seen to hang under it.

use std::fs::{self, OpenOptions};
use std::path::Path;

use quick_xml::Reader;
use quick_xml::events::Event;
use virt::connect::Connect;
use virt_sys as sys;

use super::domain::Kind;
use super::embed::{KVM, Runner};
use super::facts::is_local;

/// The CPU features by which Intel's and AMD's processors say that they virtualise.
const FLAGS: [&str; 2] = ["vmx", "svm"];

/// How guests' code is executed, and why so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accelerator {
    pub kind: Kind,
    pub reason: String,
}

impl Accelerator {
    /// That of the machines at `uri`, whose QEMU `runner` runs where that is known.
    pub fn of(uri: &str, connection: &Connect, runner: Option<&Runner>) -> Self {
        if uri.starts_with("test:") {
            return Self { kind: Kind::Test, reason: "libvirt's in-process fake runs no guest at all".to_owned() };
        }
        if is_local(uri) {
            let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
            let flags = cpu.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
            return Self::here(flag(flags.split_whitespace()), kvm_opens(runner));
        }
        let offer = connection.domain_capabilities(None, Some("x86_64"), None, Some("kvm"), 0);
        Self::elsewhere(host_features(connection), offer.map(drop).map_err(|error| error.message().to_owned()))
    }

    /// On this host: from the CPU's flag and whether `/dev/kvm` opens.
    fn here(flag: Option<&str>, kvm: Result<(), String>) -> Self {
        let (kind, reason) = match (flag, kvm) {
            (Some(flag), Ok(())) => (Kind::Kvm, format!("the CPU has {flag} and /dev/kvm opens")),
            (Some(flag), Err(why)) => (Kind::Qemu, format!("the CPU has {flag}, but /dev/kvm can't be opened: {why}")),
            (None, Ok(())) => (Kind::Qemu, "the CPU shows neither vmx nor svm, so the /dev/kvm that is present is not trusted".to_owned()),
            (None, Err(_)) => (Kind::Qemu, "the CPU shows neither vmx nor svm".to_owned()),
        };
        Self { kind, reason }
    }

    /// On another host: from what libvirt there tells of its CPU, and whether it offers KVM.
    fn elsewhere(features: Result<Vec<String>, String>, kvm: Result<(), String>) -> Self {
        let flags = features.as_ref().map(|features| flag(features.iter().map(String::as_str)));
        let (kind, reason) = match (flags, kvm) {
            (_, Err(why)) => (Kind::Qemu, format!("the libvirt there offers no KVM: {why}")),
            (Ok(Some(flag)), Ok(())) => (Kind::Kvm, format!("the CPU there has {flag} and its libvirt offers KVM")),
            (Ok(None), Ok(())) => {
                (Kind::Qemu, "the CPU there shows neither vmx nor svm, so the KVM that its libvirt offers is not trusted".to_owned())
            }
            (Err(why), Ok(())) => {
                (Kind::Qemu, format!("the libvirt there does not tell what its CPU can, so the KVM that it offers is not trusted: {why}"))
            }
        };
        Self { kind, reason }
    }
}

fn flag<'a>(mut features: impl Iterator<Item = &'a str>) -> Option<&'static str> {
    features.find_map(|feature| FLAGS.into_iter().find(|flag| *flag == feature))
}

/// `Err` says why `/dev/kvm` can't be opened by those who must.
fn kvm_opens(runner: Option<&Runner>) -> Result<(), String> {
    let device = Path::new(KVM);
    OpenOptions::new().read(true).write(true).open(device).map_err(|error| error.to_string())?;
    match runner {
        Some(runner) if !runner.reads(device) => Err(format!("the user {}, who runs QEMU, may not", runner.name)),
        _ => Ok(()),
    }
}

/// Every feature of the host's CPU. Its capabilities name a model and what differs from it; libvirt is asked to write the model out.
fn host_features(connection: &Connect) -> Result<Vec<String>, String> {
    let capabilities = connection.capabilities().map_err(|error| error.message().to_owned())?;
    let cpu = host_cpu(&capabilities).ok_or("its capabilities name no CPU")?;
    let whole = connection.baseline_cpu(&[cpu], sys::VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES);
    Ok(features(&whole.map_err(|error| error.message().to_owned())?))
}

/// The CPU's element, the first in libvirt's capabilities.
fn host_cpu(capabilities: &str) -> Option<&str> {
    let mut reader = Reader::from_str(capabilities);
    loop {
        let from = usize::try_from(reader.buffer_position()).ok()?;
        match reader.read_event().ok()? {
            Event::Start(element) if element.name().as_ref() == b"cpu" => {
                reader.read_to_end(element.name()).ok()?;
                return capabilities.get(from..usize::try_from(reader.buffer_position()).ok()?);
            }
            Event::Eof => return None,
            _ => {}
        }
    }
}

/// The names of a CPU's features.
fn features(cpu: &str) -> Vec<String> {
    let mut reader = Reader::from_str(cpu);
    let mut features = Vec::new();
    while let Ok(event) = reader.read_event() {
        match event {
            Event::Start(element) | Event::Empty(element) if element.name().as_ref() == b"feature" => {
                let name = element.try_get_attribute("name").ok().flatten();
                features.extend(name.map(|name| String::from_utf8_lossy(&name.value).into_owned()));
            }
            Event::Eof => break,
            _ => {}
        }
    }
    features
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_needs_the_cpu_and_the_device() {
        let refused = || Err("Permission denied".to_owned());
        assert_eq!(Accelerator::here(Some("vmx"), Ok(())).kind, Kind::Kvm);
        assert_eq!(Accelerator::here(Some("svm"), refused()).kind, Kind::Qemu);
        assert_eq!(Accelerator::here(None, Ok(())).kind, Kind::Qemu);
        assert!(Accelerator::here(Some("vmx"), refused()).reason.contains("Permission denied"));
        assert!(Accelerator::here(None, Ok(())).reason.contains("not trusted"));
        assert_eq!(flag("flags : fpu vmx sse".split_whitespace()), Some("vmx"));
        assert_eq!(flag("flags : fpu vmx_like sse".split_whitespace()), None);
    }

    #[test]
    fn an_offer_from_elsewhere_needs_the_cpu_there() {
        let with = |features: &[&str]| Ok(features.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let refused = || Err("no domain type".to_owned());
        assert_eq!(Accelerator::elsewhere(with(&["sse", "svm"]), Ok(())).kind, Kind::Kvm);
        for (features, kvm, reason) in [
            (with(&["sse"]), Ok(()), "neither vmx nor svm"),
            (Err("its capabilities name no CPU".to_owned()), Ok(()), "name no CPU"),
            (with(&["vmx"]), refused(), "no domain type"),
        ] {
            let chosen = Accelerator::elsewhere(features, kvm);
            assert_eq!(chosen.kind, Kind::Qemu);
            assert!(chosen.reason.contains(reason), "{}", chosen.reason);
        }
    }

    #[test]
    fn the_cpu_is_found_in_capabilities() {
        let capabilities = "<capabilities>\n <host><uuid>x</uuid>\n  <cpu><arch>x86_64</arch><model>EPYC</model>\n   \
            <feature name='ht'/></cpu>\n </host><guest><cpu/></guest></capabilities>";
        let cpu = host_cpu(capabilities).expect("a CPU");
        assert!(cpu.starts_with("<cpu><arch>") && cpu.ends_with("</cpu>"), "{cpu}");
        assert_eq!(features(cpu), ["ht"]);
        for none in ["", "<capabilities/>", "<cpu>", "<capabilities><host/>"] {
            assert_eq!(host_cpu(none), None, "{none}");
        }
        assert_eq!(features("<cpu mode='custom'><feature policy='require' name='vmx'/><feature></feature></cpu>"), ["vmx"]);
    }
}
