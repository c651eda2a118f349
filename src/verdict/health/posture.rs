//! What guards the machine: firewall, AppArmor and SELinux, sshd's settings, the kernel's.

use super::text::{joined, missing_in, unified};
use super::{Change, Outcome, Report, View, packages};

/// Where firewalls keep their rules.
const RULES: [&str; 5] = ["/etc/nftables.conf", "/etc/nftables.d", "/etc/iptables", "/etc/ufw", "/etc/firewalld"];
/// Settings of sshd that nobody may bring, not even a patch that says that it configures sshd: they open the door or shut it for all.
const UNSAFE_SSH: [&str; 7] = [
    "permitrootlogin yes",
    "permitemptypasswords yes",
    "passwordauthentication yes",
    "hostbasedauthentication yes",
    "ignorerhosts no",
    "strictmodes no",
    "pubkeyauthentication no",
];
/// Options of the kernel that take a guard away, by how they start.
const UNSAFE_BOOT: [&str; 9] =
    ["mitigations=off", "apparmor=0", "selinux=0", "enforcing=0", "nokaslr", "init=", "systemd.unit=", "single", "audit=0"];
/// Settings of the kernel that guard the more the higher they are, and those that guard the more the lower.
const HIGHER: [&str; 9] = [
    "kernel/randomize_va_space",
    "kernel/kptr_restrict",
    "kernel/dmesg_restrict",
    "kernel/yama/ptrace_scope",
    "kernel/unprivileged_bpf_disabled",
    "kernel/modules_disabled",
    "fs/protected_hardlinks",
    "fs/protected_symlinks",
    "net/ipv4/tcp_syncookies",
];
const LOWER: [&str; 4] = ["kernel/sysrq", "fs/suid_dumpable", "net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"];

/// Whether the patch brings a package whose name starts so.
fn brings(change: &Change<'_>, start: &str) -> bool {
    !change.strict() && packages::declared(change.context).iter().any(|name| name.starts_with(start))
}

pub(super) fn firewall(view: &View<'_>) -> Outcome {
    let now = view.now.measured("firewall")?;
    let mut report = Report::default();
    let Some(change) = &view.change else { return Ok(report) };
    let before = change.before.measured("firewall")?;
    let (lost, new) = (missing_in(before, now), missing_in(now, before));
    if now.is_empty() && !before.is_empty() {
        report.problem("the firewall has no rules any more");
    } else if before.is_empty() && !now.is_empty() {
        report.problem("the firewall has got rules");
    } else if !lost.is_empty() || !new.is_empty() || before != now {
        report.problem("the firewall's rules changed");
    }
    if !now.is_empty() && change.declares(&RULES) {
        report.notes.append(&mut report.problems);
    }
    report.detail = unified("/firewall", &joined(before), &joined(now));
    Ok(report)
}

pub(super) fn access_control(view: &View<'_>) -> Outcome {
    let now = view.now.measured("apparmor");
    let selinux = view.now.measured("selinux");
    let now = match (now, &selinux) {
        (Err(reason), Err(other)) => return Err(format!("{reason}, {other}").as_str().into()),
        (Ok(lines), _) => lines,
        (Err(_), Ok(_)) => &[],
    };
    let mut report = Report::default();
    let Some(change) = &view.change else { return Ok(report) };
    let modes = |lines: &[String]| {
        lines
            .iter()
            .filter_map(|line| line.rsplit_once(" (").map(|(name, mode)| (name.to_owned(), mode.trim_end_matches(')').to_owned())))
            .collect::<Vec<_>>()
    };
    if let Ok(before) = change.before.measured("apparmor") {
        let enabled = |lines: &[String]| lines.iter().any(|line| line == "enabled Y");
        if enabled(before) && !enabled(now) {
            report.problem("AppArmor is switched off");
        }
        let (old, new) = (modes(before), modes(now));
        if !old.is_empty() && new.is_empty() {
            report.problem("AppArmor has no profiles loaded any more");
        } else {
            for (name, mode) in &old {
                match new.iter().find(|(other, _)| other == name) {
                    None => report.problem(format!("AppArmor's profile {name} is not loaded any more")),
                    Some((_, now)) if mode == "enforce" && now != "enforce" => {
                        report.problem(format!("AppArmor's profile {name} is in mode {now}, before {mode}"))
                    }
                    Some(_) => {}
                }
            }
        }
        if brings(change, "apparmor") {
            report.notes.append(&mut report.problems);
        }
        report.detail = unified("/apparmor", &joined(before), &joined(now));
    }
    if let (Ok(before), Ok(now)) = (change.before.measured("selinux"), selinux)
        && before != now
    {
        report.problem("SELinux changed its mode");
    }
    Ok(report)
}

