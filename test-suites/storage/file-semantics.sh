#!/bin/sh
set -eu
work=$PATCHLAB_KEEP/semantics
rm -rf "$work"
mkdir "$work"
trap 'rm -rf "$work"' EXIT
cd "$work"
echo 'TAP version 13'
echo '1..7'
number=0
check() {
    number=$((number + 1))
    if [ "$2" = "$3" ]; then echo "ok $number - $1"; else printf 'not ok %s - %s\n# expected %s\n# found %s\n' "$number" "$1" "$2" "$3"; fi
}
echo old >a && echo new >b && mv b a
check 'a rename replaces at once' new "$(cat a)"
ln a hard && ln -s a soft && echo more >>hard
check 'links lead to the same contents' 'new more 2' "$(paste -s -d ' ' soft) $(stat -c %h a)"
truncate -s 10M hole && echo end >>hole
check 'a hole takes no room and reads as zeros' '10485764 yes' "$(stat -c %s hole) $([ "$(stat -c %b hole)" -lt 64 ] && echo yes || echo no)"
fallocate -l 1M reserved 2>/dev/null && size=$(stat -c %b reserved) || size=0
check 'reserved room is there' yes "$([ "$size" -ge 2048 ] && echo yes || echo no)"
check 'a lock excludes' 1 "$( (flock -n 9 && (flock -n 8 8>lock && echo 2 || echo 1)) 9>lock)"
mkdir closed && echo x >closed/x && chmod 700 closed && chmod 600 closed/x
check 'permissions hold' denied "$(setpriv --reuid=65534 --regid=65534 --clear-groups cat closed/x 2>/dev/null || echo denied)"
touch -d '2001-02-03 04:05:06 UTC' dated
check 'time stamps are kept' 981173106 "$(stat -c %Y dated)"
