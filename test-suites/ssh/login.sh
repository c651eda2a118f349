#!/bin/sh
. "$PATCHLAB_SUITE/lib.sh"
echo 'TAP version 13'
echo '1..7'
number=0
check() {
    number=$((number + 1))
    if [ "$2" = "$3" ]; then echo "ok $number - $1"; else printf 'not ok %s - %s\n# expected %s\n# found %s\n' "$number" "$1" "$2" "$3"; fi
}
milliseconds() { date +%s%N | cut -c1-13; }

# The patched side is held to a multiple of the baseline: a host under load must not look like a slow sshd.
start=$(milliseconds)
share || true
took=$(($(milliseconds) - start))
allowed=30000
if [ "$PATCHLAB_PHASE" = patched ] && [ -s "$PATCHLAB_KEEP/ssh-login-ms" ]; then
    allowed=$(($(cat "$PATCHLAB_KEEP/ssh-login-ms") * 4 + 3000))
elif [ "$PATCHLAB_PHASE" = baseline ]; then
    echo $took >"$PATCHLAB_KEEP/ssh-login-ms"
fi
echo "# the login took $took ms, up to $allowed ms are fine"
check 'a login takes no longer than before' yes "$([ $took -le $allowed ] && echo yes || echo no)"

check 'a command runs as the user' "$user" "$(login id -un 2>&1)"
code=0
login 'exit 7' || code=$?
check 'an exit code comes back' 7 "$code"
expected=$(head -c 300000 /dev/zero | sha256sum)
check 'input is passed on' "$expected" "$(head -c 300000 /dev/zero | login sha256sum 2>&1)"
check 'a terminal is given' 'a terminal' "$(login -tt 'test -t 0 && printf "a terminal"' </dev/null 2>&1 | tr -d '\r')"

head -c 524288 /dev/urandom >file
there=/var/tmp/patchlab-copy.$$
trap 'rm -f "$there"; put_back' EXIT
# shellcheck disable=SC2086
check 'scp copies to the machine' same "$(scp -q $options -P "$port" -i key file "$user@127.0.0.1:$there" 2>&1 && cmp file "$there" 2>&1 && echo same)"
# shellcheck disable=SC2086
check 'sftp copies from the machine' same "$(printf 'get %s back\nrm %s\n' "$there" "$there" | sftp -q $options -P "$port" -i key -b - "$user@127.0.0.1" 2>&1 >/dev/null && cmp file back 2>&1 && echo same)"
