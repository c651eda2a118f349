#!/bin/sh
# A download that takes about ten seconds, of more than the buffers on its way hold. Ready when it is under way.
set -eu
. "$PATCHLAB_SUITE/lib.sh"
http=http://$PATCHLAB_NAME_SERVER/$place
get -f -o sums "$http/sums"
curl -sS --noproxy '*' -f --limit-rate 1600k --max-time 90 -o large "$http/large" &
tries=0
until [ -s large ]; do
    tries=$((tries + 1))
    [ $tries -lt 100 ] || { echo "no byte of the download came within 10 s"; exit 1; }
    sleep 0.1
done
: >"$PATCHLAB_READY"
wait $! || { echo "the download ended early: curl says $?, $(stat -c %s large) bytes came"; exit 1; }
grep ' large$' sums | sha256sum -c --status || { echo "the download arrived damaged"; exit 1; }
