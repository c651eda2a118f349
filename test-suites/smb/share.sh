#!/bin/sh
# A share and an account for it, in the running file server or else in one of the case's own, until it is stopped.
set -eu
. "$PATCHLAB_SUITE/lib.sh"
share=patchlab-interop
folder=/var/tmp/$share
user=$(awk -F: '$3 >= 1000 && $3 < 60000 { print $1; exit }' /etc/passwd)
[ -n "$user" ] || not_here "the machine has no ordinary user to whom the share could be given"
if awk '$4 == "0A" && substr($2, length($2) - 4) == ":01BD" { found = 1 } END { exit !found }' /proc/net/tcp /proc/net/tcp6 2>/dev/null; then
    how='the running file server' port=445 conf=$(smbd -b | sed -n 's/^ *CONFIGFILE: //p')
else
    how="a file server of the case's own, for nothing listens on port 445" port=4450 conf=$PWD/smb.conf
fi
as_before 'exercised is' "$how"

server=
clear_up() {
    trap '' TERM INT
    if [ $port = 445 ]; then net usershare delete $share >/dev/null 2>&1 || true; fi
    smbpasswd -c "$conf" -x "$user" >/dev/null 2>&1 || true
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    rm -rf $folder
}
rm -rf $folder
if [ $port = 4450 ]; then
    mkdir -m 755 state
    testparm -s 2>/dev/null | awk '/^\[/ { global = $0 == "[global]"; next } global' |
        grep -viE '^[[:space:]]*(log |logging|pid |lock |state |cache |private |smb passwd|passdb|ncalrpc|interfaces|bind |smb ports|include|registry)' \
        >global || true
    {
        echo '[global]'
        cat global
        for key in 'pid directory' 'lock directory' 'state directory' 'cache directory' 'private dir' 'ncalrpc dir'; do
            echo "    $key = $PWD/state"
        done
        printf '    log file = %s/log.smbd\n    logging = file\n    smb ports = 4450\n    passdb backend = tdbsam:%s/state/passdb.tdb\n' "$PWD" "$PWD"
        printf '[%s]\n    path = %s\n    read only = no\n' $share $folder
    } >smb.conf
elif pdbedit -L 2>/dev/null | grep -q "^$user:"; then
    not_here "the user $user has a password for file shares already, which must not be changed"
fi
trap clear_up EXIT
trap 'exit 0' TERM INT
mkdir -m 700 $folder
head -c 2000000 /dev/urandom >$folder/large
echo 'a page' >$folder/page
chown -R "$user:" $folder
password=$(head -c 15 /dev/urandom | base64)
printf '%s\n%s\n' "$password" "$password" | smbpasswd -c "$conf" -s -a "$user" >log 2>&1 || { cat log; echo "could not give $user a password for file shares"; exit 1; }
if [ $port = 445 ]; then
    net usershare add $share $folder 'a test share' Everyone:F guest_ok=n >log 2>&1 ||
        not_here "the file server lets no share be added (net usershare: $(tail -n 1 log))"
else
    smbd --foreground --no-process-group --configfile="$conf" >log 2>&1 &
    server=$!
    tries=0
    until awk '$4 == "0A" && substr($2, length($2) - 4) == ":1162" { found = 1 } END { exit !found }' /proc/net/tcp; do
        tries=$((tries + 1))
        if [ $tries -ge 200 ] || ! kill -0 $server 2>/dev/null; then
            tail -n 5 log log.smbd 2>/dev/null
            echo "an smbd of the case's own did not start"
            exit 1
        fi
        sleep 0.1
    done
fi
{
    printf '%s\n%s\n%s\n' $port $share "$(testparm -s --parameter-name=workgroup 2>/dev/null || echo WORKGROUP)"
    printf 'username = %s\npassword = %s\n' "$user" "$password"
    (cd $folder && sha256sum large page)
} >handed
chmod 600 handed
hand_out handed
