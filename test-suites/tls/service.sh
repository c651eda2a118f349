#!/bin/sh
# What the server's HTTPS service does for the clients that there are: whom it took before the patch it has to take still.
set -u
. "$PATCHLAB_SUITE/lib.sh"
server=$PATCHLAB_ADDRESS_SERVER:443
if ! dial "$server" && ! grep -q '^CONNECTED' said; then
    not_here "nothing answers on port 443 of the server"
fi
: >"$kept-here"
sed -n '/^-----BEGIN CERT/,/^-----END CERT/p' said >service.pem
# A client that trusts this very certificate asks for a name that is in it.
name=$(openssl x509 -in service.pem -noout -ext subjectAltName 2>/dev/null | sed -n 's/.*DNS:\([^, ]*\).*/\1/p' | head -n 1)
[ -n "$name" ] || name=$(openssl x509 -in service.pem -noout -subject -nameopt multiline 2>/dev/null | sed -n 's/ *commonName *= //p')
name=${name:-$PATCHLAB_ADDRESS_SERVER}
trusting="--cacert service.pem --resolve $name:443:$PATCHLAB_ADDRESS_SERVER"

current() {
    dial "$server" && [ -n "$(version)" ] || { echo "expected a connection with what both can, found: $(why)"; return 1; }
    as_before 'the version agreed on' "$(version)"
}
# taken WHAT ARGUMENT...: a client that can only do this.
taken() {
    what=$1
    shift
    if dial "$server" "$@"; then found=$(version); else found=; fi
    as_before "$what" "${found:-refused}"
}
# shellcheck disable=SC2086
trusted() { curl -sS --noproxy '*' --max-time 20 $trusting -o /dev/null "https://$name/"; }
as_trusted() {
    if trusted 2>failure; then found=accepted; else found=refused; cat failure; fi
    as_before "the service's certificate" "$found"
}
resumed() {
    what=$1
    shift
    rm -f session
    dial "$server" "$@" -sess_out session
    [ ! -s session ] || dial "$server" "$@" -sess_in session
    if grep -q '^Reused' said; then found=resumed; else found='not resumed'; fi
    as_before "$what" "$found"
}
# Only with a version that the service takes. The one certificate is named so that curl does not read all that are trusted each time.
# shellcheck disable=SC2086
many() {
    dial "$server" "-$1" || return 0
    handshakes 150 "https://$name/" $trusting -k "--tlsv$2" --tls-max "$2"
}
check 'a current client is taken' current
for version in tls1 tls1_1 tls1_2 tls1_3; do
    check "a client with $version only is treated as before" taken "$version" "-$version" -cipher DEFAULT:@SECLEVEL=0
done
check 'a client with AES-GCM only, as before' taken 'AES-GCM' -tls1_2 -cipher ECDHE+AESGCM
check 'a client with ChaCha20 only, as before' taken 'ChaCha20' -tls1_2 -cipher ECDHE+CHACHA20
check 'an old client with CBC and SHA-1 only, as before' taken 'CBC and SHA-1' -tls1_2 -cipher ECDHE+AES+SHA1:@SECLEVEL=0 -groups P-256
check 'an old client without forward secrecy, as before' taken 'RSA key exchange' -tls1_2 -cipher kRSA+AES:@SECLEVEL=0
check 'a client with the group X25519 only, as before' taken 'X25519' -groups X25519
check 'a client with the group P-256 only, as before' taken 'P-256' -groups P-256
check 'the certificate is accepted by name, as before' as_trusted
check 'a TLS 1.2 session is resumed, as before' resumed 'TLS 1.2 resumption' -tls1_2
check 'a TLS 1.3 session is resumed, as before' resumed 'TLS 1.3 resumption' -tls1_3
check '150 handshakes with TLS 1.2' many tls1_2 1.2
check '150 handshakes with TLS 1.3' many tls1_3 1.3
the_end
