#!/bin/sh
set -eu
nginx -t
printf 'events {}\nhttp { server { no_such_directive on; } }\n' >broken.conf
if nginx -t -c "$PWD/broken.conf" 2>answer; then
    echo "a broken configuration is accepted"
    exit 1
fi
grep -q 'unknown directive "no_such_directive"' answer || { cat answer; echo "the broken directive is not named"; exit 1; }
