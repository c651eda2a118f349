#!/bin/sh
set -u
. "$PATCHLAB_SUITE/lib.sh"
account || { echo "Bail out! the server hands out no account"; exit 1; }
taken() {
    what=$1
    shift
    if smb 'get page got' "$@" && cmp -s got page; then found=taken; else found="refused: $(status)"; fi
    as_before "$what" "$found"
}
plain() { smb 'get page' || { echo "found $(status): $(tail -n 1 said)"; return 1; }; }
check 'client and server as they are agree' plain
for version in NT1 SMB2_02 SMB2_10 SMB3_00 SMB3_02 SMB3_11; do
    check "a client with $version only, as before" taken $version --option="client min protocol=$version" --option="client max protocol=$version"
done
for protection in off sign encrypt; do
    check "a client with protection '$protection', as before" taken "protection $protection" --client-protection=$protection
done
check 'a client of SMB 2.1 that signs, as before' taken 'SMB2_10 signed' --option='client max protocol=SMB2_10' --client-protection=sign
the_end
