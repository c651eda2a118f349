#!/bin/sh
# Watches the mailbox of a user of the running mail server, and tells the client what arrived there, until it is stopped. Messages of
# the case are taken out again.
set -eu
. "$PATCHLAB_SUITE/lib.sh"
listens() {
    awk -v port="$(printf :%04X "$1")" '$4 == "0A" && $2 !~ /^(0100007F|0{24}01000000):/ && substr($2, length($2) - 4) == port { found = 1 }
        END { exit !found }' /proc/net/tcp /proc/net/tcp6 2>/dev/null
}
if listens 587; then port=587; elif listens 25; then port=25; else not_here "no mail server listens on port 587 or 25"; fi
as_before 'the port' $port
user=$(awk -F: '$3 >= 1000 && $3 < 60000 { print $1; exit }' /etc/passwd)
[ -n "$user" ] || not_here "the machine has no ordinary user to whom mail could be sent"
home=$(getent passwd "$user" | cut -d: -f6)
domain=
if command -v postconf >/dev/null; then domain=$(postconf -hx myhostname 2>/dev/null || true); fi
domain=${domain:-$(hostname -f 2>/dev/null || hostname)}

# As the whole file for mbox, as files of their own for Maildir.
mbox=/var/mail/$user
had_mbox=
if [ -e "$mbox" ]; then
    had_mbox=yes
    cp -p "$mbox" kept
fi
clear_up() {
    trap '' TERM INT
    if [ -n "$had_mbox" ]; then cp -p kept "$mbox"; else rm -f "$mbox"; fi
    for folder in new cur; do
        grep -lr '^X-Patchlab-Interop:' "$home/Maildir/$folder" 2>/dev/null | while read -r file; do rm -f "$file"; done
    done
}
trap clear_up EXIT
trap 'exit 0' TERM INT
PATCHLAB_MBOX=$mbox PATCHLAB_MAILDIR=$home/Maildir perl -MIO::Socket::INET -e '
    my $at = IO::Socket::INET->new(LocalAddr => $ARGV[0], LocalPort => $ARGV[1], Listen => 5, ReuseAddr => 1) or die "port $ARGV[1]: $!\n";
    open my $ready, ">", $ARGV[2] or die "$ARGV[2]: $!\n"; close $ready;
    while (my $peer = $at->accept) {
        print {$peer} "$ARGV[3]\n$ARGV[4]\n";
        local $/;
        for my $path ($ENV{PATCHLAB_MBOX}, glob("$ENV{PATCHLAB_MAILDIR}/new/* $ENV{PATCHLAB_MAILDIR}/cur/*")) {
            open my $file, "<", $path or next; binmode $file; my $all = <$file>; print {$peer} $all;
        }
        close $peer;
    }
' "$PATCHLAB_ADDRESS_SERVER" "$handout" "$PATCHLAB_READY" "$port" "$user@$domain" &
: >"$kept-here"
wait $!
