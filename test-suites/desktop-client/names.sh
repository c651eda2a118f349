#!/bin/sh
. "$PATCHLAB_SUITE/tap.sh"
echo 'TAP version 13'
echo '1..5'
local=$(getent hosts localhost | awk 'NR == 1 { print $1 }')
check 'localhost is this machine' yes "$(case $local in 127.0.0.1 | ::1) echo yes ;; *) echo "$local" ;; esac)"
# Whatever /etc/hosts lists has to be found by its name.
name=$(awk '$1 ~ /^[0-9.]+$/ && $1 !~ /^127/ { print $2; exit }' /etc/hosts)
name=${name:-localhost}
address=$(awk -v name="$name" '$1 ~ /^[0-9.]+$/ { for (i = 2; i <= NF; i++) if ($i == name) { print $1; exit } }' /etc/hosts)
check "$name is where /etc/hosts says" "$address" "$(getent hosts "$name" | awk 'NR == 1 { print $1 }')"
code=0
getent hosts no-such-host.invalid >/dev/null 2>&1 || code=$?
check 'a name that is none is not found' 2 "$code"
check 'root is user 0' root "$(getent passwd 0 | cut -d: -f1)"
check 'groups have their names' root "$(getent group 0 | cut -d: -f1)"
