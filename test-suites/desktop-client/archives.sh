#!/bin/sh
set -eu
mkdir tree tree/sub
head -c 100000 /dev/urandom >tree/random
seq 1 5000 >tree/sub/text
chmod 640 tree/random
ln -s sub/text tree/link
expected=$(cd tree && find . -type f -exec sha256sum {} + | sort)
for form in gzip:z xz:J; do
    tool=${form%:*}
    command -v "$tool" >/dev/null || continue
    rm -rf out && mkdir out
    tar -c"${form#*:}"f tree.tar -C tree . || { echo "tar cannot pack with $tool"; exit 1; }
    "$tool" -t <tree.tar || { echo "$tool does not accept what tar packed"; exit 1; }
    tar -x"${form#*:}"f tree.tar -C out || { echo "tar cannot unpack with $tool"; exit 1; }
    [ "$(cd out && find . -type f -exec sha256sum {} + | sort)" = "$expected" ] || { echo "files are not the same after tar and $tool"; exit 1; }
    [ "$(stat -c %a out/random) $(readlink out/link)" = "640 sub/text" ] || { echo "modes or links are lost in tar"; exit 1; }
done
head -c 1000 tree.tar >cut.tar
if tar -tf cut.tar >/dev/null 2>&1; then echo "a cut archive is accepted"; exit 1; fi
