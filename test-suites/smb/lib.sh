# Shared by the scripts of this suite.
# TAP: check NAME COMMAND... is ok when the command succeeds; what it printed says why it did not.
number=0
check() {
    number=$((number + 1)) named=$1
    shift
    if said=$("$@" 2>&1); then
        echo "ok $number - $named"
    else
        echo "not ok $number - $named"
        printf '%s\n' "$said" | tail -n 6 | sed 's/^/# /'
    fi
}
the_end() { echo "1..$number"; }

kept=$PATCHLAB_KEEP/$PATCHLAB_SUITE_NAME-$PATCHLAB_CASE-$PATCHLAB_ROLE
# as_before WHAT FOUND: whether what is found now was found on the unpatched machines too.
as_before() {
    if [ "$PATCHLAB_PHASE" = baseline ]; then
        printf '%s\n' "$2" >"$kept-$1"
    elif [ -e "$kept-$1" ] && [ "$2" != "$(cat "$kept-$1")" ]; then
        echo "$1: expected '$(cat "$kept-$1")' as before the patch, found '$2'"
        return 1
    fi
}
# not_here REASON: skipped where the software never was, a failure where it was there before the patch.
not_here() {
    [ "$PATCHLAB_PHASE" = baseline ] || [ ! -e "$kept-here" ] || { echo "$1; it did before the patch"; exit 1; }
    echo "$1"
    exit 77
}
# The port on which the server hands out what the client has to know: the account of the case is made anew each time.
handout=7045
# hand_out FILE: gives it to whoever asks on $handout, until stopped. Ready from then on.
hand_out() {
    perl -MIO::Socket::INET -e '
        my $at = IO::Socket::INET->new(LocalAddr => $ARGV[0], LocalPort => $ARGV[1], Listen => 5, ReuseAddr => 1) or die "port $ARGV[1]: $!\n";
        open my $ready, ">", $ARGV[2] or die "$ARGV[2]: $!\n"; close $ready;
        open my $file, "<", $ARGV[3] or die "$ARGV[3]: $!\n"; binmode $file; local $/; my $all = <$file>;
        while (my $peer = $at->accept) { print {$peer} $all; close $peer }
    ' "$PATCHLAB_ADDRESS_SERVER" "$handout" "$PATCHLAB_READY" "$1" &
    : >"$kept-here"
    wait $!
}
# fetch: what the server hands out.
fetch() {
    perl -MIO::Socket::INET -e '
        my $from = IO::Socket::INET->new(PeerAddr => $ARGV[0], PeerPort => $ARGV[1], Timeout => 20) or die "no connection to $ARGV[0]:$ARGV[1]: $!\n";
        binmode STDOUT; print while read $from, $_, 65536' "$PATCHLAB_ADDRESS_SERVER" "$handout"
}
# account: for the client, what the server handed out: $port, $share, the file `login`, the file `sums`.
account() {
    fetch >handed && sed -n '4,5p' handed >login && sed -n '6,$p' handed >sums || return 1
    { read -r port && read -r share && read -r workgroup; } <handed
    printf 'domain = %s\n' "$workgroup" >>login
    printf 'username = %s\npassword = wrong\n' "$(sed -n 's/^username = //p' login)" >wrong
}
# smb COMMANDS ARGUMENT...: in the share. What the client says is in `said`.
smb() {
    commands=$1
    shift
    timeout 60 smbclient "//$PATCHLAB_NAME_SERVER/$share" -p "$port" -A login "$@" -c "$commands" >said 2>&1
}
# status: what the other side said, such as NT_STATUS_ACCESS_DENIED.
status() { grep -oE 'NT_STATUS_[A-Z_]+' said | tail -n 1; }
