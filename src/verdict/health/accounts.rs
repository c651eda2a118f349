//! Who may log in and who may become whom.

use std::collections::{BTreeMap, BTreeSet};

use super::configuration::contents;
use super::text::unified;
use super::{Change, Outcome, Report, View};

/// The first user id of people.
const PEOPLE: u32 = 1000;

pub(super) fn accounts(view: &View<'_>) -> Outcome {
    let now = contents(view.now);
    if !now.contains_key("/etc/passwd") {
        return Err("/etc/passwd could not be read".into());
    }
    let mut report = Report::default();
    let Some(change) = &view.change else { return Ok(report) };
    let before = contents(change.before);
    let text = |side: &BTreeMap<&str, String>, path: &str| side.get(path).cloned().unwrap_or_default();

    users(&text(&before, "/etc/passwd"), &text(&now, "/etc/passwd"), change, &mut report);
    groups(&text(&before, "/etc/group"), &text(&now, "/etc/group"), change, &mut report);
    passwords(view, change, &mut report);
    for path in ["/etc/passwd", "/etc/group"] {
        report.detail.push_str(&unified(path, &text(&before, path), &text(&now, path)));
    }
    let expected = &change.files.expected;
    let guarded = |path: &&str| path.starts_with("/etc/sudoers") || path.contains("/.ssh/authorized_keys");
    let paths: BTreeSet<&str> = before.keys().chain(now.keys()).copied().filter(guarded).collect();
    for path in paths {
        if before.get(path) == now.get(path) || (expected.is_patched(path) && !change.strict()) {
            continue;
        }
        let what = if path.starts_with("/etc/sudoers") { "who may become root" } else { "who may log in" };
        let how = match (before.contains_key(path), now.contains_key(path)) {
            (false, _) => "is new",
            (true, false) => "is gone",
            (true, true) => "changed",
        };
        report.problem(format!("{path} {how}: it says {what}"));
        report.detail.push_str(&unified(path, &text(&before, path), &text(&now, path)));
    }
    // Files that were too big to be read, or empty ones.
    if let Ok((before_tree, now_tree)) = change.files.trees() {
        for (path, entry) in
            now_tree.iter().filter(|(path, _)| guarded(path) && !now.contains_key(**path) && !before_tree.contains_key(**path))
        {
            if entry.kind == "f" && !expected.is_patched(path) {
                report.problem(format!("{path} is new"));
            }
        }
    }
    Ok(report)
}

/// Lines of colon-separated fields by their first field.
fn records(text: &str) -> BTreeMap<&str, Vec<&str>> {
    text.lines().filter_map(|line| line.split_once(':').map(|(name, rest)| (name, rest.split(':').collect()))).collect()
}

/// Whether the patch may bring a system account: by its packages, or because it says so.
fn may_add(change: &Change<'_>) -> bool {
    (change.context.bring_packages() && !change.strict()) || change.declares(&["/etc/passwd"])
}

fn users(before: &str, now: &str, change: &Change<'_>, report: &mut Report) {
    let (old, new) = (records(before), records(now));
    for (name, fields) in &new {
        let id = fields.get(1).and_then(|id| id.parse::<u32>().ok());
        let shell = fields.get(5).copied().unwrap_or_default();
        match old.get(name) {
            None => {
                let system = id.is_some_and(|id| id > 0 && id < PEOPLE) && (shell.ends_with("nologin") || shell.ends_with("false"));
                let text = format!("account {name} is new (shell {shell}{})", if id == Some(0) { ", user id 0" } else { "" });
                if system && may_add(change) { report.note(text) } else { report.problem(text) }
            }
            Some(before) if before != fields => report.problem(format!("account {name} changed (user id, group, home or shell)")),
            Some(_) => {}
        }
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        report.problem(format!("account {name} is gone"));
    }
}

fn groups(before: &str, now: &str, change: &Change<'_>, report: &mut Report) {
    let (old, new) = (records(before), records(now));
    let members = |fields: &Vec<&str>| {
        fields
            .get(2)
            .map(|list| list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect::<BTreeSet<_>>())
            .unwrap_or_default()
    };
    for (name, fields) in &new {
        let Some(before) = old.get(name) else {
            let text = format!("group {name} is new");
            if may_add(change) && members(fields).is_empty() {
                report.note(text)
            } else {
                report.problem(text)
            }
            continue;
        };
        if before.get(1) != fields.get(1) {
            report.problem(format!("group {name} has another id"));
        }
        for member in members(fields).difference(&members(before)) {
            report.problem(format!("{member} is now in group {name}"));
        }
        for member in members(before).difference(&members(fields)) {
            report.problem(format!("{member} is no longer in group {name}"));
        }
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        report.problem(format!("group {name} is gone"));
    }
}

/// Passwords, by their state and a digest.
fn passwords(view: &View<'_>, change: &Change<'_>, report: &mut Report) {
    fn states(facts: &super::Facts) -> BTreeMap<&str, &str> {
        facts.lines("shadow").iter().filter_map(|line| line.split_once(' ')).collect()
    }
    let (old, new) = (states(change.before), states(view.now));
    for (name, before) in &old {
        let Some(now) = new.get(name).filter(|now| *now != before) else { continue };
        report.problem(match (before.split(' ').next(), now.split(' ').next()) {
            (_, Some("empty")) => format!("account {name} has an empty password"),
            (Some("set"), Some("locked")) => format!("the password of {name} is locked"),
            (Some("locked"), Some("set")) => format!("{name} has got a password"),
            _ => format!("the password of {name} changed"),
        });
    }
    for (name, state) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
        if !state.starts_with("locked") {
            report.problem(format!("the new account {name} can log in (password {})", state.split(' ').next().unwrap_or_default()));
        }
    }
}
