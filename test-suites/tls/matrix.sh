#!/bin/sh
# Reaches each of the TLS servers that peers.sh started.
#   matrix.sh ROLE    the role of their machine
set -u
. "$PATCHLAB_SUITE/lib.sh"
peer=$(address_of "$1")
[ -n "$peer" ] || { echo "the two machines share no segment"; exit 99; }
curl() { command curl --resolve "peer.patchlab.test:4430:$peer" --resolve "peer.patchlab.test:4431:$peer" --cacert authority.pem "$@"; }
take() { command curl -sS -k -f --noproxy '*' --max-time 30 -o "$1" "https://$peer:4430/$1"; }
for file in authority.pem user.pem user.key sums; do
    take "$file" || { echo "Bail out! no TLS connection to $peer at all"; exit 1; }
done
trusting="-CAfile authority.pem -verify_return_error -verify_hostname peer.patchlab.test"
# Options are lists of words here.
# shellcheck disable=SC2086
connects() { # PORT VERSION ARGUMENT...
    port=$1 expected=$2
    shift 2
    dial "$peer:$port" $trusting "$@" || { echo "expected a $expected connection, found: $(why)"; return 1; }
    [ "$(version)" = "$expected" ] || { echo "expected $expected, found '$(version)'"; return 1; }
    grep -qE '^(a page|.*200 ok)' said || { echo "no answer came over the connection"; return 1; }
}
# shellcheck disable=SC2086
refused() { # PORT ARGUMENT...
    port=$1
    shift
    ! dial "$peer:$port" $trusting "$@" || { echo "expected a refusal, found a $(version) connection"; return 1; }
}
resumes() { # VERSION ARGUMENT...
    rm -f session
    connects 4430 "$@" -sess_out session && [ -s session ] || { echo "the server gave no session"; return 1; }
    connects 4430 "$@" -sess_in session && grep -q '^Reused' said || { echo "expected the session to be resumed, found a new one"; return 1; }
}
distrusts() { # PORT ARGUMENT...
    port=$1
    shift
    ! dial "$peer:$port" -verify_return_error "$@" || { echo "the certificate is accepted"; return 1; }
    grep -qiE 'verify (error|failed)|verify return:0|certificate verify failed' said || { echo "refused for another reason: $(why)"; return 1; }
}
large() {
    curl -sS -f --noproxy '*' --max-time 60 "$@" -o large https://peer.patchlab.test:4430/large && sha256sum -c --status sums ||
        { echo "2 MB did not arrive as they are there"; return 1; }
}
ancient() { if dial "$peer:4438" -tls1 -cipher ALL:@SECLEVEL=0; then found=$(version); else found=refused; fi; as_before 'TLS 1.0' "$found"; }
by_default() { if dial "$peer:4438"; then found=$(version); else found=refused; fi; as_before 'a TLS 1.0 peer by default' "$found"; }

check 'both current: TLS 1.3' connects 4430 TLSv1.3
check 'this side up to TLS 1.2' connects 4430 TLSv1.2 -tls1_2
check 'a peer with TLS 1.2 only' connects 4432 TLSv1.2
check 'a peer with TLS 1.3 only' connects 4433 TLSv1.3
check 'no common version, peer older: refused' refused 4432 -tls1_3
check 'no common version, peer newer: refused' refused 4433 -tls1_2
check 'an old peer: CBC and SHA-1, one curve, no tickets' connects 4434 TLSv1.2
check 'a peer with an RSA key and finite-field Diffie-Hellman' connects 4435 TLSv1.2 -cipher DHE-RSA-AES128-GCM-SHA256
check 'a peer with an RSA key and RSA key exchange' connects 4435 TLSv1.2 -cipher AES128-GCM-SHA256
for cipher in ECDHE-ECDSA-AES128-GCM-SHA256 ECDHE-ECDSA-AES256-GCM-SHA384 ECDHE-ECDSA-CHACHA20-POLY1305 ECDHE-ECDSA-AES128-SHA256; do
    check "TLS 1.2 with $cipher" connects 4430 TLSv1.2 -tls1_2 -cipher "$cipher"
done
for suite in TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384 TLS_CHACHA20_POLY1305_SHA256; do
    check "TLS 1.3 with $suite" connects 4430 TLSv1.3 -ciphersuites "$suite"
done
for group in X25519 P-256 P-384; do
    check "TLS 1.3 with the group $group" connects 4430 TLSv1.3 -groups "$group"
done
check 'a TLS 1.2 session is resumed' resumes TLSv1.2 -tls1_2
check 'a TLS 1.3 session is resumed' resumes TLSv1.3
check 'a peer that wants a certificate gets it' connects 4436 TLSv1.3 -cert user.pem -key user.key
check 'a peer that wants a certificate refuses without' refused 4436 -tls1_2
check 'a certificate of a stranger is refused' distrusts 4430 -CAfile user.pem
check 'a certificate for another name is refused' distrusts 4430 -CAfile authority.pem -verify_hostname other.patchlab.test
check 'an expired certificate is refused' distrusts 4437 -CAfile authority.pem
check 'TLS 1.0 is answered as before when asked for' ancient
check 'TLS 1.0 is answered as before by default' by_default
check '2 MB over TLS 1.2 arrive unchanged' large --tls-max 1.2
check '2 MB over TLS 1.3 arrive unchanged' large --tlsv1.3
check '150 handshakes with TLS 1.2' handshakes 150 https://peer.patchlab.test:4431/ --tls-max 1.2
check '150 handshakes with TLS 1.3' handshakes 150 https://peer.patchlab.test:4431/ --tlsv1.3
the_end
