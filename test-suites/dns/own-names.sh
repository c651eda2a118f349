#!/bin/sh
# Whether this machine has a running name server that answers for one of the machine's own names.
set -eu
. "$PATCHLAB_SUITE/lib.sh"
own=${PATCHLAB_ADDRESS_SERVER:-}
[ -n "$own" ] || { echo "the two machines share no segment"; exit 99; }
awk '$4 == "07" && substr($2, length($2) - 4) == ":0035" { found = 1 } END { exit !found }' /proc/net/udp /proc/net/udp6 2>/dev/null ||
    not_here "no name server listens on port 53"
for name in $(server_names); do
    found=$(ask "$own" 53 A "$name")
    if [ "$found" = "NOERROR $own" ]; then
        : >"$kept-here"
        exit 0
    fi
done
not_here "the name server at $own gives $own for none of this machine's names ($(server_names | tr '\n' ' ')); the last answer was '$found'"
