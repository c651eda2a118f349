//! File systems: room, inodes, what is mounted and how.

use std::collections::BTreeMap;

use super::text::missing_in;
use super::{Change, Outcome, Report, View};
use crate::verdict::health::facts::{Facts, Unmeasured};

/// Percent from which on a file system counts as full.
const FULL: f64 = 95.0;
/// Bytes whose loss needs no explanation.
const FREE_LOSS: f64 = 524_288_000.0;
/// Options whose loss weakens a mount.
const GUARDS: [&str; 3] = ["nosuid", "nodev", "noexec"];

struct Room {
    used: f64,
    free: f64,
}

/// A `df -P` section, by mount point. Blocks are units of the section.
fn rooms<'a>(facts: &'a Facts, section: &str) -> BTreeMap<&'a str, Room> {
    let lines = facts.lines(section).iter().skip(1);
    lines
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [device, _total, used, free, _percent, mount, ..] = words[..] else { return None };
            device.starts_with('/').then_some(())?;
            Some((mount, Room { used: used.parse().ok()?, free: free.parse().ok()? }))
        })
        .collect()
}

pub(super) fn space(view: &View<'_>) -> Outcome {
    let mut report = Report::default();
    let now = rooms(view.now, "disk");
    if now.is_empty() {
        return Err("df lists no file system".into());
    }
    for (section, what) in [("disk", "space"), ("inodes", "inodes")] {
        for (mount, room) in rooms(view.now, section) {
            let percent = 100.0 * room.used / (room.used + room.free).max(1.0);
            if percent > FULL {
                report.problem(format!("{mount} has hardly any {what} left"));
                report.detail.push_str(&format!("{mount}: {percent:.1} % of its {what} are used\n"));
            }
        }
    }
    let Some(change) = &view.change else { return Ok(report) };
    let explained = explained(change);
    let allowed = explained * 2.0 + FREE_LOSS;
    for (mount, before) in rooms(change.before, "disk") {
        let Some(room) = now.get(mount) else { continue };
        let lost = (before.free - room.free) * 1024.0;
        if lost > allowed {
            report.problem(format!("{mount} lost more space than the patch explains"));
            report.detail.push_str(&format!(
                "{mount}: {:.0} MiB less are free, the patch's own files grew by {:.0} MiB\n",
                lost / 1_048_576.0,
                explained / 1_048_576.0
            ));
        } else if lost > allowed / 2.0 {
            report.note(format!("{mount} has {:.0} MiB less free", lost / 1_048_576.0));
        }
    }
    Ok(report)
}

/// Bytes by which the files that the patch may change have grown.
fn explained(change: &Change<'_>) -> f64 {
    let Ok((before, now)) = change.files.trees() else { return 0.0 };
    let expected = &change.files.expected;
    let growth = |(path, entry): (&&str, &super::tree::Entry<'_>)| entry.bytes() - before.get(*path).map_or(0.0, super::tree::Entry::bytes);
    now.iter().filter(|item| growth(*item) > 0.0 && expected.is_patched(item.0)).map(growth).sum()
}

struct Mount<'a> {
    kind: &'a str,
    options: Vec<&'a str>,
}

/// Mounts that someone set up: of devices and servers, and lasting `tmpfs`.
fn mount_table(facts: &Facts) -> Result<BTreeMap<&str, Mount<'_>>, Unmeasured> {
    let mut table = BTreeMap::new();
    let mut automatic = Vec::new();
    for line in facts.measured("mounts")? {
        let mut words = line.split_whitespace();
        let (Some(device), Some(point), Some(kind), Some(options)) = (words.next(), words.next(), words.next(), words.next()) else {
            continue;
        };
        if kind == "autofs" {
            automatic.push(point);
        }
        let passing =
            ["/run/patchlab", "/run/user", "/run/credentials", "/media", "/var/lib/patchlab"].iter().any(|start| point.starts_with(start));
        let lasting = device.starts_with('/') || matches!(kind, "tmpfs" | "nfs" | "nfs4" | "cifs" | "zfs" | "btrfs" | "overlay" | "ceph");
        if lasting && !passing && kind != "iso9660" {
            table.insert(point, Mount { kind, options: options.split(',').collect() });
        }
    }
    // What is mounted on access is there or not.
    table.retain(|point, _| !automatic.contains(point));
    Ok(table)
}

pub(super) fn mounts(view: &View<'_>) -> Outcome {
    let now = mount_table(view.now)?;
    let mut report = Report::default();
    let Some(change) = &view.change else { return Ok(report) };
    for (point, before) in mount_table(change.before)? {
        let Some(mount) = now.get(point) else {
            report.problem(format!("{point} is not mounted any more"));
            continue;
        };
        if mount.kind != before.kind {
            report.problem(format!("{point} is now {}, before {}", mount.kind, before.kind));
        }
        if mount.options.contains(&"ro") && before.options.contains(&"rw") {
            report.problem(format!("{point} is now read-only"));
        }
        for guard in GUARDS.iter().filter(|guard| before.options.contains(guard) && !mount.options.contains(guard)) {
            report.problem(format!("{point} lost the mount option {guard}"));
        }
    }
    let before = mount_table(change.before)?;
    for point in now.keys().filter(|point| !before.contains_key(*point)) {
        report.note(format!("{point} is newly mounted"));
    }
    let swaps = |facts: &Facts| {
        facts.lines("swaps").iter().skip(1).filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect::<Vec<_>>()
    };
    for swap in missing_in(&swaps(change.before), &swaps(view.now)) {
        report.problem(format!("swap on {swap} is off"));
    }
    Ok(report)
}

pub(super) fn fstab(view: &View<'_>) -> Outcome {
    let mut report = Report::default();
    let mut target = String::new();
    for line in view.now.measured("fstab")? {
        let text = line.trim();
        // findmnt groups its remarks under the mount point.
        if line.starts_with('/') {
            target = format!(" {text}");
        }
        if text.contains("[E]") || text.contains("parse error at") {
            report.problem(format!("/etc/fstab{target}: {}", text.replace("[E]", "").trim()));
        }
    }
    report.detail = super::text::joined(view.now.lines("fstab"));
    if report.problems.is_empty() {
        report.detail.clear();
    }
    Ok(report)
}
