//! Whether the machine is what its hardware profile claims: devices with their drivers, firmware and Secure Boot, TPM, processors, SMBIOS.
//!
//! Unmet before the patch, a claim is the lab's fault: what was tested is not what was planned. Unmet after it, it is a finding.

use super::{HealthResult, Outcome, Report, View};
use crate::catalog::hardware::{Device, Firmware, Kind, TpmVersion};
use crate::cell::CaseOutcome;
use crate::verdict::health::facts::Facts;

/// The checks of this file, by name.
const NAMES: [&str; 3] = ["profile-devices", "profile-firmware", "profile-machine"];

/// The first claim of the profile that the machine does not meet.
pub fn unmet(results: &[HealthResult]) -> Option<&HealthResult> {
    results.iter().find(|result| result.outcome == CaseOutcome::Fail && NAMES.contains(&result.check.as_str()))
}

/// Name and drivers of each device of a kind.
fn seen<'a>(lines: &'a [String], kind: &str) -> Vec<(&'a str, Vec<&'a str>)> {
    let device = |line: &'a String| {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == kind).then_some(())?;
        Some((words.next()?, words.collect()))
    };
    lines.iter().filter_map(device).collect()
}

pub(super) fn devices(view: &View<'_>) -> Outcome {
    let lines = view.now.measured("devices")?;
    let mut report = Report::default();
    for device in &view.claims.devices {
        let found = seen(lines, device.kind.as_str());
        if !found.iter().any(|(_, drivers)| device.chains.iter().any(|chain| drivers.starts_with(chain))) {
            report.problem(unbound(device, &found));
        }
    }
    if !report.problems.is_empty() {
        report.detail = lines.iter().flat_map(|line| [line, "\n"]).collect();
    }
    Ok(report)
}

fn unbound(device: &Device, found: &[(&str, Vec<&str>)]) -> String {
    let wanted: Vec<_> = device.chains.iter().map(|chain| chain.join(" on ")).collect();
    // Optical drives are disks to the kernel and say nothing here.
    let others = found.iter().filter(|(_, drivers)| drivers.first() != Some(&"sr"));
    let others: Vec<_> = others
        .map(|(name, drivers)| format!("{name}: {}", if drivers.is_empty() { "none".to_owned() } else { drivers.join(" on ") }))
        .collect();
    let has = if others.is_empty() {
        match device.kind {
            Kind::Disk => "the guest sees no disk".to_owned(),
            Kind::Network => "the guest sees no network card".to_owned(),
            Kind::Tpm => "the guest sees no TPM".to_owned(),
        }
    } else {
        format!("the guest has {}", others.join("; "))
    };
    format!("no device is driven as the profile's {} is (by {}); {has}", device.name, wanted.join(" or "))
}

pub(super) fn firmware(view: &View<'_>) -> Outcome {
    view.now.measured("hardware")?;
    let value = |key| view.now.value("hardware", key);
    let mut report = Report::default();
    let (wanted, found) = (if view.claims.firmware == Firmware::Bios { "bios" } else { "uefi" }, value("firmware").unwrap_or("unknown"));
    if wanted != found {
        report.problem(format!("the machine started from {found}, not from {wanted}"));
    }
    let enforced = value("secure-boot") == Some("1");
    match view.claims.firmware {
        Firmware::UefiSecureBoot => {
            if !enforced {
                report.problem(format!(
                    "Secure Boot is not enforced: the variable SecureBoot is {}",
                    value("secure-boot").unwrap_or("missing")
                ));
            }
            if value("setup-mode") != Some("0") {
                report.problem(format!(
                    "Secure Boot's keys can be replaced by anyone: SetupMode is {}",
                    value("setup-mode").unwrap_or("missing")
                ));
            }
            let lockdown = value("lockdown").unwrap_or("missing");
            if !["[integrity]", "[confidentiality]"].iter().any(|level| lockdown.contains(level)) {
                report.problem(format!("the kernel is not locked down although Secure Boot is claimed: lockdown is {lockdown:?}"));
            }
        }
        Firmware::Bios | Firmware::Uefi if enforced => report.note("Secure Boot is enforced although the profile does not claim it"),
        Firmware::Bios | Firmware::Uefi => {}
    }
    Ok(report)
}

pub(super) fn machine(view: &View<'_>) -> Outcome {
    let lines = view.now.measured("hardware")?;
    let mut report = Report::default();
    let value = |key| view.now.value("hardware", key).unwrap_or("unknown");
    let tpm = view.claims.tpm.map(|version| match version {
        TpmVersion::V1_2 => "1",
        TpmVersion::V2_0 => "2",
    });
    if let Some(wanted) = tpm.filter(|wanted| value("tpm") != *wanted) {
        report.problem(format!("the TPM's major version is {}, not {wanted}", value("tpm")));
    }
    if value("processors") != view.claims.processors.to_string() {
        report.problem(format!("the machine has {} processors, not {}", value("processors"), view.claims.processors));
    }
    for (key, wanted) in &view.claims.identity {
        let found = dmi(view.now, key).unwrap_or("missing");
        if !found.eq_ignore_ascii_case(wanted) {
            report.problem(format!("{key} is {found:?}, not {wanted:?}"));
        }
    }
    // Under KVM the processor is the host's maker's, whatever the model: an emulated one says who it is.
    if let Some(vendor) = view.claims.vendor.filter(|vendor| value("vendor") != vendor.id()) {
        report.note(format!(
            "the CPU model is {}'s and the guest sees {}: the accelerator shows its host's maker",
            vendor.id(),
            value("vendor")
        ));
    }
    if !report.problems.is_empty() {
        report.detail = lines.iter().flat_map(|line| [line, "\n"]).collect();
    }
    Ok(report)
}

/// A field of SMBIOS by the kernel's name of it.
fn dmi<'a>(facts: &'a Facts, key: &str) -> Option<&'a str> {
    facts.lines("hardware").iter().find_map(|line| line.strip_prefix("dmi ")?.strip_prefix(key)?.strip_prefix(' '))
}
