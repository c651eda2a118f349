#!/bin/sh
set -eu
cd "$PATCHLAB_KEEP"
if [ "$PATCHLAB_PHASE" = patched ]; then
    [ -s data.sha256 ] || { echo "what was written before the patch is gone"; exit 1; }
    sha256sum --quiet -c data.sha256 || { echo "what was written before the patch is damaged"; exit 1; }
    [ "$(ls many | wc -l)" = 50 ] || { echo "of 50 files $(ls many | wc -l) are left"; exit 1; }
fi
rm -rf data data.sha256 many
mkdir many
head -c 4194304 /dev/urandom >data
split -n 50 -a 2 data many/part.
sha256sum data many/* >data.sha256.new
sync data many/* data.sha256.new
mv data.sha256.new data.sha256
sync .
