#!/bin/sh
# One TLS server for each kind of peer, with certificates of an authority of their own, until it is stopped.
#   peers.sh ROLE     the role that this machine plays
set -eu
. "$PATCHLAB_SUITE/lib.sh"
own=$(address_of "$1")
[ -n "$own" ] || { echo "the two machines share no segment"; exit 99; }

# The dates are fixed, so that clocks that differ by seconds do not matter.
cat >authority.conf <<'END'
[ca]
default_ca = authority
[authority]
new_certs_dir = .
database = index
serial = serial
default_md = sha256
policy = any
copy_extensions = copy
unique_subject = no
[any]
commonName = supplied
[req]
distinguished_name = name
[name]
[root]
basicConstraints = critical,CA:true
keyUsage = critical,keyCertSign
END
: >index
# authority NAME / issue NAME CN [START END]
key() {
    case $1 in
    rsa) openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$1.key" ;;
    *) openssl ecparam -name prime256v1 -genkey -noout -out "$1.key" ;;
    esac
}
sign() { openssl ca -batch -notext -config authority.conf -rand_serial "$@" 2>>log; }
request() { openssl req -new -config authority.conf -key "$1.key" -subj "/CN=$2" -out "$1.csr" ${3:+-addext "$3"}; }
authority() {
    key "$1"
    request "$1" "$1"
    sign -selfsign -keyfile "$1.key" -in "$1.csr" -out "$1.pem" -extensions root -startdate 20200101000000Z -enddate 20480101000000Z
}
issue() {
    [ -e "$1.key" ] || key "$1"
    request "$1" "$2" "subjectAltName=DNS:$2"
    sign -cert authority.pem -keyfile authority.key -in "$1.csr" -out "$1.pem" -startdate "${3:-20200101}000000Z" -enddate "${4:-20480101}000000Z"
}
authority authority
# One key for all but the RSA peer: what differs is what is said of it.
for name in peer user expired; do cp authority.key $name.key; done
issue peer peer.patchlab.test
issue rsa peer.patchlab.test
issue user user.patchlab.test
issue expired peer.patchlab.test 20200101 20210101
mkdir served
echo 'a page' >served/page
head -c 2000000 /dev/urandom >served/large
(cd served && sha256sum large >sums)
cp authority.pem user.pem user.key served

ports=
# peer PORT CERTIFICATE ARGUMENT...
peer() {
    port=$1 certificate=$PWD/$2.pem key=$PWD/$2.key
    shift 2
    (cd served && exec openssl s_server -accept "$own:$port" -cert "$certificate" -key "$key" -quiet "$@" </dev/null >>../log 2>&1) &
    ports="$ports $port"
}
peer 4430 peer -WWW
peer 4431 peer -www
peer 4432 peer -WWW -tls1_2
peer 4433 peer -WWW -tls1_3
peer 4434 peer -WWW -tls1_2 -cipher ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA -groups P-256 -no_etm -no_ticket
peer 4435 rsa -WWW -tls1_2 -cipher DHE-RSA-AES128-GCM-SHA256:AES128-GCM-SHA256
peer 4436 peer -WWW -Verify 1 -CAfile ../authority.pem -verify_return_error
peer 4437 expired -WWW
peer 4438 peer -WWW -tls1 -cipher ALL:@SECLEVEL=0
trap 'exit 0' TERM INT
tries=0
for port in $ports; do
    until awk -v port="$(printf :%04X "$port")" '$4 == "0A" && substr($2, length($2) - 4) == port { found = 1 } END { exit !found }' \
        /proc/net/tcp; do
        tries=$((tries + 1))
        [ $tries -lt 200 ] || { tail -n 5 log; echo "nothing listens on port $port: openssl s_server did not start"; exit 1; }
        sleep 0.1
    done
done
: >"$PATCHLAB_READY"
sleep 1000 &
wait $!
