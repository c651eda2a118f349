#!/bin/sh
. "$PATCHLAB_SUITE/lib.sh"
for n in 1 2 3 4 5 6 7 8; do echo "page $n" >"$site/$n.html"; done
chmod 644 "$site"/*.html
opened=$(get -o /dev/null -o /dev/null -o /dev/null -w '%{num_connects} ' "$http/[1-3].html")
[ "$opened" = "1 0 0 " ] || { echo "three requests opened these numbers of connections: $opened"; exit 1; }
mkdir got
get -Z --parallel-immediate --parallel-max 20 -o 'got/#1-#2' "$http/[1-8].html?[1-5]"
[ "$(ls got | wc -l)" = 40 ] || { echo "of 40 requests at once $(ls got | wc -l) gave a page"; exit 1; }
for file in got/*; do
    number=${file#got/}
    read -r line <"$file"
    [ "$line" = "page ${number%-*}" ] || { echo "request $number got: $line"; exit 1; }
done
