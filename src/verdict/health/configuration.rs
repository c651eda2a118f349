//! Configuration: what changed in /etc as unified diffs, leftovers of merges, and what services say of their own files.

use std::collections::BTreeMap;

use super::files::{changes, checked_elsewhere};
use super::text::unified;
use super::tree::Difference;
use super::{Outcome, Report, View};
use crate::verdict::health::facts::Facts;

/// Files that dpkg, ucf and rpm leave when an installation broke off or configuration was replaced.
const BROKEN: [(&str, &str); 5] = [
    (".dpkg-new", "was left by an installation that broke off"),
    (".dpkg-tmp", "was left by an installation that broke off"),
    (".dpkg-old", "holds configuration that was replaced"),
    (".rpmsave", "holds configuration that was replaced"),
    (".ucf-old", "holds configuration that was replaced"),
];

/// Files that they leave beside configuration that was kept.
const UNMERGED: [&str; 4] = [".dpkg-dist", ".ucf-dist", ".ucf-new", ".rpmnew"];

/// The text of files under /etc, those that were small enough.
pub(super) fn contents(facts: &Facts) -> BTreeMap<&str, String> {
    let mut contents: BTreeMap<&str, String> = BTreeMap::new();
    for line in facts.lines("contents") {
        let Some((path, text)) = line.split_once('\t') else { continue };
        let body = contents.entry(path).or_default();
        body.push_str(text);
        body.push('\n');
    }
    contents
}

pub(super) fn etc(view: &View<'_>) -> Outcome {
    view.now.measured("files")?;
    let mut report = Report::default();
    let Some(change) = &view.change else { return Ok(report) };
    let (before, now) = change.files.trees()?;
    let expected = &change.files.expected;
    let (old_text, new_text) = (contents(change.before), contents(view.now));
    for (path, difference) in changes(change, before, now) {
        // A login key or a mode has its own check; a file's being gone is told here.
        if !path.starts_with("/etc/") || (checked_elsewhere(path) && difference != Difference::Gone) {
            continue;
        }
        // What update-rc.d writes follows from a unit's being switched on or off.
        if let Some((level, link)) = path.strip_prefix("/etc/rc").and_then(|rest| rest.split_once(".d/"))
            && level.len() == 1
            && let Some(service) = link.get(3..)
        {
            report.problem(format!("the start links of {service} in /etc/rc?.d changed"));
            continue;
        }
        let masked = now.get(path).is_some_and(|entry| entry.is_link_to("/dev/null"));
        let how = if masked && path.starts_with("/etc/systemd/") { "masks its unit" } else { difference.as_str() };
        report.problem(format!("{path} {how}{}", expected.owner(path)));
        // The text of a file that only root may read stays in the guest: if that changed, one side has none.
        if before.get(path).zip(now.get(path)).is_some_and(|(old, new)| (old.mode ^ new.mode) & 0o004 != 0) {
            continue;
        }
        report.detail.push_str(&unified(
            path,
            old_text.get(path).map_or("", String::as_str),
            new_text.get(path).map_or("", String::as_str),
        ));
    }
    Ok(report)
}

pub(super) fn leftovers(view: &View<'_>) -> Outcome {
    view.now.measured("files")?;
    let mut report = Report::default();
    let Some(change) = &view.change else { return Ok(report) };
    let (before, now) = change.files.trees()?;
    for path in now.keys().filter(|path| !before.contains_key(*path)) {
        if let Some((_, why)) = BROKEN.iter().find(|(suffix, _)| path.ends_with(suffix)) {
            report.problem(format!("{path} {why}"));
        } else if UNMERGED.iter().any(|suffix| path.ends_with(suffix)) {
            report.note(format!("{path}: the package's new configuration waits to be merged"));
        }
    }
    Ok(report)
}

pub(super) fn syntax(view: &View<'_>) -> Outcome {
    let mut report = Report::default();
    for line in view.now.measured("syntax")? {
        let Some(bad) = line.strip_prefix("bad ") else { continue };
        let (command, answer) = bad.split_once(':').unwrap_or((bad, ""));
        report.problem(format!("{command} refuses the configuration"));
        report.detail.push_str(&format!("{command}: {}\n", answer.trim()));
    }
    Ok(report)
}
