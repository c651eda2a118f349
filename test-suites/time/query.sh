#!/bin/sh
# query.sh PORT
set -u
. "$PATCHLAB_SUITE/lib.sh"
server=$PATCHLAB_ADDRESS_SERVER
port=$1
ntp() { perl "$PATCHLAB_SUITE/ntp.pl" "$server" "$port" "$@"; }
[ -n "$(ntp 4 2)" ] || not_here "no time server answers on port $port of the server"
: >"$kept-here"

answers() {
    ntp 4 20 >answers
    [ "$(wc -l <answers)" = 20 ] || { echo "expected 20 answers, found $(wc -l <answers)"; return 1; }
    ! grep -qvE '^[0-9]+ 4 4 ' answers || { echo "an answer is not of version 4 and mode 4: $(grep -vE '^[0-9]+ 4 4 ' answers | head -n 1)"; return 1; }
}
synchronised() {
    awk '$1 == 3 || $4 < 1 || $4 > 15 { print "leap " $1 ", stratum " $4; bad = 1; exit } END { exit bad }' answers ||
        { echo "the server says that it is not synchronised"; return 1; }
}
older() { [ "$(ntp 3 3 | grep -c '^[0-9]* 3 4 ')" = 3 ] || { echo "a client of version 3 gets no answers of version 3"; return 1; }; }
# Machines on one host read its clock at their boots: they differ by less than this.
agree() {
    lead=$(awk '{ print $5 }' answers | sort -n | sed -n 10p)
    echo "expected clocks within 5 s, found the server's $lead s ahead"
    awk -v lead="$lead" 'BEGIN { exit !(lead < 5 && lead > -5) }'
}
steady() {
    before=$(ntp 4 5 | awk '{ print $5 }' | sort -n | sed -n 3p)
    sleep 3
    after=$(ntp 4 5 | awk '{ print $5 }' | sort -n | sed -n 3p)
    echo "expected the clocks to keep their distance, found $before s, and 3 s later $after s"
    awk -v before="${before:-0}" -v after="${after:-99}" 'BEGIN { d = after - before; exit !(d < 0.5 && d > -0.5) }'
}
client() {
    timeout 40 chronyd -Q -t 20 "server $server port $port iburst maxsamples 4" >said 2>&1
    grep -q 'System clock wrong by' said || { tail -n 2 said; echo "the client's chronyd does not take the server's time"; return 1; }
}
check '20 questions are answered' answers
check 'the server is synchronised' synchronised
check 'an older client (NTP 3) is answered' older
check 'the clocks agree' agree
check 'the clocks do not move against each other' steady
if command -v chronyd >/dev/null; then check "the client's own chronyd takes the time" client; fi
the_end
