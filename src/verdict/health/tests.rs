use std::collections::BTreeSet;

use super::*;
use crate::catalog::hardware::{Chipset, DiskBus, Firmware, NicModel, Smbios, Tpm};
use crate::plan::examples::planned;

mod declared;

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
        patch: planned("script"),
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
        let (point, patch, reboot_pending) = (self.point, self.patch.clone(), self.reboot_pending);
        let context = HealthContext { point, patch, hardware: profile(), volatile, services, reboot_pending };
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

/// Harm by a script: what it did, the check that must see it, and words that name the cause. No other check may fail besides those named.
#[test]
fn harm_is_seen_and_named() {
    type Edits = &'static [&'static str];
    type Failures = &'static [(&'static str, &'static str)];
    let cases: &[(Edits, Failures)] = &[
        (
            &["f 640 0:42 900 1.0 /etc/shadow => f 666 0:42 900 1.0 /etc/shadow"],
            &[("permissions", "/etc/shadow has mode 0666, before 0640")],
        ),
        (
            &["uptime 50.0 => uptime 80.0", "realtime 1000 => realtime 90000", "rtc 1000 => rtc 90000"],
            &[("clock", "the clock was set, and the hardware clock with it")],
        ),
        (
            &["+files f 4755 0:0 9 9.0 /usr/local/bin/rootme\t"],
            &[
                ("permissions", "/usr/local/bin/rootme is new and runs with its owner's rights"),
                ("files-outside-patch", "/usr/local/bin/rootme is new"),
            ],
        ),
        (&["+files f 4755 0:0 9 9.0 /var/tmp/rootme\t"], &[("permissions", "/var/tmp/rootme is new and runs")]),
        (&["-f 644 0:0 5 1.0 /usr/share/fonts/a.ttf\t"], &[("files-outside-patch", "/usr/share/fonts/a.ttf is gone (package fonts)")]),
        (&["-d 755 33:4 4096 1.0 /var/log/nginx\t"], &[("files-outside-patch", "/var/log/nginx is gone")]),
        (
            &["f 755 0:0 80 1.0 /usr/sbin/sshd => f 755 0:0 81 9.0 /usr/sbin/sshd"],
            &[("files-outside-patch", "/usr/sbin/sshd changed (package openssh-server)")],
        ),
        (
            &["cron.service loaded active running => cron.service loaded inactive dead"],
            &[("running-services", "cron.service was active before the patch and is now inactive")],
        ),
        (
            &["cron.service loaded active running => cron.service loaded failed failed"],
            &[("running-services", "cron.service was active"), ("failed-services", "cron.service failed")],
        ),
        (
            &[
                "nginx.service loaded active running => nginx.service masked inactive dead",
                "+files l 777 0:0 9 9.0 /etc/systemd/system/nginx.service\t/dev/null",
                "-tcp LISTEN 0 511 0.0.0.0:80 0.0.0.0:* users:((\"nginx\",pid=3,fd=5))",
            ],
            &[
                ("required-services", "nginx.service is inactive (masked)"),
                ("running-services", "(masked)"),
                ("etc-changes", "/etc/systemd/system/nginx.service masks its unit"),
                ("listening-ports", "nginx no longer listens on tcp 0.0.0.0:80"),
            ],
        ),
        (
            &["+files l 777 0:0 9 9.0 /etc/rc2.d/K01cron\t../init.d/cron", "+files l 777 0:0 9 9.0 /etc/rc3.d/K01cron\t../init.d/cron"],
            &[("etc-changes", "the start links of cron in /etc/rc?.d changed")],
        ),
        (
            &[
                "aaaa  /etc/ssh/sshd_config => bbbb  /etc/ssh/sshd_config",
                "/etc/ssh/sshd_config\tPermitRootLogin no => /etc/ssh/sshd_config\tPermitRootLogin yes",
                "permitrootlogin no => permitrootlogin yes",
            ],
            &[
                ("etc-changes", "/etc/ssh/sshd_config changed (package openssh-server)"),
                ("ssh-settings", "sshd: \"permitrootlogin yes\", before \"permitrootlogin no\""),
            ],
        ),
        (
            &["+contents /etc/passwd\tmallory:x:0:0::/root:/bin/bash", "+shadow mallory set 12ab"],
            &[("accounts", "account mallory is new (shell /bin/bash, user id 0)")],
        ),
        (&["root locked => root set 1234"], &[("accounts", "root has got a password")]),
        (
            &["+contents /etc/sudoers.d/x\twww ALL=(ALL) NOPASSWD: ALL"],
            &[("accounts", "/etc/sudoers.d/x is new: it says who may become root")],
        ),
        (&["/etc/group\tsudo:x:27: => /etc/group\tsudo:x:27:www"], &[("accounts", "www is now in group sudo")]),
        (
            &["+contents /root/.ssh/authorized_keys\tssh-ed25519 AAAA x"],
            &[("accounts", "/root/.ssh/authorized_keys is new: it says who may log in")],
        ),
        (&["-default via 10.0.0.254 dev ens5 proto static"], &[("routes", "route default via 10.0.0.254 dev ens5 proto static is gone")]),
        (&["-2: ens5 inet 10.0.0.2/24 scope global secondary ens5"], &[("addresses", "address ens5 inet 10.0.0.2/24 is gone")]),
        (&["2: ens5: <BROADCAST,UP,LOWER_UP> => 2: eth0: <BROADCAST,UP,LOWER_UP>"], &[("interfaces", "interface ens5 is now called eth0")]),
        (&["nameserver 10.0.0.53 => nameserver 6.6.6.6"], &[("dns", "/etc/resolv.conf lost \"nameserver 10.0.0.53\"")]),
        (&["/dev/vda3 1990088 821704 1131388 => /dev/vda3 1990088 1950000 40088"], &[("disk-space", "/ has hardly any space left")]),
        (
            &["/dev/vda3 1990088 821704 1131388 => /dev/vda3 1990088 1421704 531388"],
            &[("disk-space", "/ lost more space than the patch explains")],
        ),
        (&["/dev/vda3 129024 20289 108735 => /dev/vda3 129024 128000 1024"], &[("disk-space", "/ has hardly any inodes left")]),
        (&["/dev/vda3 / ext4 rw, => /dev/vda3 / ext4 ro,"], &[("mounts", "/ is now read-only")]),
        (
            &["tmpfs /dev/shm tmpfs rw,nosuid,nodev 0 0 => tmpfs /dev/shm tmpfs rw,nodev 0 0"],
            &[("mounts", "/dev/shm lost the mount option nosuid")],
        ),
        (
            &["Success, no errors or warnings detected => /srv\n   [E] unreachable on boot required source: UUID=dead"],
            &[("fstab", "/etc/fstab /srv: unreachable on boot required source")],
        ),
        (
            &["nginx 1.22.1-9 install installed ok => nginx 1.22.1-9 install half-configured ok"],
            &[("package-state", "package nginx is half-configured")],
        ),
        (&["cron 3.0 install installed ok => cron 3.0 hold installed ok"], &[("package-holds", "package cron is newly held back")]),
        (&["-cron 3.0 install installed ok"], &[("undeclared-packages", "package cron 3.0 was removed")]),
        (&["+packages netcat 1.0 install installed ok"], &[("undeclared-packages", "package netcat 1.0 was installed")]),
        (
            &["enabled Y => enabled N", "-/usr/bin/man (enforce)"],
            &[("access-control", "AppArmor has no profiles loaded any more; AppArmor is switched off")],
        ),
        (
            &["/usr/bin/man (enforce) => /usr/bin/man (complain)"],
            &[("access-control", "AppArmor's profile /usr/bin/man is in mode complain")],
        ),
        (&["-table inet filter {", "-}"], &[("firewall", "the firewall has no rules any more")]),
        (
            &["kernel/randomize_va_space 2 => kernel/randomize_va_space 0"],
            &[("kernel-settings", "kernel.randomize_va_space is 0, before 2")],
        ),
        (&["+boot-options mitigations=off"], &[("kernel-settings", "the kernel was started with mitigations=off")]),
        (&["kernel/hostname web => kernel/hostname evil"], &[("kernel-settings", "kernel.hostname is evil, before web")]),
        (
            &[
                "/sys/bus/pci/devices/0000:00:03.0/driver ../../drivers/e1000e => /sys/bus/pci/devices/0000:00:03.0/driver ../../drivers/vfio-pci",
            ],
            &[("device-drivers", "pci 0000:00:03.0 has driver vfio-pci, before e1000e")],
        ),
        (
            &["-/sys/bus/virtio/devices/virtio0/driver ../../drivers/virtio_blk"],
            &[("device-drivers", "virtio virtio0 had driver virtio_blk and now has none")],
        ),
        (
            &["network eth0 e1000e pcieport => network eth0 vfio-pci pcieport"],
            &[(
                "profile-devices",
                "no device is driven as the profile's Intel 82574L network card is (by e1000e); the guest has eth0: vfio-pci",
            )],
        ),
        (
            &["-disk vda virtio_blk virtio-pci pcieport"],
            &[("profile-devices", "(by virtio_blk on virtio-pci); the guest has sda: sd on ahci")],
        ),
        (&["-tpm tpm0 tpm_crb"], &[("profile-devices", "the profile's TPM with a CRB interface is (by tpm_crb); the guest sees no TPM")]),
        (&["secure-boot 1 => secure-boot 0"], &[("profile-firmware", "Secure Boot is not enforced: the variable SecureBoot is 0")]),
        (&["-secure-boot 1"], &[("profile-firmware", "the variable SecureBoot is missing")]),
        (&["setup-mode 0 => setup-mode 1"], &[("profile-firmware", "SetupMode is 1")]),
        (
            &["lockdown none [integrity] confidentiality => lockdown [none] integrity confidentiality"],
            &[("profile-firmware", "the kernel is not locked down")],
        ),
        (&["tpm 2 => tpm 1"], &[("profile-machine", "the TPM's major version is 1, not 2")]),
        (&["processors 2 => processors 1"], &[("profile-machine", "the machine has 1 processors, not 2")]),
        (&["dmi sys_vendor Dell Inc. => dmi sys_vendor QEMU"], &[("profile-machine", "sys_vendor is \"QEMU\", not \"Dell Inc.\"")]),
        (
            &["-vmlinuz-6.1.0-50-amd64 8222656", "-f 644 0:0 8222656 1.0 /boot/vmlinuz-6.1.0-50-amd64\t"],
            &[("boot-files", "/boot has no kernel any more"), ("files-outside-patch", "/boot/vmlinuz-6.1.0-50-amd64 is gone")],
        ),
        (
            &["initrd.img-6.1.0-50-amd64 9980431 => initrd.img-6.1.0-50-amd64 12"],
            &[("boot-files", "/boot/initrd.img-6.1.0-50-amd64 is too small to be one")],
        ),
        (&["realtime 1000 => realtime 5000"], &[("clock", "the clock was moved away")]),
        (&["timezone /usr/share/zoneinfo/Etc/UTC => timezone /usr/share/zoneinfo/Europe/Rome"], &[("clock", "the time zone is")]),
        (&["+kernel-log [   12.3] nginx[77]: segfault at 7f12 ip 000055 sp 00007ff error 4 in nginx"], &[("kernel-errors", "segfault at")]),
        (&["+kernel-log [   12.3] EXT4-fs error (device vda3): bad block"], &[("kernel-errors", "EXT4-fs error")]),
        (&["+journal [   12.3] cron[9]: cannot open /etc/crontab"], &[("journal-errors", "cron[#]: cannot open /etc/crontab")]),
        (&["+core-dumps /var/lib/systemd/coredump/core.nginx.33.abc.123.456.zst"], &[("core-dumps", "nginx dumped core")]),
        (&["ok nginx -t -q => bad nginx -t -q: unknown directive"], &[("config-syntax", "nginx -t -q refuses the configuration")]),
        (
            &["+files f 644 0:0 9 9.0 /etc/x.conf.dpkg-new\t"],
            &[
                ("config-leftovers", "/etc/x.conf.dpkg-new was left by an installation that broke off"),
                ("etc-changes", "/etc/x.conf.dpkg-new is new"),
            ],
        ),
        (&["+restarts nginx.service 7"], &[("service-restarts", "nginx.service keeps ending")]),
        (&["+deleted-maps 3 /usr/lib/libssl.so.3"], &[("old-code-running", "nginx still runs the replaced /usr/lib/libssl.so.3")]),
        (&["+reboot-required yes"], &[("reboot-pending", "the guest says that it needs a reboot")]),
        (
            &["permitrootlogin no => unavailable: sshd ended with 255"],
            &[("ssh-settings", "could be measured before the patch and can't be now: sshd ended with 255")],
        ),
        (
            &["/usr/bin/ping cap_net_raw=ep => /usr/bin/ping cap_sys_admin=ep"],
            &[("permissions", "has new capabilities: /usr/bin/ping cap_sys_admin=ep")],
        ),
        (&["d 755 0:0 4096 1.0 /etc\t => d 777 0:0 4096 1.0 /etc\t"], &[("permissions", "/etc has mode 0777, before 0755")]),
    ];
    for (edits, expected) in cases {
        let failures = failures(&setting("script", Point::Applied).results(edits));
        let found: BTreeSet<&str> = failures.iter().map(|(check, _)| check.as_str()).collect();
        let wanted: BTreeSet<&str> = expected.iter().map(|(check, _)| *check).collect();
        assert_eq!(found, wanted, "{edits:?} gave {failures:#?}");
        for (check, words) in *expected {
            assert!(
                failures.iter().any(|(name, message)| name == check && message.contains(words)),
                "{edits:?}: {check} should say {words:?}: {failures:#?}"
            );
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
        &[
            REBOOTED,
            "f 600 0:0 512 1.0 /var/lib/systemd/random-seed => f 600 0:0 512 9.0 /var/lib/systemd/random-seed",
            "f 640 0:4 10 1.0 /var/log/syslog => f 640 0:4 99 9.0 /var/log/syslog",
            "+files f 640 0:4 10 9.0 /var/log/nginx/access.log.1\t",
            "d 755 0:0 4096 1.0 /etc\t => d 755 0:0 8192 9.0 /etc\t",
            "+files f 644 0:0 10 9.0 /usr/lib/python3/__pycache__/a.pyc\t",
            "+files f 644 0:0 10 9.0 /srv/spool/job\t",
            "nginx\",pid=3 => nginx\",pid=4711",
            "+listening tcp LISTEN 0 1 0.0.0.0:8080 0.0.0.0:* users:((\"x\",pid=1,fd=1))",
            "+listening udp UNCONN 0 0 0.0.0.0:41641 0.0.0.0:* users:((\"x\",pid=1,fd=1))",
            "valid_lft 86400sec => valid_lft 80000sec",
            "realtime 1000 => realtime 1777",
            "rtc 1000 => rtc 1776",
            "+journal [    9.9] cron[1]: cannot open job 999",
            "+journal [    9.9] kernel: random driver noise",
            "+kernel-log [   50.1] watchdog: BUG: soft lockup - CPU#0 stuck for 26s!",
            "systemd-machine-id-commit.service loaded active exited => systemd-machine-id-commit.service loaded inactive dead",
            "+units systemd-hostnamed.service loaded active running",
            "/dev/vda3 1990088 821704 1131388 => /dev/vda3 1990088 921704 1031388",
        ],
        &["apt-daily.service loaded active running => apt-daily.service loaded inactive dead"],
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
