#!/bin/sh
set -eu
work=$PATCHLAB_KEEP/direct
rm -rf "$work"
mkdir "$work"
trap 'rm -rf "$work"' EXIT
head -c 2097152 /dev/urandom >source
for flags in direct direct,dsync; do
    dd if=source of="$work/file" bs=64k oflag=$flags status=none || { echo "cannot write with $flags"; exit 1; }
    sync "$work/file"
    dd if="$work/file" bs=64k iflag=direct status=none | cmp - source || { echo "what was written with $flags reads back different"; exit 1; }
    rm "$work/file"
done
# Many small synchronous appends keep their order and length.
n=0
while [ $n -lt 20 ]; do
    echo "line $n" | dd of="$work/log" oflag=append,dsync conv=notrunc status=none
    n=$((n + 1))
done
[ "$(sha256sum <"$work/log")" = "$(seq 0 19 | sed 's/^/line /' | sha256sum)" ] || { echo "synchronous appends are lost or out of order"; exit 1; }
