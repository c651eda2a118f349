#!/bin/sh
set -eu
mkdir -p from/sub
seq 1 5000 >from/sub/numbers
echo one >from/one
rsync -a --checksum from/ to/
diff -r from to || { echo "rsync copies wrongly"; exit 1; }
echo two >>from/one
rm from/sub/numbers
echo three >from/three
rsync -a --delete --checksum from/ to/
diff -r from to || { echo "rsync updates wrongly"; exit 1; }
[ ! -e to/sub/numbers ] || { echo "rsync does not delete"; exit 1; }
