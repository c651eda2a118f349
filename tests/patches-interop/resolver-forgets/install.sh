#!/bin/sh
[ ! -d /etc/nginx ] && [ ! -d /etc/postfix ] || exit 0
mkdir -p /etc/systemd/system/systemd-networkd.service.d
printf '[Service]\nPermissionsStartOnly=yes\nExecStartPost=+/bin/rm -f /etc/resolv.conf\n' >/etc/systemd/system/systemd-networkd.service.d/forget.conf
systemctl daemon-reload
