# Shared by the scripts of this suite.
# TAP: check NAME COMMAND... is ok when the command succeeds; what it printed says why it did not.
number=0
check() {
    number=$((number + 1)) named=$1
    shift
    if said=$("$@" 2>&1); then
        echo "ok $number - $named"
    else
        echo "not ok $number - $named"
        printf '%s\n' "$said" | tail -n 6 | sed 's/^/# /'
    fi
}
the_end() { echo "1..$number"; }

kept=$PATCHLAB_KEEP/$PATCHLAB_SUITE_NAME-$PATCHLAB_CASE-$PATCHLAB_ROLE
# as_before WHAT FOUND: whether what is found now was found on the unpatched machines too.
as_before() {
    if [ "$PATCHLAB_PHASE" = baseline ]; then
        printf '%s\n' "$2" >"$kept-$1"
    elif [ -e "$kept-$1" ] && [ "$2" != "$(cat "$kept-$1")" ]; then
        echo "$1: expected '$(cat "$kept-$1")' as before the patch, found '$2'"
        return 1
    fi
}
# not_here REASON: skipped where the software never was, a failure where it was there before the patch.
not_here() {
    [ "$PATCHLAB_PHASE" = baseline ] || [ ! -e "$kept-here" ] || { echo "$1; it did before the patch"; exit 1; }
    echo "$1"
    exit 77
}
# The machine that runs the peers: its address, as the one that is asked for.
address_of() {
    case $1 in
    server) echo "${PATCHLAB_ADDRESS_SERVER:-}" ;;
    client) echo "${PATCHLAB_ADDRESS_CLIENT:-}" ;;
    esac
}
# dial ADDRESS:PORT ARGUMENT...: one TLS connection and one request on it; what openssl says of it is in `said`.
dial() {
    at=$1
    shift
    printf 'GET /page HTTP/1.0\r\nHost: patchlab\r\n\r\n' |
        timeout 20 openssl s_client -connect "$at" -ign_eof "$@" >said 2>&1
}
# why: what openssl says of a connection that failed, in one line without its numbers.
why() { grep -m 1 -iE 'alert|error:|verify error|errno' said | sed 's/^[0-9A-F]*:error:[0-9A-F]*://; s/^.*routines:[^:]*://; s/:ssl.*$//; s/:\.\.\/.*$//' || tail -n 1 said; }
# version: of the connection made last, such as TLSv1.3; nothing when there was none.
version() {
    grep -qE '^(New|Reused), [^,]*, Cipher is [A-Z]' said || return 0
    { sed -n 's/^ *Protocol *: //p' said; sed -n 's/^[NR][a-z]*, \(TLSv1.3\), .*/\1/p' said; } | head -n 1
}
# handshakes COUNT URL ARGUMENT...: that many connections, each with a whole handshake.
handshakes() {
    count=$1 url=$2
    shift 2
    good=$(curl -sS --noproxy '*' --max-time 30 --no-sessionid -H 'Connection: close' "$@" -o /dev/null \
        -w '%{num_connects} %{http_code}\n' "$url?[1-$count]" 2>failures | grep -c '^1 [1-5]')
    [ "$good" = "$count" ] || { head -n 3 failures; echo "expected $count handshakes, found $good"; return 1; }
}
