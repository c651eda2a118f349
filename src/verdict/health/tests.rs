use std::collections::BTreeSet;

use super::*;
use crate::catalog::hardware::{Chipset, DiskBus, Firmware, NicModel, Smbios, Tpm};
use crate::plan::examples::planned;

mod declared;
mod harm;

/// A small machine before any patch.
const BASE: &str = include_str!("tests/base.facts");

fn facts(text: &str) -> Facts {
    Facts::parse(text.as_bytes()).expect("facts of the test are readable")
}

/// The machine with lines changed. `+section line` adds a line, `-line` removes one, anything else is `from => to`.
fn changed(edits: &[&str]) -> String {
    let mut text = BASE.to_owned();
    for edit in edits {
        if let Some(add) = edit.strip_prefix('+') {
            let (section, line) = add.split_once(' ').expect("+section line");
            let heading = format!("== {section}\n");
            assert!(text.contains(&heading), "no section {section}");
            text = text.replace(&heading, &format!("{heading}{line}\n"));
        } else if let Some(line) = edit.strip_prefix('-') {
            assert!(text.contains(&format!("{line}\n")), "no line {line:?}");
            text = text.replace(&format!("{line}\n"), "");
        } else {
            let (from, to) = edit.split_once(" => ").expect("from => to");
            assert!(text.contains(from), "nothing to replace: {from:?}");
            text = text.replace(from, to);
        }
    }
    text
}

const REBOOTED: &str = "boot-id 11111111-1111 => boot-id 22222222-2222";

fn requiring(services: &[&str]) -> HealthContext {
    let services = services.iter().map(|service| (*service).to_owned()).collect();
    HealthContext {
        point: Point::Baseline,
        reboot_pending: false,
        patches: vec![planned("script")],
        hardware: profile(),
        services,
        volatile: vec![],
    }
}

/// What the machine is.
fn profile() -> Hardware {
    let smbios =
        Smbios { manufacturer: "Dell Inc.".parse().ok(), uuid: "4C4C4544-0047-4810-8054-B7C04F345A33".parse().ok(), ..Smbios::default() };
    let plain = Hardware::plain(Chipset::Q35, Firmware::UefiSecureBoot, DiskBus::Virtio, NicModel::E1000e);
    Hardware { tpm: Tpm::V2_0, cpu: "EPYC".to_owned(), cores: 2, smbios: Some(smbios), ..plain }
}

struct Setting {
    patch: PlannedPatch,
    point: Point,
    reboot_pending: bool,
}

fn setting(kind: &str, point: Point) -> Setting {
    Setting { patch: planned(kind), point, reboot_pending: false }
}

impl Setting {
    fn results(&self, edits: &[&str]) -> Vec<HealthResult> {
        self.between(BASE, &changed(edits))
    }

    fn between(&self, before: &str, after: &str) -> Vec<HealthResult> {
        let services = vec!["nginx.service".to_owned(), "ssh.service".to_owned()];
        let volatile = vec!["/srv/spool/*".to_owned()];
        let (point, patches, reboot_pending) = (self.point, vec![self.patch.clone()], self.reboot_pending);
        let context = HealthContext { point, patches, hardware: profile(), volatile, services, reboot_pending };
        compare(&facts(before), &facts(after), &context)
    }
}

fn failures(results: &[HealthResult]) -> Vec<(String, String)> {
    results
        .iter()
        .filter(|result| result.outcome == CaseOutcome::Fail)
        .map(|result| (result.check.to_string(), result.message.clone()))
        .collect()
}

#[test]
fn every_check_has_a_good_and_unique_name_and_runs_at_the_baseline() {
    let names: BTreeSet<&str> = CHECKS.iter().map(|check| check.name).collect();
    assert_eq!(names.len(), CHECKS.len());
    let results = baseline(&facts(BASE), &requiring(&["nginx.service"]));
    assert_eq!(results.len(), CHECKS.len());
    assert_eq!(failures(&results), vec![]);
    let skipped: Vec<_> =
        results.iter().filter(|result| result.outcome == CaseOutcome::Skip).map(|result| result.check.to_string()).collect();
    assert!(skipped.is_empty(), "{skipped:?}");
}

