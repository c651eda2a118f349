#!/bin/sh
# Clients that know little against the running sshd, then this client as it is against servers that know little.
set -u
. "$PATCHLAB_SUITE/lib.sh"
fetch || { echo "Bail out! the server hands out no keys"; exit 1; }

# refusal: why, in the client's words.
refusal() { tr -d '\r' <answer | grep . | tail -n 1 | sed 's/^Unable to negotiate with [^:]*: //; s/ Their offer:.*//' | cut -c 1-120; }
# old WHAT KEX CIPHER MAC HOST-KEY-ALGORITHM KEY: a client that knows only these is taken as before.
old() {
    if login "$6" -o KexAlgorithms="$2" -o Ciphers="$3" -o MACs="$4" -o HostKeyAlgorithms="$5" -o PubkeyAcceptedAlgorithms=+ssh-rsa \
        "$PATCHLAB_NAME_SERVER" true 2>answer; then
        found=taken
    else
        found="refused: $(refusal)"
    fi
    as_before "$1" "$found"
}
# this WHAT PORT: whether this client, with nothing said, gets into a server that knows little.
this() {
    user=root port=$2
    if [ -e "keys/cannot-$2" ]; then
        found="no such server: $(cat "keys/cannot-$2")"
    elif login ed25519 "$PATCHLAB_ADDRESS_SERVER" true 2>answer; then
        found=taken
    else
        found="refused: $(refusal)"
    fi
    as_before "$1" "$found"
}
plain() { login ed25519 "$PATCHLAB_NAME_SERVER" true; }
check 'client and server as they are agree' plain
check 'a client of 2012 (OpenSSH 6.0), as before' old 'OpenSSH 6.0' \
    ecdh-sha2-nistp256,diffie-hellman-group14-sha1 aes128-ctr,aes128-cbc hmac-sha1 ecdsa-sha2-nistp256 ecdsa
check 'a client of 2016 (OpenSSH 7.4), as before' old 'OpenSSH 7.4' \
    curve25519-sha256@libssh.org,diffie-hellman-group-exchange-sha256 chacha20-poly1305@openssh.com,aes128-ctr umac-64-etm@openssh.com \
    ecdsa-sha2-nistp256,ssh-ed25519 ed25519
check 'a client with finite-field Diffie-Hellman and SHA-2, as before' old 'Diffie-Hellman' \
    diffie-hellman-group14-sha256,diffie-hellman-group16-sha512 aes256-ctr hmac-sha2-256 ssh-ed25519,ecdsa-sha2-nistp256 rsa
check 'a client with AES-GCM and the post-quantum exchange, as before' old 'post-quantum' \
    sntrup761x25519-sha512@openssh.com aes256-gcm@openssh.com hmac-sha2-512-etm@openssh.com ssh-ed25519 ed25519
check 'a client of before 2010 (CBC, SHA-1, ssh-rsa), as before' old 'before 2010' \
    diffie-hellman-group14-sha1 aes128-cbc hmac-sha1 ssh-rsa rsa
check 'a server with NIST curves and AES-CTR, as before' this 'NIST curves' 2201
check 'a server with RSA keys, Diffie-Hellman and SHA-1 MACs, as before' this 'RSA server' 2202
check 'a server of before 2010 (CBC, SHA-1, ssh-rsa), as before' this 'old server' 2203
check 'a server with the post-quantum exchange and ChaCha20, as before' this 'post-quantum server' 2204
the_end
