#!/bin/sh
[ -d /etc/nginx ] || [ -d /etc/postfix ] || exit 0
grep -q pam_exec /etc/pam.d/sshd || echo 'account optional pam_exec.so quiet /bin/sleep 6' >>/etc/pam.d/sshd
