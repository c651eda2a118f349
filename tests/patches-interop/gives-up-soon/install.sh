#!/bin/sh
echo 'net.ipv4.tcp_retries2 = 1' >/etc/sysctl.d/90-soon.conf
sysctl -q -p /etc/sysctl.d/90-soon.conf
