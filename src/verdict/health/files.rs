//! Files outside the patch: gone, new, changed; and their modes, owners and capabilities.

use std::collections::BTreeMap;

use super::expected::{CHECKED_ELSEWHERE, Expected};
use super::text::{missing_in, some_of};
use super::tree::{Difference, Tree};
use super::{Change, Files, Outcome, Report, View};
use crate::catalog::patch::PatchKind;

/// Where what is not the distribution's goes.
const OWN: [&str; 5] = ["/opt", "/srv", "/usr/local", "/var/lib", "/var/opt"];

/// Files of one folder from which on they are told as one.
const MANY: usize = 5;

/// What changed in content, in the order of paths, the patch's own and volatile paths left out. At strict points the patch's own are in.
pub(super) fn changes<'a>(change: &Change<'_>, before: &Tree<'a>, now: &Tree<'a>) -> Vec<(&'a str, Difference)> {
    let Files { expected, unlisted: skip, .. } = change.files;
    let mut found = Vec::new();
    let unseen = |path: &str| skip.iter().any(|root| path.strip_prefix(root.as_str()).is_some_and(|rest| rest.starts_with('/')));
    let own = |path: &str| if change.strict() { expected.is_remade(path) } else { expected.is_patched(path) };
    let exempt = |path: &str| unseen(path) || expected.is_volatile(path) || own(path);
    for (path, old) in before {
        let difference = match now.get(path) {
            None => Some(Difference::Gone),
            // What the patch may change may also be put back or written again: only its contents count.
            Some(new) => new.difference(old, true).filter(|_| !expected.is_patched(path) || new.difference(old, false).is_some()),
        };
        let Some(difference) = difference else { continue };
        // A folder of logs or state has to stay, whatever is in it.
        let vital = old.kind == "d" && difference == Difference::Gone && is_vital_folder(path) && !expected.is_patched(path);
        if vital || !exempt(path) {
            found.push((*path, difference));
        }
    }
    for path in
        now.keys().filter(|path| !before.contains_key(*path) && !exempt(path) && (change.strict() || !expected.leads_to_patch(path)))
    {
        if !is_its_own(change, path, before, now) {
            found.push((*path, Difference::New));
        }
    }
    found.sort_by(|a, b| a.0.cmp(b.0));
    found
}

