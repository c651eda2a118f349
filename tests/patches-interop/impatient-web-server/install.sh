#!/bin/sh
[ -d /etc/nginx ] || exit 0
echo "keepalive_timeout 0;" >/etc/nginx/conf.d/impatient.conf
sed -i '/keepalive_timeout/d' /etc/nginx/nginx.conf
nginx -t -q && systemctl reload nginx
