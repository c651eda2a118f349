//! systemd units: failed, required, lost, crashing.

use std::collections::BTreeMap;

use super::{Outcome, Report, View};
use crate::verdict::health::facts::{Facts, Unmeasured};

/// Units that come and go by themselves: started on demand, by a timer or for a session.
const COMING_AND_GOING: [&str; 30] = [
    "apt-daily",
    "apt-news",
    "apt-daily-upgrade",
    "dpkg-db-backup",
    "e2scrub",
    "esm-cache",
    "exim4-base",
    "fstrim",
    "fwupd",
    "getty@",
    "logrotate",
    "man-db",
    "mdcheck",
    "motd-news",
    "packagekit",
    "patchlab",
    "phpsessionclean",
    "run-",
    "session-",
    "ssh@",
    "systemd-ask-password",
    "systemd-fsck",
    "systemd-hostnamed",
    "systemd-initctl",
    "systemd-localed",
    "systemd-rfkill",
    "systemd-timedated",
    "systemd-tmpfiles-clean",
    "user@",
    "user-runtime-dir@",
];

/// Restarts by systemd itself from which on a service counts as crashing.
const CRASHES: u64 = 3;

struct Unit<'a> {
    active: &'a str,
    sub: &'a str,
}

fn units(facts: &Facts) -> Result<BTreeMap<&str, Unit<'_>>, Unmeasured> {
    let lines = facts.measured("units")?;
    if lines.is_empty() {
        return Err("systemd lists no unit".into());
    }
    Ok(lines
        .iter()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (name, _load, active, sub) = (words.next()?, words.next()?, words.next()?, words.next()?);
            Some((name, Unit { active, sub }))
        })
        .collect())
}

pub(super) fn failed(view: &View<'_>) -> Outcome {
    let mut report = Report::default();
    for (name, unit) in units(view.now)? {
        if unit.active == "failed" {
            report.problem(format!("{name} failed"));
        }
    }
    Ok(report)
}

pub(super) fn required(view: &View<'_>) -> Outcome {
    let units = units(view.now)?;
    let mut report = Report::default();
    for service in view.services {
        let name = if service.contains('.') { service.clone() } else { format!("{service}.service") };
        match units.get(name.as_str()) {
            Some(unit) if matches!(unit.active, "active" | "reloading") => {}
            Some(unit) => report.problem(format!("{name} is {}{}", unit.active, masked(view.now, &name))),
            None => report.problem(format!("{name} is not loaded{}", masked(view.now, &name))),
        }
    }
    Ok(report)
}

pub(super) fn running(view: &View<'_>) -> Outcome {
    let units_now = units(view.now)?;
    let mut report = Report::default();
    let Some(change) = &view.change else { return Ok(report) };
    let rebooted = change.rebooted(view.now);
    for (name, unit) in units(change.before)? {
        // What ended well ("exited") may stay away after a restart: conditions of a first boot, one-time work.
        let lasting = match unit.sub {
            "running" => name.ends_with(".service"),
            "listening" => name.ends_with(".socket"),
            "waiting" => name.ends_with(".timer") || name.ends_with(".path"),
            "exited" => name.ends_with(".service") && !rebooted,
            _ => false,
        };
        if unit.active != "active" || !lasting || COMING_AND_GOING.iter().any(|start| name.starts_with(start)) {
            continue;
        }
        let state = match units_now.get(name) {
            Some(now) if now.active == "activating" && now.sub.starts_with("auto-restart") => "waiting to be started again",
            Some(now) if matches!(now.active, "active" | "reloading" | "activating") => continue,
            Some(now) => now.active,
            None => "not loaded",
        };
        report.problem(format!("{name} was active before the patch and is now {state}{}", masked(view.now, name)));
    }
    for name in units_now.iter().filter(|(name, unit)| unit.sub == "running" && name.ends_with(".service")).map(|(name, _)| *name) {
        if !COMING_AND_GOING.iter().any(|start| name.starts_with(start)) && !units(change.before)?.contains_key(name) {
            report.note(format!("{name} runs now and was not there before"));
        }
    }
    Ok(report)
}

pub(super) fn restarts(view: &View<'_>) -> Outcome {
    let mut report = Report::default();
    for line in view.now.measured("restarts")? {
        let Some((name, count)) = line.split_once(' ') else { continue };
        let count: u64 = count.trim().parse().unwrap_or(0);
        if name.contains("getty@") || count == 0 {
            continue;
        }
        if count >= CRASHES {
            report.problem(format!("{name} keeps ending and being started again"));
        } else {
            report.note(format!("{name} ended and was started again by systemd ({count} times)"));
        }
        report.detail.push_str(&format!("{name}: {count} restarts\n"));
    }
    Ok(report)
}

/// " (masked)" for a unit whose file is a link to nothing.
fn masked(facts: &Facts, name: &str) -> &'static str {
    let link = format!(" /etc/systemd/system/{name}\t/dev/null");
    if facts.lines("files").iter().any(|line| line.ends_with(&link)) { " (masked)" } else { "" }
}
