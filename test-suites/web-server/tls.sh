#!/bin/sh
. "$PATCHLAB_SUITE/lib.sh"
has_tls || { echo "this nginx serves no TLS"; exit 77; }
echo secret >"$site/page" && chmod 644 "$site/page"
cases=0 failures=0
# test NAME COMMAND...: its output is the failure's message.
check() {
    cases=$((cases + 1))
    name=$1
    shift
    if answer=$("$@" 2>&1); then
        echo "  <testcase classname=\"tls\" name=\"$name\"/>" >>cases
    else
        failures=$((failures + 1))
        answer=$(printf %s "$answer" | tail -n 3 | tr -d '\000-\010\013-\037' | tr '\n' ' ' | sed 's/&/\&amp;/g; s/</\&lt;/g; s/>/\&gt;/g; s/"/\&quot;/g')
        echo "  <testcase classname=\"tls\" name=\"$name\"><failure message=\"$answer\"/></testcase>" >>cases
    fi
}
: >cases
# The server's own certificate is what its clients trust.
openssl s_client -connect 127.0.0.1:443 </dev/null 2>/dev/null | openssl x509 >server.pem || true
subject=$(openssl x509 -in server.pem -noout -ext subjectAltName 2>/dev/null | sed -n 's/.*DNS:\([^, ]*\).*/\1/p' | head -n 1)
[ -n "$subject" ] || subject=$(openssl x509 -in server.pem -noout -subject -nameopt multiline 2>/dev/null | sed -n 's/ *commonName *= //p')

protocol() {
    text=$(openssl s_client -connect 127.0.0.1:443 "-$1" </dev/null 2>&1) || { echo "$text" | grep -m 1 -i -E 'alert|error'; return 1; }
    echo "$text" | grep -q "^New, $2, Cipher is [A-Z]" || { echo "no $2 session"; return 1; }
}
refused() {
    ! openssl s_client -connect 127.0.0.1:443 "-$1" -cipher 'DEFAULT@SECLEVEL=0' </dev/null >/dev/null 2>&1 || { echo "$1 is accepted"; return 1; }
}
verified() {
    [ "$(get --cacert server.pem --resolve "$subject:443:127.0.0.1" "https://$subject/patchlab-test/page")" = secret ]
}
stranger() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout other.key -out other.pem -subj /CN=other -days 2 2>/dev/null
    ! get --cacert other.pem --resolve "$subject:443:127.0.0.1" "https://$subject/patchlab-test/page" || { echo "a certificate of nobody's is trusted"; return 1; }
}
# 30 connections of their own, each with a whole handshake: some faults show once in many.
many() {
    opened=$(get -k --no-sessionid -H 'Connection: close' -o /dev/null -w '%{http_code} %{num_connects}\n' "$https/page?[1-30]" | grep -c '^200 1$')
    [ "$opened" = 30 ] || { echo "$opened of 30 handshakes succeeded"; return 1; }
}
check 'TLS 1.2 handshake' protocol tls1_2 TLSv1.2
check 'TLS 1.3 handshake' protocol tls1_3 TLSv1.3
check 'TLS 1.1 is refused' refused tls1_1
check 'a client that trusts the certificate gets the page' verified
check 'a client that does not trust it refuses' stranger
check 'a TLS 1.2 client gets the page' get -k -f -o /dev/null --tls-max 1.2 "$https/page"
check '30 handshakes in a row' many
{
    echo "<testsuite name=\"tls\" tests=\"$cases\" failures=\"$failures\" errors=\"0\" skipped=\"0\">"
    cat cases
    echo '</testsuite>'
} >"$PATCHLAB_RESULT"
cat "$PATCHLAB_RESULT"
