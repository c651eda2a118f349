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
# The port on which the server hands out the keys that it made for the case.
handout=7022
# fetch: the keys of the case into `keys`; $user and $port are the account they are for.
fetch() {
    mkdir -p keys
    perl -MIO::Socket::INET -e '
        my $from = IO::Socket::INET->new(PeerAddr => $ARGV[0], PeerPort => $ARGV[1], Timeout => 20) or die "no connection to $ARGV[0]:$ARGV[1]: $!\n";
        binmode STDOUT; print while read $from, $_, 65536' "$PATCHLAB_ADDRESS_SERVER" "$handout" | tar -C keys --no-same-owner -xf - || return 1
    { read -r user && read -r port; } <keys/account
    chmod 600 keys/*
}
options="-F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=no -o LogLevel=INFO -o UserKnownHostsFile=$PWD/known -o ConnectTimeout=20 -o IdentitiesOnly=yes"
options="$options -o PreferredAuthentications=publickey"
# login KEY ARGUMENT... COMMAND
login() {
    key=$1
    shift
    # Options are a list of words.
    # shellcheck disable=SC2086
    timeout 40 ssh $options -i "keys/$key" -p "$port" -l "$user" "$@"
}
