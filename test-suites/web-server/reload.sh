#!/bin/sh
. "$PATCHLAB_SUITE/lib.sh"
head -c 1048576 /dev/urandom >"$site/slow" && chmod 644 "$site/slow"
before=$(systemctl show -p MainPID --value nginx)
# Slow enough to be under way while nginx reloads.
get --limit-rate 700k -o slow "$http/slow" &
transfer=$!
sleep 0.3
systemctl reload nginx
wait $transfer || { echo "a transfer broke off at the reload"; exit 1; }
cmp slow "$site/slow" || { echo "a transfer across the reload is damaged"; exit 1; }
[ "$(systemctl show -p MainPID --value nginx)" = "$before" ] || { echo "the reload restarted nginx"; exit 1; }
echo again >"$site/again" && chmod 644 "$site/again"
[ "$(get --retry 3 --retry-connrefused "$http/again")" = again ] || { echo "nginx does not serve after the reload"; exit 1; }
