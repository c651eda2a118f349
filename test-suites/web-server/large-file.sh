#!/bin/sh
. "$PATCHLAB_SUITE/lib.sh"
head -c 4194304 /dev/urandom >"$site/large" && chmod 644 "$site/large"
expected=$(sha256sum <"$site/large")
for url in "$http" $(has_tls && echo "$https"); do
    found=$(get -k "$url/large" | sha256sum)
    [ "$found" = "$expected" ] || { echo "a file of 4 MiB is not the same after ${url%%:*}"; exit 1; }
done
