#!/bin/sh
# Gives the machine's resolver the server as its name server, in the way the system keeps it; afterwards all is as it was.
set -u
. "$PATCHLAB_SUITE/lib.sh"
server=$PATCHLAB_ADDRESS_SERVER
active() { systemctl --quiet is-active "$1" 2>/dev/null; }
if active systemd-resolved.service; then
    way=resolved file=/etc/systemd/resolved.conf.d/patchlab-interop.conf
elif active NetworkManager.service; then
    way=manager file=/etc/NetworkManager/conf.d/patchlab-interop.conf
else
    way=plain file=/etc/resolv.conf
fi
network=
for unit in systemd-networkd.service NetworkManager.service networking.service; do
    if active $unit; then network="$network $unit"; fi
done
[ -n "$network" ] || not_here "no service keeps this system's network: expected systemd-networkd, NetworkManager or networking"

reload() {
    case $way in
    resolved) systemctl restart systemd-resolved.service ;;
    manager) systemctl reload NetworkManager.service ;;
    esac
}
put_back() {
    rm -f "$file"
    if [ -e kept ] || [ -L kept ]; then cp -Pp kept "$file"; fi
    reload
}
if [ -e "$file" ] || [ -L "$file" ]; then cp -Pp "$file" kept; fi
trap put_back EXIT
trap 'exit 1' TERM INT
mkdir -p "$(dirname "$file")"
rm -f "$file"
case $way in
resolved) printf '[Resolve]\nDNS=%s\nDomains=~.\n' "$server" >"$file" ;;
manager) printf '[global-dns-domain-*]\nservers=%s\n' "$server" >"$file" ;;
plain) printf 'nameserver %s\noptions timeout:3 attempts:2\n' "$server" >"$file" ;;
esac
reload

# By DNS alone: the lab wrote the same names into /etc/hosts.
resolves() {
    for name in $(server_names); do
        found=$(timeout 30 getent -s dns ahostsv4 "$name" | awk 'NR == 1 { print $1 }')
        [ "$found" != "$server" ] || return 0
    done
    echo "expected $server for one of $(server_names | tr '\n' ' '), found '$found'"
    return 1
}
by_order() {
    order=$(sed -n 's/^hosts:[[:space:]]*//p' /etc/nsswitch.conf)
    case " $order " in
    *' dns '* | *' resolve '*) ;;
    *) echo "/etc/nsswitch.conf asks no name server for hosts: '$order'" && return 1 ;;
    esac
}
nothing() {
    start=$(date +%s)
    ! timeout 30 getent -s dns ahostsv4 nothing.patchlab.invalid >found || { echo "found $(head -n 1 found)"; return 1; }
    [ $(($(date +%s) - start)) -le 15 ] || { echo "it took $(($(date +%s) - start)) s to say that a name does not exist"; return 1; }
}
restart() {
    # shellcheck disable=SC2086
    timeout 60 systemctl restart $network || { echo "could not restart$network"; return 1; }
    tries=0
    until ip -o -4 address show up | grep -qF " $PATCHLAB_ADDRESS_CLIENT/" && ip route get "$server" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 60 ] || { echo "the address $PATCHLAB_ADDRESS_CLIENT did not come back within 30 s"; return 1; }
        sleep 0.5
    done
}
keeps() {
    case $way in
    plain) grep -qx "nameserver $server" "$file" || { echo "$file lost its server: '$(head -n 1 "$file")'"; return 1; } ;;
    *) resolves ;;
    esac
}
check 'hosts are looked up by DNS' by_order
check 'a name is found by the new server' resolves
check 'a name that does not exist is not found, soon' nothing
check 'the network service restarts and brings the address back' restart
check 'the resolver still has its server' keeps
check 'a name is found after the restart' resolves
the_end
