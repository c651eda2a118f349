#!/bin/sh
[ -d /etc/nginx ] || exit 0
sed -i 's/ssl_protocols .*/ssl_protocols TLSv1.3;/' /etc/nginx/nginx.conf /etc/nginx/sites-available/*
nginx -t -q && systemctl reload nginx
