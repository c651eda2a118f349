#!/bin/sh
set -eu
for kept in /etc/nginx/nginx.conf.before-hardening /etc/nginx/sites-available/*.before-hardening; do
    mv "$kept" "${kept%.before-hardening}"
done
root=$(nginx -T 2>/dev/null | awk '$1 == "root" { sub(";", "", $2); print $2; exit }')
chmod -R o+rX "$root"
systemctl reload nginx
