#!/bin/sh
# A name server of the case's own on port 5300, from what is installed, until it is stopped.
set -eu
. "$PATCHLAB_SUITE/lib.sh"
own=${PATCHLAB_ADDRESS_SERVER:-}
[ -n "$own" ] || { echo "the two machines share no segment"; exit 99; }
long=$(printf '%0200d' 7 | tr 0 x)
folder=
if command -v named >/dev/null; then
    # Where its AppArmor profile lets it read.
    folder=$PWD/named
    [ ! -d /var/cache/bind ] || folder=/var/cache/bind/patchlab-interop
    mkdir -p "$folder"
    cat >"$folder/named.conf" <<END
options {
    directory "$folder";
    pid-file none;
    session-keyfile none;
    managed-keys-directory "$folder";
    listen-on port 5300 { $own; };
    listen-on-v6 { none; };
    recursion no;
    dnssec-validation no;
};
controls { };
zone "patchlab.test" { type primary; file "zone"; };
END
    cat >"$folder/zone" <<END
\$TTL 60
@ SOA ns hostmaster 1 60 60 60 60
@ NS ns
@ MX 10 mail
ns A $own
mail A 192.0.2.25
host A 192.0.2.10
host AAAA 2001:db8::10
alias CNAME host
_sip._tcp SRV 5 10 5060 host
text TXT "one two"
long TXT "1$long"
long TXT "2$long"
long TXT "3$long"
many A 192.0.2.1
many A 192.0.2.2
many A 192.0.2.3
END
    named -g -c "$folder/named.conf" >log 2>&1 &
elif command -v dnsmasq >/dev/null; then
    dnsmasq --keep-in-foreground --conf-file=/dev/null --no-hosts --no-resolv --pid-file= --port=5300 --listen-address="$own" --bind-interfaces \
        --user=root --local=/patchlab.test/ --mx-host=patchlab.test,mail.patchlab.test,10 --host-record=mail.patchlab.test,192.0.2.25 \
        --host-record=host.patchlab.test,192.0.2.10,2001:db8::10 --cname=alias.patchlab.test,host.patchlab.test \
        --srv-host=_sip._tcp.patchlab.test,host.patchlab.test,5060,5,10 --txt-record='text.patchlab.test,one two' \
        --txt-record="long.patchlab.test,1$long" --txt-record="long.patchlab.test,2$long" --txt-record="long.patchlab.test,3$long" \
        --host-record=many.patchlab.test,192.0.2.1 --host-record=many.patchlab.test,192.0.2.2 --host-record=many.patchlab.test,192.0.2.3 \
        >log 2>&1 &
else
    not_here "neither named nor dnsmasq is installed"
fi
server=$!
trap 'kill $server 2>/dev/null; [ -z "$folder" ] || rm -rf "$folder"' EXIT
trap 'exit 0' TERM INT
tries=0
until awk '$4 == "07" && substr($2, length($2) - 4) == ":14B4" { found = 1 } END { exit !found }' /proc/net/udp; do
    tries=$((tries + 1))
    if [ $tries -ge 200 ] || ! kill -0 $server 2>/dev/null; then
        tail -n 5 log
        echo "a name server of the case's own did not start"
        exit 1
    fi
    sleep 0.1
done
: >"$kept-here"
: >"$PATCHLAB_READY"
wait $server || { tail -n 5 log; echo "the name server ended by itself"; exit 1; }
