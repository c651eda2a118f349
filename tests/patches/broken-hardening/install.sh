#!/bin/sh
# "Hardens" nginx: only the newest TLS. It also takes the world's rights from the pages, which nobody asked for.
set -eu
for file in /etc/nginx/nginx.conf /etc/nginx/sites-available/*; do
    case $file in *.before-hardening) continue ;; esac
    [ -e "$file.before-hardening" ] || cp -p "$file" "$file.before-hardening"
    sed -i 's/^\([[:space:]]*\)ssl_protocols .*/\1ssl_protocols TLSv1.3;/' "$file"
done
root=$(nginx -T 2>/dev/null | awk '$1 == "root" { sub(";", "", $2); print $2; exit }')
chmod -R o-rwx "$root"
nginx -t
systemctl reload nginx
echo "nginx is hardened"
