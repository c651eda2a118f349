#!/bin/sh
set -u
. "$PATCHLAB_SUITE/lib.sh"
server=$PATCHLAB_ADDRESS_SERVER
# finds PATTERN ARGUMENT...: whether host's answer has a line with it.
finds() {
    pattern=$1
    shift
    host -W 10 -p 5300 "$@" "$server" >found 2>&1
    grep -qiE "$pattern" found || { echo "expected '$pattern', found '$(tail -n 1 found)'"; return 1; }
}
all() {
    host -W 10 -p 5300 -t A many.patchlab.test "$server" >found 2>&1
    count=$(grep -cE 'has address 192\.0\.2\.[123]$' found)
    [ "$count" = 3 ] || { echo "expected 3 addresses, found $count"; return 1; }
}
# 600 bytes and more: too long for a plain UDP answer, so it comes by EDNS or over TCP.
long() {
    finds '3x+7' "$@" -t TXT long.patchlab.test || return 1
    count=$(grep -cE '[123]x{199}7' found)
    [ "$count" = 3 ] || { echo "expected 3 texts, found $count"; return 1; }
}
many() {
    good=$(ask "$server" 5300 A host.patchlab.test 300)
    [ "$good" = 300 ] || { echo "expected 300 answers, found $good"; return 1; }
}
check 'an IPv4 address' finds 'has address 192\.0\.2\.10$' -t A host.patchlab.test
check 'an IPv6 address' finds 'has IPv6 address 2001:db8::10$' -t AAAA host.patchlab.test
check 'an alias and what it stands for' finds 'has address 192\.0\.2\.10$' -t A alias.patchlab.test
check 'a mail exchanger' finds 'handled by 10 mail\.patchlab\.test' -t MX patchlab.test
check 'a service' finds '5 10 5060 host\.patchlab\.test' -t SRV _sip._tcp.patchlab.test
check 'a text' finds '"one two"' -t TXT text.patchlab.test
check 'several addresses of one name' all
check 'a name in capitals' finds 'has address 192\.0\.2\.10$' -t A HOST.PatchLab.TEST
check 'a name that does not exist' finds 'NXDOMAIN' -t A nothing.patchlab.test
check 'a long answer' long
check 'a long answer over TCP' long -T
check '300 questions in a row are answered' many
the_end
