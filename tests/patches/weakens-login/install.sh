#!/bin/sh
echo 'PermitRootLogin yes' >/etc/ssh/sshd_config.d/support.conf
systemctl reload ssh
