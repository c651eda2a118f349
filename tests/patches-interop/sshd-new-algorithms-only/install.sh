#!/bin/sh
[ -d /etc/nginx ] || [ -d /etc/postfix ] || exit 0
echo 'KexAlgorithms sntrup761x25519-sha512@openssh.com' >/etc/ssh/sshd_config.d/10-new.conf
sshd -t && systemctl reload ssh
