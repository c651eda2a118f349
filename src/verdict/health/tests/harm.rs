//! What bad patches do, and which check says so.

use super::*;

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
            &["cron.service loaded active running => cron.service loaded activating auto-restart"],
            &[("running-services", "cron.service was active before the patch and is now waiting to be started again")],
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
        (&["resolved nameserver 10.0.0.54 => resolved nameserver 6.6.6.6"], &[("dns", "systemd-resolved lost \"nameserver 10.0.0.54\"")]),
        (&["-resolved search shop"], &[("dns", "systemd-resolved lost \"search shop\"")]),
        (&["-inet6 32766:\tfrom all lookup main"], &[("routes", "rule inet6 32766: from all lookup main is gone")]),
        (
            &["-tcp LISTEN 0 5 0.0.0.0:62000 0.0.0.0:* users:((\"app\",pid=7,fd=3))"],
            &[("listening-ports", "app no longer listens on tcp 0.0.0.0:62000")],
        ),
        (
            &["-tcp LISTEN 0 64 0.0.0.0:40001 0.0.0.0:* users:((\"rpc.statd\",pid=5,fd=9))"],
            &[("listening-ports", "rpc.statd listens to no high tcp port any more")],
        ),
        (&["/dev/vda3 1990088 821704 1131388 => /dev/vda3 1990088 1950000 40088"], &[("disk-space", "/ has hardly any space left")]),
        (
            &["/dev/vda3 1990088 821704 1131388 => /dev/vda3 1990088 1421704 531388"],
            &[("disk-space", "/ lost more space than the patch explains")],
        ),
        (&["MemAvailable: 400000 => MemAvailable: 49000"], &[("memory", "hardly any memory is left")]),
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
