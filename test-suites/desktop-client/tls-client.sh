#!/bin/sh
. "$PATCHLAB_SUITE/server.sh"
. "$PATCHLAB_SUITE/tap.sh"
echo 'TAP version 13'
echo '1..5'
echo page >page.txt
certificate good shop.test 2
certificate expired shop.test 0
serve 4431 good
serve 4432 expired
# fetch PORT HOST OPTION...: the page, or curl's exit code (60: the certificate is not to be trusted).
fetch() {
    port=$1 host=$2
    shift 2
    get --resolve "$host:$port:127.0.0.1" "$@" "https://$host:$port/page.txt" 2>/dev/null || echo "curl $?"
}
check 'a trusted server is believed' page "$(fetch 4431 shop.test --cacert ca.pem)"
check 'a trusted server is believed over TLS 1.2' page "$(fetch 4431 shop.test --cacert ca.pem --tls-max 1.2)"
check 'a stranger is refused' 'curl 60' "$(fetch 4431 shop.test)"
check 'a wrong name is refused' 'curl 60' "$(fetch 4431 bank.test --cacert ca.pem)"
check 'an expired certificate is refused' 'curl 60' "$(sleep 1; fetch 4432 shop.test --cacert ca.pem)"
