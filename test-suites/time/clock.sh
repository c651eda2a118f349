#!/bin/sh
# A chronyd of the case's own on port 11123 that leaves this machine's clock alone, until it is stopped.
set -eu
. "$PATCHLAB_SUITE/lib.sh"
# All is said on the command line, and the only files are where its AppArmor profile lets it have some.
mkdir -p /run/chrony
chronyd -d -x -u root -F 0 'port 11123' 'cmdport 0' 'bindcmdaddress /run/chrony/patchlab-interop.sock' \
    'pidfile /run/chrony/patchlab-interop.pid' 'local stratum 5' allow >log 2>&1 &
chronyd=$!
trap 'kill $chronyd 2>/dev/null; rm -f /run/chrony/patchlab-interop.*' EXIT
trap 'exit 0' TERM INT
tries=0
until awk '$4 == "07" && substr($2, length($2) - 4) == ":2B73" { found = 1 } END { exit !found }' /proc/net/udp /proc/net/udp6 2>/dev/null; do
    tries=$((tries + 1))
    if [ $tries -ge 200 ] || ! kill -0 $chronyd 2>/dev/null; then
        tail -n 5 log
        echo "a chronyd of the case's own did not start"
        exit 1
    fi
    sleep 0.1
done
: >"$PATCHLAB_READY"
wait $chronyd || { tail -n 5 log; echo "chronyd ended by itself"; exit 1; }
