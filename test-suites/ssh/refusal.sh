#!/bin/sh
. "$PATCHLAB_SUITE/lib.sh"
ssh-keygen -q -t ed25519 -N '' -f stranger
# shellcheck disable=SC2086
if ssh $options -p "$port" -i stranger "$user@127.0.0.1" true 2>answer; then
    echo "an unknown key is let in"
    exit 1
fi
grep -q 'Permission denied' answer || { cat answer; echo "the refusal is not one"; exit 1; }
