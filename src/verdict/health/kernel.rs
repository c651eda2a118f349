//! The kernel, its devices, its boot files and its clock; and what services complained about.

use std::collections::{BTreeMap, BTreeSet};

use super::text::{joined, unified};
use super::{Outcome, Report, View};
use crate::verdict::fold::fold;
use crate::verdict::health::facts::{Facts, Unmeasured};

/// What a healthy kernel never says.
const SERIOUS: [&str; 20] = [
    "BUG:",
    "Oops",
    "general protection fault",
    "segfault at",
    "Kernel panic",
    "blocked for more than",
    "I/O error",
    "Out of memory",
    "oom-kill",
    "EXT4-fs error",
    "XFS (", // with "orruption" or "rror" below
    "BTRFS error",
    "Remounting filesystem read-only",
    "Unable to handle",
    "unable to handle",
    "invalid opcode",
    "trap divide error",
    "Hardware Error",
    "WARNING: CPU",
    "Unknown symbol",
];

/// Percent of memory and swap below which a machine is about to run out of it.
const MEMORY_LEFT: f64 = 5.0;

/// What a busy host does to a guest's kernel: worth a note, never the patch's doing.
const HOST_LOAD: [&str; 5] = ["soft lockup", "rcu_sched", "rcu: INFO", "clocksource: timekeeping watchdog", "hrtimer: interrupt took"];

/// Complaints that come by themselves, and those that tests provoke on purpose.
const HARMLESS: [&str; 14] = [
    "regulatory.db",
    "wiki.debian.org/Firmware",
    "uncleanly shut down",
    "kex_exchange_identification",
    "Connection reset by peer",
    "pam_unix(",
    "authentication failure",
    "SGX disabled",
    "Failed to find module",
    "i8042",
    "RAS: ",
    "qemu-ga",
    "Time has been changed",
    "getty",
];

fn serious(line: &str) -> bool {
    let said = |word: &&str| line.contains(*word);
    SERIOUS.iter().any(|word| said(word) && (*word != "XFS (" || line.contains("orruption") || line.contains("rror")))
        && !HOST_LOAD.iter().any(said)
}

/// A kernel line without its time stamp, folded.
fn signature(line: &str) -> String {
    let text = line.trim_start().strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or(line, |(_, text)| text);
    fold(text)
}

pub(super) fn errors(view: &View<'_>) -> Outcome {
    let mut report = Report::default();
    let mut shown = Vec::new();
    for line in view.now.measured("kernel-log")? {
        if serious(line) {
            report.problem(format!("the kernel says: {}", signature(line)));
            shown.push(line.clone());
        } else if HOST_LOAD.iter().any(|word| line.contains(word)) {
            report.note(format!("the host was busy: {}", signature(line)));
        }
    }
    report.detail = joined(&shown);
    Ok(report)
}

/// Signatures of what services logged at error or worse, with an example and how often.
fn complaints(facts: &Facts) -> Result<BTreeMap<String, (String, u32)>, Unmeasured> {
    let mut found: BTreeMap<String, (String, u32)> = BTreeMap::new();
    for line in facts.measured("journal")? {
        let Some((_, text)) = line.trim_start().strip_prefix('[').and_then(|rest| rest.split_once(']')) else { continue };
        let text = text.trim();
        // The kernel has a check of its own.
        if text.starts_with("kernel:") || HARMLESS.iter().any(|word| text.contains(word)) {
            continue;
        }
        found.entry(fold(text)).or_insert_with(|| (text.to_owned(), 0)).1 += 1;
    }
    Ok(found)
}

pub(super) fn journal(view: &View<'_>) -> Outcome {
    let now = complaints(view.now)?;
    let mut report = Report::default();
    let Some(change) = &view.change else { return Ok(report) };
    let known: BTreeSet<String> = complaints(change.before)?.into_keys().collect();
    for (signature, (example, count)) in now {
        if !known.contains(&signature) {
            let text = format!("new error in the journal: {signature}");
            // Between these points suites have run, and what they provoke is no trace of the patch.
            if change.strict() {
                report.note(text)
            } else {
                report.problem(text)
            }
            report.detail.push_str(&format!("{count} x {example}\n"));
        }
    }
    Ok(report)
}

