//! What a patch may do because it says so, and what says nothing about it.

use super::*;

/// A tool that was cut off says nothing of the patch: unless it happens on every clone, and was in time before.
#[test]
fn a_tool_that_was_cut_off_is_no_failure() {
    let outcome = |results: &[HealthResult], check: &str| {
        results.iter().find(|result| result.check.as_str() == check).map(|result| (result.outcome, result.message.clone()))
    };
    let cut = "cut-off: it did not end within 240 seconds";
    for (edit, check) in [
        ("ok\n== units => CUT\n== units", "package-state"),
        ("== package-audit\n => == package-audit\nCUT\n", "package-state"),
        ("apt-daily.service loaded active running\n => CUT\n", "running-services"),
        ("table inet filter {\n}\n => CUT\n", "firewall"),
        ("permitrootlogin no\n => CUT\n", "ssh-settings"),
        ("ok sshd -t\n => CUT\n", "config-syntax"),
        ("[   24.1] cron[77]: cannot open job 12\n => CUT\n", "journal-errors"),
    ] {
        let (from, to) = edit.split_once(" => ").expect("from => to");
        assert!(BASE.contains(from), "{from:?}");
        let sick = BASE.replace(from, &to.replace("CUT", cut));
        let message = "not measured: it did not end within 240 seconds".to_owned();
        let after = setting("script", Point::Applied).between(BASE, &sick);
        assert_eq!(failures(&after), vec![], "{edit}");
        assert_eq!(outcome(&after, check), Some((CaseOutcome::TimedOut, message.clone())), "{edit}");
        assert_eq!(outcome(&baseline(&facts(&sick), &requiring(&[])), check), Some((CaseOutcome::HarnessError, message)), "{edit}");
    }
}

/// What a patch says that it does is no harm; what nobody may do stays one.
#[test]
fn what_a_patch_declares_it_may_do_as_long_as_it_is_safe() {
    type Texts = &'static [&'static str];
    type Failures = &'static [(&'static str, &'static str)];
    let tables: [(Texts, Texts, Failures); 14] = [
        (&["/etc/sysctl.d/50-x.conf"], &["kernel/randomize_va_space 2 => kernel/randomize_va_space 3"], &[]),
        (
            &["/etc/sysctl.d"],
            &["kernel/randomize_va_space 2 => kernel/randomize_va_space 0"],
            &[("kernel-settings", "kernel.randomize_va_space is 0, before 2")],
        ),
        (
            &["/etc/motd"],
            &["kernel/randomize_va_space 2 => kernel/randomize_va_space 3"],
            &[("kernel-settings", "kernel.randomize_va_space is 3, before 2")],
        ),
        (&["/etc/default/grub"], &["+boot-options quiet"], &[]),
        (&["/etc/default/grub"], &["+boot-options mitigations=off"], &[("kernel-settings", "the kernel was started with mitigations=off")]),
        (&["/etc/hostname"], &["kernel/hostname web => kernel/hostname shop"], &[]),
        (&["/etc/ssh/sshd_config.d/x.conf"], &["permitrootlogin no => permitrootlogin no\nmaxauthtries 3"], &[]),
        (
            &["/etc/ssh"],
            &["permitrootlogin no => permitrootlogin yes"],
            &[("ssh-settings", "sshd: \"permitrootlogin yes\", before \"permitrootlogin no\"")],
        ),
        (
            &["/etc/passwd", "/etc/group"],
            &["+contents /etc/passwd\tacme:x:990:990::/:/usr/sbin/nologin", "+contents /etc/group\tacme:x:990:"],
            &[],
        ),
        (&["/etc/nftables.conf"], &["table inet filter { => table inet filter {\nchain input"], &[]),
        (&["/etc/resolv.conf"], &["nameserver 10.0.0.53 => nameserver 10.0.0.53\noptions rotate"], &[]),
        (
            &["/etc/resolv.conf"],
            &["nameserver 10.0.0.53 => nameserver 6.6.6.6"],
            &[("dns", "/etc/resolv.conf gained \"nameserver 6.6.6.6\"; /etc/resolv.conf lost \"nameserver 10.0.0.53\"")],
        ),
        (&["/etc/systemd/resolved.conf"], &["resolved search shop => resolved search shop\nresolved nameserver 10.0.0.55"], &[]),
        // The stub is still there, and nobody behind it.
        (&["/etc/resolv.conf"], &["-resolved nameserver 10.0.0.54"], &[("dns", "systemd-resolved lost \"nameserver 10.0.0.54\"")]),
    ];
    for (changes, edits, expected) in tables {
        let mut script = setting("script", Point::Applied);
        script.patch.manifest.changes = changes.iter().map(|path| (*path).to_owned()).collect();
        let expected: Vec<(String, String)> = expected.iter().map(|(check, text)| ((*check).to_owned(), (*text).to_owned())).collect();
        assert_eq!(failures(&script.results(edits)), expected, "{changes:?} {edits:?}");
    }
}

#[test]
fn a_script_that_declares_nothing_may_bring_files_of_its_own() {
    let own = [
        "+files d 755 0:0 9 9.0 /opt/acme\t",
        "+files f 644 0:0 9 9.0 /opt/acme/x\t",
        "+files d 755 0:0 9 9.0 /etc/acme\t",
        "+files f 644 0:0 9 9.0 /etc/acme/x\t",
    ];
    assert_eq!(failures(&setting("script", Point::Applied).results(&own)), vec![]);
    assert_eq!(failures(&setting("script", Point::RolledBack).results(&own)).len(), 2, "taken back it has to be gone");
    assert_eq!(failures(&setting("files", Point::Applied).results(&own)).len(), 2, "a files patch names its files");
    for foreign in [
        "+files f 644 0:0 9 9.0 /etc/ld.so.preload\t",
        "+files f 644 0:0 9 9.0 /usr/bin/ls\t",
        "f 644 0:0 3 1.0 /etc/motd => f 644 0:0 4 9.0 /etc/motd\ncccc  /etc/motd",
    ] {
        assert_eq!(failures(&setting("script", Point::Applied).results(&[foreign])).len(), 1, "{foreign}");
    }
    let mut declaring = setting("script", Point::Applied);
    declaring.patch.manifest.changes = vec!["/opt/tool".to_owned()];
    assert_eq!(failures(&declaring.results(&own)).len(), 2, "who declares is held to it");
}