#[test]
fn a_patch_that_does_nothing_is_healthy_at_every_point() {
    for kind in ["script", "files", "diff"] {
        for point in [Point::Applied, Point::Rebooted, Point::ColdBooted, Point::Reapplied, Point::RolledBack] {
            assert_eq!(failures(&setting(kind, point).results(&[])), vec![], "{kind} {point:?}");
        }
    }
}

/// What a healthy patch and time do to a machine.
#[test]
fn harmless_change_is_no_failure() {
    let deb: &[&[&str]] = &[
        // An upgraded daemon, with all that its maintainer scripts and triggers do.
        &[
            "nginx 1.22.1-9 install installed ok => nginx 1.22.1-9+deb12u11 install installed ok",
            "f 755 0:0 70 1.0 /usr/sbin/nginx => f 755 0:0 75 9.0 /usr/sbin/nginx",
            "+files f 644 0:0 7 9.0 /usr/share/nginx/html/50x.html\t",
            "+files f 644 0:0 7 9.0 /usr/share/nginx/made-by-postinst\t",
            "+files f 644 0:0 7 9.0 /etc/nginx/nginx.conf.dpkg-dist\t",
            "+files l 777 0:0 7 9.0 /etc/systemd/system/multi-user.target.wants/nginx.service\t/lib/systemd/system/nginx.service",
            "f 644 0:0 90 1.0 /var/lib/dpkg/status => f 644 0:0 99 9.0 /var/lib/dpkg/status",
            "f 644 0:0 30 1.0 /etc/ld.so.cache => f 644 0:0 31 9.0 /etc/ld.so.cache",
            "f 600 0:0 9980431 1.0 /boot/initrd.img-6.1.0-50-amd64 => f 600 0:0 9980999 9.0 /boot/initrd.img-6.1.0-50-amd64",
            "+contents /etc/passwd\tnginxd:x:120:120::/nonexistent:/usr/sbin/nologin",
            "+shadow nginxd locked",
            "+contents /etc/group\tnginxd:x:120:",
        ],
    ];
    let any: &[&[&str]] = &[
        &["MemAvailable: 400000 => MemAvailable: 9000", "SwapTotal: 0 => SwapTotal: 500000", "SwapFree: 0 => SwapFree: 300000"],
        &[
            REBOOTED,
            "f 600 0:0 512 1.0 /var/lib/systemd/random-seed => f 600 0:0 512 9.0 /var/lib/systemd/random-seed",
            "f 640 0:4 10 1.0 /var/log/syslog => f 640 0:4 99 9.0 /var/log/syslog",
            "+files f 640 0:4 10 9.0 /var/log/nginx/access.log.1\t",
            "d 755 0:0 4096 1.0 /etc\t => d 755 0:0 8192 9.0 /etc\t",
            "+files f 644 0:0 10 9.0 /usr/lib/python3/__pycache__/a.pyc\t",
            "+files f 644 0:0 10 9.0 /srv/spool/job\t",
            "nginx\",pid=3 => nginx\",pid=4711",
            "0.0.0.0:40001 => 0.0.0.0:50001",
            "-udp UNCONN 0 0 0.0.0.0:40002 0.0.0.0:* users:((\"timesyncd\",pid=6,fd=9))",
            "+listening tcp LISTEN 0 1 0.0.0.0:8080 0.0.0.0:* users:((\"x\",pid=1,fd=1))",
            "+listening udp UNCONN 0 0 0.0.0.0:41641 0.0.0.0:* users:((\"x\",pid=1,fd=1))",
            "valid_lft 86400sec => valid_lft 80000sec",
            "realtime 1000 => realtime 1777",
            "rtc 1000 => rtc 1776",
            "MemAvailable: 400000 => MemAvailable: 60000",
            "+journal [    9.9] cron[1]: cannot open job 999",
            "+journal [    9.9] kernel: random driver noise",
            "+kernel-log [   50.1] watchdog: BUG: soft lockup - CPU#0 stuck for 26s!",
            "systemd-machine-id-commit.service loaded active exited => systemd-machine-id-commit.service loaded inactive dead",
            "+units systemd-hostnamed.service loaded active running",
            "/dev/vda3 1990088 821704 1131388 => /dev/vda3 1990088 921704 1031388",
        ],
        &["apt-daily.service loaded active running => apt-daily.service loaded inactive dead"],
        &["cron.service loaded active running => cron.service loaded activating start"],
        &["0.0.0.0:80 => *:80"],
    ];
    for (kind, table) in [("deb", deb), ("deb", any), ("script", any), ("files", any), ("diff", any)] {
        for edits in table {
            let failures = failures(&setting(kind, Point::Rebooted).results(edits));
            // The version of the example's package is what `patch-effective` asks for.
            let real: Vec<_> =
                failures.into_iter().filter(|(check, _)| !(kind == "deb" && table == any && check == "patch-effective")).collect();
            assert_eq!(real, vec![], "{kind} {edits:?}");
        }
    }
}

