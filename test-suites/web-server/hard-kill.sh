#!/bin/sh
. "$PATCHLAB_SUITE/lib.sh"
echo up >"$site/up" && chmod 644 "$site/up"
before=$(systemctl show -p MainPID --value nginx)
systemctl kill --signal=SIGKILL nginx
n=0
while [ -d "/proc/$before" ]; do
    n=$((n + 1))
    [ $n -lt 100 ] || { echo "nginx does not die"; exit 1; }
    sleep 0.1
done
systemctl reset-failed nginx 2>/dev/null || true
systemctl start nginx || { systemctl status --no-pager nginx; echo "nginx does not start after it was killed"; exit 1; }
[ "$(get "$http/up")" = up ] || { echo "nginx does not serve after it was killed"; exit 1; }
[ "$(systemctl show -p MainPID --value nginx)" != "$before" ] || exit 1