/// Whether a new file is one that a script which declares nothing may bring: it lies where no package of the distribution puts any, or
/// in a new folder of /etc, and it runs with nobody else's rights.
fn is_its_own(change: &Change<'_>, path: &str, before: &Tree<'_>, now: &Tree<'_>) -> bool {
    let mut manifests = change.context.patches.iter().map(|patch| &patch.manifest);
    let undeclared = !change.strict() && manifests.any(|one| one.kind == PatchKind::Script && one.changes.is_empty());
    let apart = OWN.iter().any(|folder| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')));
    let new_folder = path.strip_prefix("/etc/").and_then(|rest| rest.split('/').next()).is_some_and(|name| {
        let folder = format!("/etc/{name}");
        let is_new = !before.contains_key(folder.as_str()) && now.get(folder.as_str()).is_some_and(|entry| entry.kind == "d");
        // Folders of parts are read by somebody else.
        is_new && !name.ends_with(".d") && !name.starts_with("cron")
    });
    undeclared && (apart || new_folder) && now.get(path).is_some_and(|entry| !entry.privileged())
}

/// Folders whose contents are volatile and which services need.
fn is_vital_folder(path: &str) -> bool {
    let deep = path.matches('/').count();
    let roots = ["/var/log", "/var/spool", "/var/lib", "/var/cache"];
    let passing = ["/var/log/journal/", "/var/lib/systemd/", "/var/lib/private/", "/var/lib/apt/", "/var/lib/dpkg/", "/var/cache/apt"];
    deep <= 3 && roots.iter().any(|root| path.starts_with(root)) && !passing.iter().any(|start| path.starts_with(start))
}

pub(super) fn outside(view: &View<'_>) -> Outcome {
    view.now.measured("files")?;
    let mut report = Report::default();
    let Some(change) = &view.change else { return Ok(report) };
    let (before, now) = change.files.trees()?;
    let Files { expected, unlisted: skip, .. } = change.files;
    let found = changes(change, before, now);
    let found: Vec<_> = found.into_iter().filter(|(path, _)| !path.starts_with("/etc/")).collect();
    for (path, difference) in &found {
        report.detail.push_str(&format!("{path} {}{}\n", difference.as_str(), expected.owner(path)));
    }
    // A folder that went or came speaks for all in it.
    let mut top: Vec<(&str, Difference, String)> = Vec::new();
    for (path, difference) in found {
        let covered = top
            .last()
            .is_some_and(|(folder, other, _)| *other == difference && path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')));
        if !covered {
            top.push((path, difference, expected.owner(path)));
        }
    }
    for (folder, difference, count) in crowded(&top) {
        top.retain(|(path, other, _)| !(*other == difference && parent(path) == folder));
        report.problem(format!(
            "{folder}: {count} files {}",
            match difference {
                Difference::Gone => "are gone",
                Difference::New => "are new",
                Difference::Content => "changed",
            }
        ));
    }
    for (path, difference, owner) in top {
        report.problem(format!("{path} {}{owner}", difference.as_str()));
    }
    if !skip.is_empty() {
        report.note(format!("not mounted both times, so not compared: {}", some_of(skip, 5)));
    }
    Ok(report)
}

/// Folders in which many files share a fate.
fn crowded(top: &[(&str, Difference, String)]) -> Vec<(String, Difference, usize)> {
    let mut groups: BTreeMap<(&str, Difference), usize> = BTreeMap::new();
    for (path, difference, _) in top {
        *groups.entry((parent(path), *difference)).or_insert(0) += 1;
    }
    groups
        .into_iter()
        .filter(|(_, count)| *count > MANY)
        .map(|((folder, difference), count)| (folder.to_owned(), difference, count))
        .collect()
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

pub(super) fn permissions(view: &View<'_>) -> Outcome {
    view.now.measured("files")?;
    let mut report = Report::default();
    let Some(change) = &view.change else { return Ok(report) };
    let (before, now) = change.files.trees()?;
    let Files { expected, unlisted: skip, .. } = change.files;
    let unseen = |path: &str| skip.iter().any(|root| path.starts_with(root.as_str()));
    for (path, new) in now {
        let old = before.get(path);
        if old.is_some_and(|old| old.same_guard(new)) {
            continue;
        }
        let patched = expected.is_patched(path) && !change.strict();
        match old {
            Some(old) if old.kind == new.kind && new.kind != "l" => {
                // Files in volatile folders come anew, folders there do not.
                if patched || unseen(path) || (expected.is_volatile(path) && new.kind != "d") {
                    continue;
                }
                if old.mode != new.mode {
                    report.problem(format!("{path} has mode {:04o}, before {:04o}{}", new.mode, old.mode, expected.owner(path)));
                }
                if old.owner != new.owner {
                    report.problem(format!("{path} belongs to {}, before {}{}", new.owner, old.owner, expected.owner(path)));
                }
            }
            _ => {
                // In a volatile folder, too, nothing new may run with another's rights.
                if new.kind == "f" && new.privileged() {
                    let text = format!("{path} is new and runs with its owner's rights (mode {:04o}, owner {})", new.mode, new.owner);
                    if patched { report.note(text) } else { report.problem(text) }
                } else if new.open_to_all() && !patched && !unseen(path) && !expected.is_volatile(path) {
                    report.problem(format!("{path} is new and anyone may write to it"));
                }
            }
        }
    }
    capabilities(view, change, expected, &mut report);
    report.detail = report.problems.join("\n");
    Ok(report)
}

fn capabilities(view: &View<'_>, change: &Change<'_>, expected: &Expected<'_>, report: &mut Report) {
    let (Ok(before), Ok(now)) = (change.before.measured("capabilities"), view.now.measured("capabilities")) else { return };
    let patched = |line: &str| !change.strict() && expected.is_patched(line.split(' ').next().unwrap_or(line));
    for (lines, fate) in [(missing_in(before, now), "lost its capabilities"), (missing_in(now, before), "has new capabilities")] {
        for line in lines.iter().filter(|line| line.starts_with('/') && !patched(line)) {
            report.problem(format!("{fate}: {line}"));
        }
    }
}

/// Whether another check looks at the file.
pub(super) fn checked_elsewhere(path: &str) -> bool {
    CHECKED_ELSEWHERE.contains(&path) || path == "/etc/sudoers" || path.starts_with("/etc/sudoers.d/")
}
