#!/bin/sh
# Lets new keys into an account of this machine and hands them out, until it is stopped.
#   account.sh            for the running sshd
#   account.sh servers    also starts servers that know little, as older and newer ones do
set -eu
. "$PATCHLAB_SUITE/lib.sh"
port=$(sshd -T 2>/dev/null | awk '$1 == "port" { print $2; exit }')
awk -v port="$(printf :%04X "${port:-22}")" '$4 == "0A" && substr($2, length($2) - 4) == port { found = 1 } END { exit !found }' \
    /proc/net/tcp /proc/net/tcp6 2>/dev/null || not_here "nothing listens on sshd's port ${port:-22}"

user=$(awk -F: '$3 >= 1000 && $3 < 60000 && $7 ~ "/(ba|da|z)?sh$" { print $1; exit }' /etc/passwd)
user=${user:-root}
home=$(getent passwd "$user" | cut -d: -f6)
keys=$home/.ssh/authorized_keys
had_folder=yes
[ -d "$home/.ssh" ] || had_folder=
servers=
clear_up() {
    trap '' TERM INT
    # A list of process ids.
    # shellcheck disable=SC2086
    [ -z "$servers" ] || kill $servers 2>/dev/null || true
    if [ -e kept ]; then cp -p kept "$keys"; else rm -f "$keys"; fi
    [ -n "$had_folder" ] || rmdir "$home/.ssh" 2>/dev/null || true
}
if [ -e "$keys" ]; then cp -p "$keys" kept; fi
trap clear_up EXIT
mkdir out
for kind in ed25519 ecdsa rsa; do
    bits=
    [ $kind != rsa ] || bits='-b 2048'
    # shellcheck disable=SC2086
    ssh-keygen -q -t $kind $bits -N '' -C patchlab -f out/$kind
done
printf '%s\n%s\n' "$user" "${port:-22}" >out/account
mkdir -p "$home/.ssh"
cat out/*.pub >>"$keys"
[ -n "$had_folder" ] || chown "$user:" "$home/.ssh"
chmod 700 "$home/.ssh" && chmod 600 "$keys" && chown "$user:" "$keys"

# small PORT KEY-KIND KEX CIPHER MAC HOST-KEY-ALGORITHM: an sshd that knows only these.
small() {
    [ -e "host-$2" ] || ssh-keygen -q -t "$2" -b "$([ "$2" = rsa ] && echo 2048 || echo 256)" -N '' -f "host-$2"
    cat >"$1.conf" <<END
Port $1
ListenAddress $PATCHLAB_ADDRESS_SERVER
HostKey $PWD/host-$2
KexAlgorithms $3
Ciphers $4
MACs $5
HostKeyAlgorithms $6
AuthorizedKeysFile $PWD/allowed
PermitRootLogin prohibit-password
StrictModes no
PidFile none
UsePAM no
END
    if ! /usr/sbin/sshd -f "$PWD/$1.conf" -t 2>"$1.log"; then
        tail -n 1 "$1.log" >"out/cannot-$1"
        return 0
    fi
    /usr/sbin/sshd -f "$PWD/$1.conf" -D -e 2>>"$1.log" &
    servers="$servers $!"
    until grep -q '^Server listening' "$1.log"; do
        kill -0 $! 2>/dev/null || { cat "$1.log"; echo "an sshd of the case's own did not start on port $1"; exit 1; }
        sleep 0.1
    done
}
if [ "${1:-}" = servers ]; then
    cat out/*.pub >allowed
    small 2201 ecdsa ecdh-sha2-nistp256 aes128-ctr hmac-sha2-256 ecdsa-sha2-nistp256
    small 2202 rsa diffie-hellman-group14-sha256 aes256-ctr hmac-sha1 rsa-sha2-256
    small 2203 rsa diffie-hellman-group14-sha1 aes128-cbc hmac-sha1 ssh-rsa
    small 2204 ed25519 sntrup761x25519-sha512@openssh.com chacha20-poly1305@openssh.com umac-128-etm@openssh.com ssh-ed25519
fi
trap 'exit 0' TERM INT
tar -C out -cf keys.tar .
perl -MIO::Socket::INET -e '
    my $at = IO::Socket::INET->new(LocalAddr => $ARGV[0], LocalPort => $ARGV[1], Listen => 5, ReuseAddr => 1) or die "port $ARGV[1]: $!\n";
    open my $ready, ">", $ARGV[2] or die; close $ready;
    while (my $peer = $at->accept) { open my $file, "<", "keys.tar" or die; binmode $file; local $/; my $all = <$file>; print {$peer} $all; close $peer }
' "$PATCHLAB_ADDRESS_SERVER" "$handout" "$PATCHLAB_READY" &
: >"$kept-here"
wait $!