pub(super) fn ssh(view: &View<'_>) -> Outcome {
    let sorted = |lines: &[String]| {
        let mut lines = lines.to_vec();
        lines.sort();
        lines
    };
    let now = sorted(view.now.measured("sshd")?);
    let mut report = Report::default();
    let Some(change) = &view.change else { return Ok(report) };
    let before = sorted(change.before.measured("sshd")?);
    for line in missing_in(&before, &now) {
        let key = line.split(' ').next().unwrap_or(&line).to_owned();
        let other = now.iter().find(|other| other.split(' ').next() == Some(&key) && !before.contains(other));
        let text = match other {
            Some(other) if line.len() + other.len() < 160 => format!("sshd: {other:?}, before {line:?}"),
            Some(_) => format!("sshd: {key} changed"),
            None => format!("sshd: {line:?} is gone"),
        };
        // A new version of sshd may know other settings.
        let meant = change.declares(&["/etc/ssh"]) && !other.is_some_and(|other| UNSAFE_SSH.contains(&other.as_str()));
        if meant || brings(change, "openssh-server") { report.note(text) } else { report.problem(text) }
    }
    report.detail = unified("/sshd", &joined(&before), &joined(&now));
    Ok(report)
}

pub(super) fn kernel_settings(view: &View<'_>) -> Outcome {
    let now = view.now.measured("kernel-settings")?;
    let mut report = Report::default();
    let Some(change) = &view.change else { return Ok(report) };
    for line in change.before.measured("kernel-settings")? {
        let Some((key, before)) = line.split_once(' ') else { continue };
        let value = now.iter().find_map(|line| line.split_once(' ').filter(|(other, _)| *other == key)).map(|(_, value)| value);
        let Some(value) = value.filter(|value| *value != before) else { continue };
        let text = format!("{} is {value}, before {before}", key.replace('/', "."));
        let meant = match key {
            "kernel/hostname" => change.declares(&["/etc/hostname"]),
            _ => change.declares(&["/etc/sysctl.conf", "/etc/sysctl.d"]) && !weakened(key, before, value),
        };
        if meant || brings(change, "linux-image-") { report.note(text) } else { report.problem(text) }
    }
    boot_options(view, change, &mut report);
    Ok(report)
}

/// What the kernel was started with.
fn boot_options(view: &View<'_>, change: &Change<'_>, report: &mut Report) {
    let (before, now) = (change.before.lines("boot-options"), view.now.lines("boot-options"));
    let meant = change.declares(&["/etc/default/grub", "/boot/grub/grub.cfg"]);
    for (options, fate) in [(missing_in(before, now), "without"), (missing_in(now, before), "with")] {
        for option in options {
            let unsafe_now = fate == "with" && UNSAFE_BOOT.iter().any(|start| option.starts_with(start));
            let text = format!("the kernel was started {fate} {option}");
            if meant && !unsafe_now { report.note(text) } else { report.problem(text) }
        }
    }
}

/// Whether a setting of the kernel guards less than before, or cannot be told to guard as much.
fn weakened(key: &str, before: &str, now: &str) -> bool {
    let (higher, lower) = (HIGHER.contains(&key), LOWER.contains(&key));
    match (before.trim().parse::<i64>(), now.trim().parse::<i64>()) {
        (Ok(before), Ok(now)) => (higher && now < before) || (lower && (now > before || now < 0)),
        _ => higher || lower,
    }
}
