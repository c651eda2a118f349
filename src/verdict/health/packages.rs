//! Packages: their state, what changed, and whether the patch is in effect.

use std::collections::{BTreeMap, BTreeSet};

use super::expected::declares_packages;
use super::text::{joined, unified};
use super::{HealthContext, Outcome, Report, View};
use crate::cell::Point;
use crate::plan;
use crate::verdict::health::facts::{Facts, Unmeasured};

pub(super) struct Package<'a> {
    pub(super) version: &'a str,
    want: &'a str,
    state: &'a str,
    flag: &'a str,
}

impl Package<'_> {
    fn present(&self) -> bool {
        !matches!(self.state, "not-installed" | "config-files")
    }
}

/// Packages by name, without the architecture where it is the machine's own.
pub(super) fn packages(facts: &Facts) -> Result<BTreeMap<&str, Package<'_>>, Unmeasured> {
    let own = facts.value("meta", "architecture").unwrap_or_default();
    let lines = facts.measured("packages")?;
    Ok(lines
        .iter()
        .filter_map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let [name, version, want, state, flag] = words[..] else { return None };
            let name = name.strip_suffix(own).and_then(|name| name.strip_suffix(':')).unwrap_or(name);
            Some((name, Package { version, want, state, flag }))
        })
        .collect())
}

/// The names of the patch's packages.
pub(super) fn declared(context: &HealthContext) -> BTreeSet<&str> {
    let removed = context.patches.iter().flat_map(|patch| &patch.manifest.removes).map(String::as_str);
    brought(context).map(|package| package.name.as_str()).chain(removed).collect()
}

/// The packages in the patches' payloads.
fn brought(context: &HealthContext) -> impl Iterator<Item = &plan::Package> {
    context.patches.iter().flat_map(|patch| &patch.facts.packages)
}

pub(super) fn state(view: &View<'_>) -> Outcome {
    let mut report = Report::default();
    for (name, package) in packages(view.now)? {
        if !matches!(package.state, "installed" | "config-files" | "not-installed" | "triggers-pending" | "triggers-awaited") {
            report.problem(format!("package {name} is {}", package.state));
        }
        if package.flag == "reinstreq" {
            report.problem(format!("package {name} has to be installed again"));
        }
    }
    let audit = view.now.whole("package-audit")?;
    if !audit.is_empty() && !audit.iter().any(|line| line.starts_with("unavailable: no ")) {
        if report.problems.is_empty() {
            report.problem("dpkg --audit finds broken packages");
        }
        report.detail = joined(audit);
    }
    let check = view.now.whole("apt-check")?;
    if !check.iter().any(|line| line == "ok" || line.starts_with("unavailable: ")) {
        report.problem("apt-get check finds unmet dependencies");
        report.detail.push_str(&joined(check));
    }
    Ok(report)
}

pub(super) fn holds(view: &View<'_>) -> Outcome {
    let now = packages(view.now)?;
    let mut report = Report::default();
    let Some(change) = &view.change else { return Ok(report) };
    let before = packages(change.before)?;
    for (name, package) in &now {
        let was = before.get(name).is_some_and(|old| old.want == "hold");
        match (was, package.want == "hold") {
            (false, true) => report.problem(format!("package {name} is newly held back")),
            (true, false) => report.problem(format!("package {name} is not held back any more")),
            (true, true) | (false, false) => {}
        }
    }
    Ok(report)
}