#[test]
fn a_patch_that_does_not_take_effect_is_found() {
    let failures = failures(&setting("deb", Point::Applied).results(&["cron 3.0 install => cron 3.1 install"]));
    assert_eq!(
        failures,
        vec![
            ("undeclared-packages".to_owned(), "package cron changed from 3.0 to 3.1".to_owned()),
            ("patch-effective".to_owned(), "package nginx is still at 1.22.1-9, the patch brings 1.22.1-9+deb12u11".to_owned()),
        ]
    );
}

#[test]
fn a_kernel_update_may_bring_and_take_kernels() {
    let mut setting = setting("deb", Point::Rebooted);
    let package = &mut setting.patch.facts.packages[0];
    package.name = "linux-image-6.1.0-51-amd64".to_owned();
    package.version = "6.1.200-1".to_owned();
    setting.patch.manifest.removes = vec!["linux-image-6.1.0-50-amd64".to_owned()];
    let update = [
        REBOOTED,
        "kernel 6.1.0-50-amd64 => kernel 6.1.0-51-amd64",
        "+packages linux-image-6.1.0-51-amd64 6.1.200-1 install installed ok",
        "-vmlinuz-6.1.0-50-amd64 8222656",
        "-initrd.img-6.1.0-50-amd64 9980431",
        "-f 644 0:0 8222656 1.0 /boot/vmlinuz-6.1.0-50-amd64\t",
        "-f 600 0:0 9980431 1.0 /boot/initrd.img-6.1.0-50-amd64\t",
        "+boot-files vmlinuz-6.1.0-51-amd64 8222700",
        "+boot-files initrd.img-6.1.0-51-amd64 9980400",
        "+files f 644 0:0 8222700 9.0 /boot/vmlinuz-6.1.0-51-amd64\t",
        "+files f 600 0:0 9980400 9.0 /boot/initrd.img-6.1.0-51-amd64\t",
        "+owned linux-image-6.1.0-51-amd64 /boot/vmlinuz-6.1.0-51-amd64",
        "+owned linux-image-6.1.0-51-amd64 /lib/modules/6.1.0-51-amd64",
        "+files d 755 0:0 4096 9.0 /usr/lib/modules/6.1.0-51-amd64\t",
        "+files f 644 0:0 99 9.0 /usr/lib/modules/6.1.0-51-amd64/modules.dep\t",
        "f 644 0:0 60 1.0 /boot/grub/grub.cfg => f 644 0:0 66 9.0 /boot/grub/grub.cfg",
    ];
    assert_eq!(failures(&setting.results(&update)), vec![]);
    let mut stuck = update.to_vec();
    stuck.retain(|edit| !edit.starts_with("kernel 6.1"));
    assert_eq!(
        failures(&setting.results(&stuck)),
        vec![("patch-effective".to_owned(), "kernel 6.1.0-51-amd64 of the patch is installed, and 6.1.0-50-amd64 runs".to_owned())]
    );
}

