#!/bin/sh
cat >/etc/systemd/system/panic.service <<'UNIT'
[Unit]
Description=Panics
DefaultDependencies=no
Before=sysinit.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger'
[Install]
WantedBy=sysinit.target
UNIT
systemctl enable panic.service
sync