pub(super) fn core_dumps(view: &View<'_>) -> Outcome {
    let mut report = Report::default();
    for path in view.now.measured("core-dumps")? {
        let file = path.rsplit('/').next().unwrap_or(path);
        // systemd-coredump: core.PROGRAM.UID.BOOT.PID.TIME
        let program =
            file.strip_prefix("core.").map(|rest| rest.split('.').next().unwrap_or(rest)).filter(|name| name.parse::<u64>().is_err());
        report.problem(match program {
            Some(program) => format!("{program} dumped core"),
            None => "a program dumped core".to_owned(),
        });
    }
    report.detail = if report.problems.is_empty() { String::new() } else { joined(view.now.lines("core-dumps")) };
    Ok(report)
}

pub(super) fn memory(view: &View<'_>) -> Outcome {
    let lines = view.now.measured("memory")?;
    let mib = |key: &str| -> Option<f64> {
        let line = lines.iter().find_map(|line| line.strip_prefix(key))?;
        Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
    };
    let Some((total, available)) = mib("MemTotal:").zip(mib("MemAvailable:")) else {
        return Err("the kernel does not say how much memory is available".into());
    };
    // A machine without swap may say nothing of it.
    let all = total + mib("SwapTotal:").unwrap_or_default();
    let left = available + mib("SwapFree:").unwrap_or_default();
    let mut report = Report::default();
    if left < all * MEMORY_LEFT / 100.0 {
        report.problem("hardly any memory is left");
        report.detail = format!("{left:.0} of {all:.0} MiB of memory and swap are left\n");
    }
    Ok(report)
}

type DriverMap = (BTreeMap<String, String>, BTreeMap<String, u32>);

/// Device to driver, of buses whose addresses are the same at every boot; and drivers with their number, of those whose are not.
fn driver_map(facts: &Facts) -> Result<DriverMap, Unmeasured> {
    let (mut fixed, mut counted) = (BTreeMap::new(), BTreeMap::new());
    for line in facts.measured("drivers")? {
        let Some((path, link)) = line.split_once(' ') else { continue };
        let mut parts = path.trim_start_matches("/sys/bus/").split('/');
        let (Some(bus), Some(_), Some(device)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let driver = link.rsplit('/').next().unwrap_or(link).to_owned();
        if matches!(bus, "pci" | "virtio") {
            fixed.insert(format!("{bus} {device}"), driver);
        } else {
            *counted.entry(format!("{bus} {driver}")).or_insert(0) += 1;
        }
    }
    Ok((fixed, counted))
}

pub(super) fn drivers(view: &View<'_>) -> Outcome {
    let (now, now_counted) = driver_map(view.now)?;
    let mut report = Report::default();
    let Some(change) = &view.change else { return Ok(report) };
    let (before, before_counted) = driver_map(change.before)?;
    for (device, driver) in &before {
        match now.get(device) {
            None => report.problem(format!("{device} had driver {driver} and now has none")),
            Some(other) if other != driver => report.problem(format!("{device} has driver {other}, before {driver}")),
            Some(_) => {}
        }
    }
    for (driver, count) in &before_counted {
        if now_counted.get(driver).copied().unwrap_or(0) < *count {
            report.problem(format!("fewer devices than before have driver {driver}"));
        }
    }
    for (device, driver) in now.iter().filter(|(device, _)| !before.contains_key(*device)) {
        report.note(format!("{device} newly has driver {driver}"));
    }
    Ok(report)
}

type BootMap<'a> = (BTreeMap<&'a str, u64>, BTreeMap<&'a str, u64>);

/// Kernels and initial RAM disks in /boot, by version, with their sizes.
fn boot_map(facts: &Facts) -> Result<BootMap<'_>, Unmeasured> {
    let (mut kernels, mut ramdisks) = (BTreeMap::new(), BTreeMap::new());
    for line in facts.measured("boot-files")? {
        let Some((file, size)) = line.split_once(' ') else { continue };
        let size = size.trim().parse().unwrap_or(0);
        if let Some(version) = file.strip_prefix("vmlinuz-") {
            kernels.insert(version, size);
        } else if let Some(version) = file.strip_prefix("initrd.img-") {
            ramdisks.insert(version, size);
        }
    }
    Ok((kernels, ramdisks))
}

