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
place=patchlab-interop
get() { curl -sS --noproxy '*' --max-time 30 "$@"; }
