#!/bin/sh
[ -d /etc/postgresql/15/main ] || exit 0
sed -i 's/^hostssl all all 192/hostnossl all all 192/' /etc/postgresql/15/main/pg_hba.conf
systemctl reload postgresql@15-main