pub(super) fn boot_files(view: &View<'_>) -> Outcome {
    let (kernels, ramdisks) = boot_map(view.now)?;
    let mut report = Report::default();
    for (version, size) in &kernels {
        match ramdisks.get(version) {
            None if !ramdisks.is_empty() => report.problem(format!("kernel {version} has no initial RAM disk")),
            Some(ramdisk) if *ramdisk < 1 << 20 => report.problem(format!("/boot/initrd.img-{version} is too small to be one")),
            _ => {}
        }
        if *size < 1 << 20 {
            report.problem(format!("/boot/vmlinuz-{version} is too small to be a kernel"));
        }
    }
    let Some(change) = &view.change else { return Ok(report) };
    let (old_kernels, old_ramdisks) = boot_map(change.before)?;
    if kernels.is_empty() && !old_kernels.is_empty() {
        report.problem("/boot has no kernel any more");
    }
    if ramdisks.is_empty() && !old_ramdisks.is_empty() {
        report.problem("/boot has no initial RAM disk any more");
    }
    for (version, old) in &old_ramdisks {
        if ramdisks.get(version).is_some_and(|now| *now < old / 2) {
            report.problem(format!("/boot/initrd.img-{version} shrank to less than half of its size"));
        }
    }
    for version in old_kernels.keys().filter(|version| !kernels.contains_key(*version)) {
        report.note(format!("kernel {version} was removed"));
    }
    Ok(report)
}

pub(super) fn boot_time(view: &View<'_>) -> Outcome {
    let seconds = |facts: &Facts| {
        let line = facts.lines("boot-time").iter().find_map(|line| line.strip_prefix("FinishTimestampMonotonic="))?;
        line.trim().parse::<u64>().ok().map(|micros| micros / 1_000_000).filter(|seconds| *seconds > 0)
    };
    let Some(now) = seconds(view.now) else { return Err("systemd has not finished its start".into()) };
    let mut report = Report::default();
    if let Some(before) = view.change.as_ref().and_then(|change| seconds(change.before)) {
        // A busy host may take twice as long: this can't be more than a hint.
        if now > before.saturating_mul(3) && now > before + 30 {
            report.note(format!("the boot took {now} s, before {before} s"));
        }
    }
    Ok(report)
}

/// The moment of the boot by the guest's clock.
fn booted(facts: &Facts) -> Option<f64> {
    Some(facts.number("meta", "realtime")? - facts.number("meta", "uptime")?)
}

/// Seconds between the guest's clock and its hardware clock, which is the host's.
fn offset(facts: &Facts) -> Option<f64> {
    Some(facts.number("meta", "realtime")? - facts.number("meta", "rtc")?)
}

pub(super) fn clock(view: &View<'_>) -> Outcome {
    let Some(now) = offset(view.now) else { return Err("there is no hardware clock to compare with".into()) };
    let mut report = Report::default();
    let Some(change) = &view.change else { return Ok(report) };
    if let Some(before) = offset(change.before)
        && (now - before).abs() > 30.0
    {
        report.problem("the clock was moved away from the hardware clock");
        report.detail = format!("offset to the hardware clock: {now:.0} s, before {before:.0} s\n");
    }
    // The hardware clock can be set too. What time it was at the boot cannot change.
    if let (false, Some(before), Some(now)) = (change.rebooted(view.now), booted(change.before), booted(view.now))
        && (now - before).abs() > 30.0
        && report.problems.is_empty()
    {
        report.problem("the clock was set, and the hardware clock with it");
        report.detail = format!("moved by {:.0} s within one boot\n", now - before);
    }
    let zone = |facts: &Facts| facts.value("meta", "timezone").unwrap_or_default().to_owned();
    let (before, zone) = (zone(change.before), zone(view.now));
    if before != zone {
        let text = format!("the time zone is {zone:?}, before {before:?}");
        if change.declares(&["/etc/localtime", "/etc/timezone"]) {
            report.note(text)
        } else {
            report.problem(text)
        }
        report.detail.push_str(&unified("/etc/localtime", &format!("{before}\n"), &format!("{zone}\n")));
    }
    Ok(report)
}
