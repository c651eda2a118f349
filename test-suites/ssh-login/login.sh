#!/bin/sh
set -u
. "$PATCHLAB_SUITE/lib.sh"
fetch || { echo "Bail out! the server hands out no keys"; exit 1; }
server=$PATCHLAB_NAME_SERVER
milliseconds() { date +%s%N | cut -c1-13; }

by_key() {
    found=$(login "$1" "$server" id -un) || return 1
    [ "$found" = "$user" ] || { echo "expected to be $user, found '$found'"; return 1; }
}
# The middle one of five. The patched side is held to a multiple of the baseline: a busy host must not look like a slow sshd.
latency() {
    for _ in 1 2 3 4 5; do
        start=$(milliseconds)
        login ed25519 "$server" true || return 1
        echo $(($(milliseconds) - start))
    done | sort -n >logins
    took=$(sed -n 3p logins)
    [ -n "$took" ] || { echo "not every login succeeded"; return 1; }
    allowed=30000
    if [ "$PATCHLAB_PHASE" = baseline ]; then
        echo "$took" >"$kept-login-ms"
    elif [ -s "$kept-login-ms" ]; then
        allowed=$(($(cat "$kept-login-ms") * 2 + 1500))
    fi
    echo "expected a login within $allowed ms, found $took ms"
    [ "$took" -le "$allowed" ]
}
exit_code() {
    code=0
    shared 'exit 7' || code=$?
    [ $code = 7 ] || { echo "expected exit code 7, found $code"; return 1; }
}
input() {
    expected=$(sha256sum <data)
    found=$(shared sha256sum <data) || return 1
    [ "$found" = "$expected" ] || { echo "input did not arrive as it was sent"; return 1; }
}
output() { shared 'head -c 1000000 /dev/zero' | cmp - zeros; }
terminal() {
    found=$(shared -tt 'test -t 0 && printf "a terminal"' </dev/null | tr -d '\r')
    [ "$found" = 'a terminal' ] || { echo "found '$found'"; return 1; }
}
# Those that follow share one connection: a handshake each would take most of the time.
shared() { login ed25519 -o ControlPath="$PWD/shared" "$server" "$@"; }
# shellcheck disable=SC2086
copied() {
    there=/tmp/patchlab-interop.$$
    scp -q $options -o ControlPath="$PWD/shared" -P "$port" -i keys/ed25519 data "$user@$server:$there" &&
        printf 'get %s back\nrm %s\n' "$there" "$there" |
        sftp -q $options -o ControlPath="$PWD/shared" -P "$port" -i keys/ed25519 -b - "$user@$server" >/dev/null && cmp data back
}
stranger() {
    ssh-keygen -q -t ed25519 -N '' -f keys/stranger
    ! login stranger "$server" true 2>answer || { echo "an unknown key is let in"; return 1; }
    grep -q 'Permission denied' answer || { cat answer; echo "expected 'Permission denied'"; return 1; }
}

head -c 1000000 /dev/urandom >data
head -c 1000000 /dev/zero >zeros
check 'an Ed25519 key logs in' by_key ed25519
check 'an ECDSA key logs in' by_key ecdsa
check 'an RSA key logs in' by_key rsa
check 'a login takes about as long as before' latency
check 'an unknown key is refused' stranger
# shellcheck disable=SC2086
login ed25519 -o ControlPath="$PWD/shared" -o ControlMaster=yes -o ControlPersist=60 "$server" true
check 'an exit code comes back' exit_code
check 'input is passed on' input
check 'output comes back' output
check 'a terminal is given' terminal
check 'files are copied there by scp and back by sftp' copied
ssh -o ControlPath="$PWD/shared" -O exit "$server" 2>/dev/null
the_end