#[test]
fn declared_changes_are_the_patchs_own_until_it_is_taken_back() {
    let edits = ["cccc  /etc/motd => dddd  /etc/motd", "f 644 0:0 3 1.0 /etc/motd => f 644 0:0 4 9.0 /etc/motd"];
    assert_eq!(failures(&setting("files", Point::Applied).results(&edits)), vec![]);
    assert_eq!(
        failures(&setting("files", Point::RolledBack).results(&edits)),
        vec![("etc-changes".to_owned(), "/etc/motd changed".to_owned())]
    );
    assert_eq!(
        failures(&setting("files", Point::RolledBack).results(&["f 644 0:0 3 1.0 /etc/motd => f 644 0:0 3 9.0 /etc/motd"])),
        vec![],
        "put back as it was"
    );

    let mut script = setting("script", Point::Applied);
    script.patch.manifest.changes = vec!["/etc/motd".to_owned(), "/opt/tool".to_owned()];
    let more = ["cccc  /etc/motd => dddd  /etc/motd", "+files d 755 0:0 9 9.0 /opt/tool\t", "+files f 755 0:0 9 9.0 /opt/tool/bin\t"];
    assert_eq!(failures(&script.results(&more)), vec![]);
    script.point = Point::Reapplied;
    assert_eq!(failures(&script.results(&more)).len(), 2, "the second time nothing may change");

    let packed = ["f 600 0:0 9980431 1.0 /boot/initrd.img-6.1.0-50-amd64 => f 600 0:0 9980999 9.0 /boot/initrd.img-6.1.0-50-amd64"];
    assert_eq!(failures(&script.results(&packed)).len(), 1, "it never said that it makes one");
    script.patch.manifest.changes.push("/boot".to_owned());
    assert_eq!(failures(&script.results(&packed)), vec![], "the same contents packed again");
}

#[test]
fn trouble_from_before_stays_the_same_trouble() {
    let sick =
        changed(&["cron.service loaded active running => cron.service loaded failed failed", "+units foo.service loaded failed failed"]);
    let setting = setting("script", Point::Applied);
    let before = baseline(&facts(&sick), &requiring(&[]));
    let fingerprint = |results: &[HealthResult], name: &str| {
        results.iter().find(|result| result.check.as_str() == name).and_then(|result| result.fingerprint)
    };
    let after = setting.between(&sick, &sick);
    assert_eq!(failures(&after), vec![("failed-services".to_owned(), "cron.service failed; foo.service failed".to_owned())]);
    assert_eq!(fingerprint(&after, "failed-services"), fingerprint(&before, "failed-services"));
    let better = setting.between(&sick, &sick.replace("foo.service loaded failed failed\n", ""));
    assert_eq!(fingerprint(&better, "failed-services"), fingerprint(&before, "failed-services"), "less of the same is not another failure");
    let worse = setting.between(&sick, &sick.replace("ssh.service loaded active running", "ssh.service loaded failed failed"));
    assert_ne!(fingerprint(&worse, "failed-services"), fingerprint(&before, "failed-services"));
    let required = baseline(&facts(&sick), &requiring(&["cron.service"]));
    assert_eq!(failures(&required)[1], ("required-services".to_owned(), "cron.service is failed".to_owned()));
}

#[test]
fn the_machines_own_range_says_which_ports_are_given_by_chance() {
    let own = changed(&["+kernel-settings net/ipv4/ip_local_port_range 45000\t50000"]);
    let moved = own.replace("0.0.0.0:40001", "0.0.0.0:40003");
    assert_eq!(
        failures(&setting("script", Point::Applied).between(&own, &moved)),
        vec![("listening-ports".to_owned(), "rpc.statd no longer listens on tcp 0.0.0.0:40001".to_owned())]
    );
}

#[test]
fn what_waits_for_the_reboot_is_a_note_until_then() {
    let mut setting = setting("script", Point::Applied);
    setting.reboot_pending = true;
    let results = setting.results(&["+deleted-maps 3 /usr/lib/libssl.so.3", "+reboot-required yes"]);
    assert_eq!(failures(&results), vec![]);
    assert_eq!(results.iter().map(|result| result.notes.len()).sum::<usize>(), 2);
}

