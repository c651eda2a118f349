#!/bin/sh
. "$PATCHLAB_SUITE/lib.sh"
echo 'TAP version 13'
echo '1..7'
number=0
# test NAME EXPECTED FOUND
check() {
    number=$((number + 1))
    if [ "$2" = "$3" ]; then echo "ok $number - $1"; else printf 'not ok %s - %s\n# expected %s\n# found %s\n' "$number" "$1" "$2" "$3"; fi
}
echo 'hello from the lab' >"$site/page.html" && chmod 644 "$site/page.html"
check 'a page comes with its contents' 'hello from the lab' "$(get "$http/page.html" || true)"
check 'a page comes with status and type' '200 text/html' "$(get -o /dev/null -w '%{http_code} %{content_type}' "$http/page.html" || true)"
check 'a missing page is 404' 404 "$(get -o /dev/null -w '%{http_code}' "$http/missing.html" || true)"
check 'the head of a page tells its length' 'Content-Length: 19' "$(get -I "$http/page.html" | tr -d '\r' | grep -i '^Content-Length' || true)"
check 'a range is 206 and exact' 'hello 206' "$(get -r 0-4 -w ' %{http_code}' "$http/page.html" || true)"
get -o /dev/null --etag-save etag "$http/page.html" || true
check 'an unchanged page is 304' 304 "$(get -o /dev/null --etag-compare etag -w '%{http_code}' "$http/page.html" || true)"
echo '-' >"$site/private" && chmod 000 "$site/private"
check 'an unreadable page is 403' 403 "$(get -o /dev/null -w '%{http_code}' "$http/private" || true)"
