#!/bin/sh
set -eu
mkdir small
mount -t tmpfs -o size=4m tmpfs small
trap 'umount small' EXIT
if dd if=/dev/zero of=small/big bs=64k count=100 2>answer; then
    echo "6.4 MB fit into 4 MiB"
    exit 1
fi
grep -q 'No space left on device' answer || { cat answer; echo "a full file system gives another error"; exit 1; }
rm small/big
dd if=/dev/urandom of=small/again bs=64k count=32 2>/dev/null
[ "$(stat -c %s small/again)" = 2097152 ] || { echo "the file system does not recover from being full"; exit 1; }
