#!/bin/sh
set -u
. "$PATCHLAB_SUITE/lib.sh"
server=$PATCHLAB_ADDRESS_SERVER
names=$(server_names)
served=
answers() {
    for name in $names; do
        found=$(ask "$server" 53 A "$name")
        [ "$found" != "NOERROR $server" ] || served="$served $name"
        as_before "$name" "$found" || return 1
    done
    [ -n "$served" ] || { echo "expected $server for one of: $names; the last answer was '$found'"; return 1; }
}
code() {
    found=$(ask "$server" 53 "$2" "$3")
    [ "$found" != 'no answer' ] || { echo "no answer came"; return 1; }
    as_before "$1" "$found"
}
# By the tool that people use, too, where it is there.
tool() {
    found=$(host -W 10 "$@" "$first" "$server" 2>&1 | grep 'has address' | sort | tr '\n' ' ')
    case $found in
    *"$server"*) ;;
    *) echo "expected $server, found '$found'" && return 1 ;;
    esac
}
many() {
    good=$(ask "$server" 53 A "$first" 300)
    [ "$good" = 300 ] || { echo "expected 300 answers, found $good"; return 1; }
}
check "the server's names give its address, as before" answers
for first in $names; do
    [ "$(ask "$server" 53 A "$first")" != "NOERROR $server" ] || break
done
check 'a name that does not exist, as before' code nothing A "nothing.$first"
check 'a kind of record that the name lacks, as before' code lacking AAAA "$first"
check 'a foreign name, as before' code foreign A patchlab.example.org
if command -v host >/dev/null; then
    check 'the answer over UDP as host sees it' tool
    check 'the answer over TCP as host sees it' tool -T
fi
check '300 questions in a row are answered' many
the_end