pub(super) fn undeclared(view: &View<'_>) -> Outcome {
    let now = packages(view.now)?;
    let mut report = Report::default();
    let Some(change) = &view.change else { return Ok(report) };
    let before = packages(change.before)?;
    let expected = declared(change.context);
    let free = declares_packages(change.context) && !change.strict();
    let names: BTreeSet<&&str> = before.keys().chain(now.keys()).collect();
    for name in names {
        let (old, new) = (before.get(*name).filter(|package| package.present()), now.get(*name).filter(|package| package.present()));
        let text = match (old, new) {
            (Some(old), Some(new)) if old.version != new.version => {
                format!("package {name} changed from {} to {}", old.version, new.version)
            }
            (Some(old), None) => format!("package {name} {} was removed", old.version),
            (None, Some(new)) => format!("package {name} {} was installed", new.version),
            (Some(_), Some(_)) | (None, None) => continue,
        };
        if free || (expected.contains(name.split(':').next().unwrap_or(name)) && !change.strict()) {
            report.note(text);
        } else {
            report.problem(text);
        }
    }
    let listed = |packages: &BTreeMap<&str, Package<'_>>| {
        packages
            .iter()
            .filter(|(_, package)| package.present())
            .map(|(name, package)| format!("{name} {}\n", package.version))
            .collect::<String>()
    };
    report.detail = unified("/packages", &listed(&before), &listed(&now));
    Ok(report)
}

pub(super) fn effective(view: &View<'_>) -> Outcome {
    let now = packages(view.now)?;
    let mut report = Report::default();
    let Some(change) = &view.change else { return Ok(report) };
    if change.context.point == Point::RolledBack {
        return Ok(report);
    }
    let before = packages(change.before)?;
    for package in brought(change.context) {
        let was = before.get(package.name.as_str()).filter(|old| old.present());
        match now.get(package.name.as_str()).filter(|new| new.present()) {
            Some(new) if new.version == package.version => {}
            // What was newer already stays newer, and what is not on this build need not come.
            Some(new) if was.is_none_or(|old| old.version == new.version) && was.is_some() => {
                report.problem(format!("package {} is still at {}, the patch brings {}", package.name, new.version, package.version));
            }
            Some(new) => report.note(format!("package {} is at {}, the patch brings {}", package.name, new.version, package.version)),
            None if was.is_some() => report.problem(format!("package {} of the patch is not installed any more", package.name)),
            None => {}
        }
    }
    let running = view.now.value("meta", "kernel").unwrap_or_default();
    if change.rebooted(view.now) {
        for version in brought(change.context).filter_map(|package| package.name.strip_prefix("linux-image-")) {
            let here = view.now.lines("boot-files").iter().any(|line| line.starts_with(&format!("vmlinuz-{version} ")));
            if here && version != running {
                report.problem(format!("kernel {version} of the patch is installed, and {running} runs"));
            }
        }
    }
    Ok(report)
}

/// Programs that run code of files that are gone: `program path`.
fn stale(facts: &Facts) -> Result<BTreeSet<String>, Unmeasured> {
    let names: BTreeMap<&str, &str> = facts.lines("processes").iter().filter_map(|line| line.split_once(' ')).collect();
    let lines = facts.measured("deleted-maps")?;
    Ok(lines
        .iter()
        .filter_map(|line| line.split_once(' '))
        .map(|(pid, path)| format!("{} still runs the replaced {path}", names.get(pid).copied().unwrap_or("a program")))
        .collect())
}

pub(super) fn old_code(view: &View<'_>) -> Outcome {
    let now = stale(view.now)?;
    let mut report = Report::default();
    let Some(change) = &view.change else { return Ok(report) };
    let before = stale(change.before)?;
    for text in now.difference(&before) {
        if change.context.reboot_pending || change.strict() {
            report.note(text.clone());
        } else {
            report.problem(text.clone());
        }
    }
    Ok(report)
}

pub(super) fn reboot_pending(view: &View<'_>) -> Outcome {
    let pending = view.now.measured("reboot-required")?;
    let mut report = Report::default();
    let Some(change) = &view.change else { return Ok(report) };
    if pending.iter().any(|line| line == "yes") {
        let text = "the guest says that it needs a reboot (/run/reboot-required)";
        if change.context.reboot_pending || change.strict() {
            report.note(text);
        } else {
            report.problem(text);
        }
    }
    Ok(report)
}
