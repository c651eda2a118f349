#!/bin/sh
# Validates a patch for a customer on a patchlab server, and waits for the decision.
#
#     PATCHLAB_SERVER=https://patchlab.example.com:8400 PATCHLAB_TOKEN=patchlab_... gate.sh PATCH CUSTOMER [JUNIT]
#
# PATCH is the id or digest of a candidate in the lab's store. The run's JUnit report goes to the file JUNIT (default: junit.xml).
# Exit codes are those of `patchlab gate`: 0 approved; 1 rejected or superseded; 3 inconclusive or expired; 4 not decided within
# PATCHLAB_WAIT seconds (default: 4 hours). 2: no decision could be had. Anything but 0 is a no. Needs curl and jq.
# PATCHLAB_CERTIFICATE names a PEM file to trust. Requests with the same PATCHLAB_KEY launch one run, for three days. What was tried on
# the simulator alone is no decision, unless PATCHLAB_SIMULATED is yes.
set -eu

# Nobody shall take an earlier job's report for this one's.
junit=${3:-junit.xml}
rm -f -- "$junit"
patch=$1
customer=$2
api=${PATCHLAB_SERVER:?}/api/v1
deadline=$(($(date +%s) + ${PATCHLAB_WAIT:-14400}))
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

# In a file, because others on this machine can read the command line.
(umask 077 && printf 'Authorization: Bearer %s\n' "${PATCHLAB_TOKEN:?}" >"$work/token")

# Asks the server, again where it is out of reach or busy for a while. The answer is left in the file `answer`.
ask() {
    if ! curl --silent --show-error --fail-with-body --retry 6 --retry-connrefused --connect-timeout 10 --max-time 90 \
        ${PATCHLAB_CERTIFICATE:+--cacert "$PATCHLAB_CERTIFICATE"} --header "@$work/token" --output "$work/answer" "$@"; then
        jq -r '"patchlab: " + .detail' "$work/answer" >&2 2>/dev/null || true
        exit 2
    fi
}

told() {
    jq -er "$1" "$work/answer" || exit 2
}

# How many seconds are left, at most so many.
left() {
    seconds=$((deadline - $(date +%s)))
    [ "$seconds" -gt 0 ] || seconds=0
    [ "$seconds" -lt "$1" ] || seconds=$1
    echo "$seconds"
}

in_time() {
    [ "$(left 1)" -gt 0 ]
}

jq -n --arg patch "$patch" --arg customer "$customer" '{patch: $patch, customers: [$customer]}' >"$work/wanted"
ask --header 'Content-Type: application/json' --header "Idempotency-Key: ${PATCHLAB_KEY:-${work##*/}}" \
    --data-binary "@$work/wanted" "$api/runs"
run=$(told .run)
# From here on it is these bytes that are asked about, whatever the id may come to stand for.
patch=$(told .patch.sha256)
echo "run $run: $PATCHLAB_SERVER/runs/$run"

# The run first, for its report.
ask "$api/runs/$run"
while [ "$(told .state)" != ended ] && in_time; do
    sleep "${PATCHLAB_PAUSE:-10}"
    ask "$api/runs/$run"
done
ask "$api/runs/$run/junit.xml"
cp "$work/answer" "$junit"

status=.status
[ "${PATCHLAB_SIMULATED:-no}" = yes ] || status='if .simulated then "simulated" else .status end'
# The server answers when the decision changes, at the latest after half a minute.
while
    ask --get --data-urlencode "customer=$customer" --data-urlencode "wait=$(left 30)s" "$api/decisions/$patch"
    decided=$(told "$status")
    [ "$decided" = pending ] && in_time
do :; done
told .summary
case $decided in
    approved | approved-with-waivers) exit 0 ;;
    rejected | superseded) exit 1 ;;
    inconclusive | expired) exit 3 ;;
    pending) exit 4 ;;
    *) exit 2 ;;
esac
