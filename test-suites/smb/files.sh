#!/bin/sh
set -u
. "$PATCHLAB_SUITE/lib.sh"
account || { echo "Bail out! the server hands out no account"; exit 1; }
odd='a name with blanks and ü.txt'
head -c 1500000 /dev/urandom >mine
echo 'odd' >"$odd"

works() { smb "$@" || { echo "found $(status): $(tail -n 1 said)"; return 1; }; }
listed() {
    timeout 60 smbclient -L "$PATCHLAB_NAME_SERVER" -p "$port" -A login >said 2>&1
    grep -q "$share" said || { echo "the share is not in the server's list: $(tail -n 1 said)"; return 1; }
}
download() { works 'get large; get page' && sha256sum -c --status sums || { echo "what came differs from what the server has"; return 1; }; }
upload() { works 'put mine; get mine back' && cmp mine back; }
folders() {
    works "mkdir folder; cd folder; put \"$odd\"; rename \"$odd\" plain.txt; get plain.txt plain; ls" &&
        cmp "$odd" plain && grep -q plain.txt said || { echo "the file in the folder is not what it was"; return 1; }
}
removal() {
    works 'cd folder; rm plain.txt; cd ..; rmdir folder; rm mine; ls' || return 1
    ! grep -qE ' (folder|mine) ' said || { echo "removed files are still there"; return 1; }
}
# refused EXPECTED...: by the server, for this reason.
refused() {
    expected=$1
    shift
    ! "$@" || { echo "expected $expected, found that it is let in"; return 1; }
    [ "$(status)" = "$expected" ] || { echo "expected $expected, found $(status): $(tail -n 1 said)"; return 1; }
}
elsewhere() { share=patchlab-nothing && smb ls; }
anonymous() {
    if timeout 60 smbclient "//$PATCHLAB_NAME_SERVER/$share" -p "$port" -N -c ls >said 2>&1; then found='let in'; else found=$(status); fi
    as_before 'without an account' "$found"
}
stranger() { timeout 60 smbclient "//$PATCHLAB_NAME_SERVER/$share" -p "$port" -A wrong -c ls >said 2>&1; }
check 'the share is in the list' listed
check 'files arrive unchanged' download
check 'a file is stored unchanged' upload
check 'folders, renaming, names with blanks and umlauts' folders
check 'files and folders are removed' removal
check 'a wrong password is refused' refused NT_STATUS_LOGON_FAILURE stranger
check 'a share that is not there is refused' refused NT_STATUS_BAD_NETWORK_NAME elsewhere
check 'without an account, as before' anonymous
the_end