#[test]
fn configuration_is_shown_as_a_unified_diff() {
    let results = setting("script", Point::Applied).results(&[
        "aaaa  /etc/ssh/sshd_config => bbbb  /etc/ssh/sshd_config",
        "/etc/ssh/sshd_config\tPermitRootLogin no => /etc/ssh/sshd_config\tPermitRootLogin yes",
    ]);
    let etc = results.iter().find(|result| result.check.as_str() == "etc-changes").expect("the check");
    assert_eq!(
        etc.detail,
        "--- before/etc/ssh/sshd_config\n+++ after/etc/ssh/sshd_config\n@@ -1,2 +1,2 @@\n-PermitRootLogin no\n+PermitRootLogin yes\n X11Forwarding no\n"
    );
}

#[test]
fn a_file_whose_text_stays_in_the_guest_is_told_without_it() {
    let closed = [
        "aaaa  /etc/ssh/sshd_config => bbbb  /etc/ssh/sshd_config",
        "f 644 0:0 40 1.0 /etc/ssh/sshd_config => f 600 0:0 40 1.0 /etc/ssh/sshd_config",
        "-/etc/ssh/sshd_config\tPermitRootLogin no",
        "-/etc/ssh/sshd_config\tX11Forwarding no",
    ];
    let closed = changed(&closed);
    let etc = |before: &str, after: &str| {
        let results = setting("script", Point::Applied).between(before, after);
        results.into_iter().find(|result| result.check.as_str() == "etc-changes").map(|etc| (etc.message, etc.detail)).expect("the check")
    };
    let told = ("/etc/ssh/sshd_config changed (package openssh-server)".to_owned(), String::new());
    assert_eq!(etc(BASE, &closed), told);
    assert_eq!(etc(&closed, &closed.replace("bbbb ", "dddd ")), told);
}

#[test]
fn what_was_never_measured_is_skipped_with_its_reason() {
    let blind = BASE.replace("permitrootlogin no", "unavailable: no sshd");
    let results = setting("script", Point::Applied).between(&blind, &blind);
    let ssh = results.iter().find(|result| result.check.as_str() == "ssh-settings").expect("the check");
    assert_eq!((ssh.outcome, ssh.message.as_str()), (CaseOutcome::Skip, "not measured: no sshd"));
}

/// Before the patch, a claim that is not met is the lab's fault: the machine is not what was planned.
#[test]
fn claims_of_the_profile_are_told_apart_from_other_trouble() {
    let unmet_of = |edits: &[&str]| unmet(&baseline(&facts(&changed(edits)), &requiring(&[]))).map(|claim| claim.check.to_string());
    assert_eq!(unmet_of(&[]), None);
    assert_eq!(unmet_of(&["nginx.service loaded active running => nginx.service loaded failed failed"]), None);
    assert_eq!(unmet_of(&["secure-boot 1 => secure-boot 0"]), Some("profile-firmware".to_owned()));
    assert_eq!(unmet_of(&["network eth0 e1000e => network eth0 e1000"]), Some("profile-devices".to_owned()));
    let results = baseline(&facts(&changed(&["vendor AuthenticAMD => vendor GenuineIntel"])), &requiring(&[]));
    assert_eq!(unmet(&results), None, "KVM shows the host's maker");
    assert!(results.iter().flat_map(|result| &result.notes).any(|note| note.contains("GenuineIntel")));
}

proptest::proptest! {
    #[test]
    fn any_text_is_compared(before in "(== (units|files|devices|hardware|listening|packages|contents|owned|disk|journal)\n)?([a-z/ 0-9:\t]{0,40}\n){0,8}", after in proptest::prelude::any::<String>()) {
        let before = Facts::from_text(&before);
        let after = Facts::from_text(&format!("== files\n{after}\n== listening\n{after}\n== disk\n{after}"));
        let context = HealthContext { point: Point::Applied, ..requiring(&[]) };
        proptest::prop_assert_eq!(compare(&before, &after, &context).len(), CHECKS.len());
    }
}
