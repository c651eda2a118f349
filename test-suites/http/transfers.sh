#!/bin/sh
set -u
. "$PATCHLAB_SUITE/lib.sh"
http=http://$PATCHLAB_NAME_SERVER/$place
https=https://$PATCHLAB_NAME_SERVER/$place
# same FILE: whether it is what the server has under this name.
same() { grep "  ${1##*/}\$" sums | (cd "$(dirname "$1")" && sha256sum -c --status) || { echo "$1 differs from what the server has"; return 1; }; }
# code EXPECTED ARGUMENT...
code() {
    expected=$1
    shift
    found=$(get -o body -w '%{http_code}' "$@") || return 1
    [ "$found" = "$expected" ] || { echo "expected status $expected, found $found"; return 1; }
}
page() { get -f -o sums "$http/sums" && get -f -o page "$http/page" && same page; }
large() { mkdir -p plain && get -f -o plain/large "$http/large" && same plain/large; }
old() { mkdir -p old && get -f -0 -o old/page "$http/page" && same old/page; }
range() { get -f -r 1000-1999 -o part "$http/large" && tail -c +1001 plain/large | head -c 1000 | cmp - part; }
head_only() {
    length=$(get -f -I "$http/large" | tr -d '\r' | sed -n 's/^[Cc]ontent-[Ll]ength: //p')
    [ "$length" = "$(stat -c %s plain/large)" ] || { echo "expected the length of the file that came, found '$length'"; return 1; }
}
condition() { code 304 -z "$(date -u -d '+1 day' '+%a, %d %b %Y %T GMT')" "$http/page"; }
one_connection() {
    opened=$(get -f -o /dev/null -w '%{num_connects}\n' "$http/page?[1-20]" | awk '{ sum += $1 } END { print sum }')
    [ "$opened" = 1 ] || { echo "expected 1 connection for 20 requests, found $opened"; return 1; }
}
many() {
    good=$(get --parallel --parallel-max 10 -o /dev/null -w '%{http_code}\n' "$http/page?[1-60]" | grep -c '^200$')
    [ "$good" = 60 ] || { echo "expected 60 answers, found $good"; return 1; }
}
tls() { mkdir -p tls && get -k -f -o tls/large "$https/large" && same tls/large; }
version() { found=$(get -k -f -o /dev/null -w '%{http_version}' "$2/page") && as_before "$1" "$found"; }

check 'the page comes with its contents' page
check 'a large file arrives unchanged' large
check 'a client of HTTP/1.0 gets the page' old
check 'a page that is not there is 404' code 404 "$http/nothing"
check 'a range of a file' range
check 'the length of a file' head_only
check 'an unchanged page is not sent again' condition
check '20 requests on one connection' one_connection
check '60 requests, 10 at once' many
check 'the version of HTTP is as before' version HTTP "$http"
# Without HTTPS before the patch it is not asked for after it.
if [ "$PATCHLAB_PHASE" = baseline ]; then
    rm -f "$kept-https"
    if get -k -o /dev/null "$https/page" 2>/dev/null; then : >"$kept-https"; fi
fi
if [ -e "$kept-https" ]; then
    check 'a large file arrives unchanged over HTTPS' tls
    check 'the version of HTTP over TLS is as before' version HTTPS "$https"
fi
the_end
