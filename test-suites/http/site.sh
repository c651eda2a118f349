#!/bin/sh
# Puts files where the running web server serves them, until it is stopped.
#   site.sh MEGABYTES     the size of the large one
set -eu
. "$PATCHLAB_SUITE/lib.sh"

clear_up() {
    trap '' TERM INT
    [ -z "${site:-}" ] || rm -rf "$site"
}

if command -v nginx >/dev/null && pidof nginx >/dev/null; then
    # Of the server that answers where nobody else is asked for, if there is one.
    root=$(nginx -T 2>/dev/null | awk '
        $1 == "server" { chosen = 0 }
        $1 == "listen" && /default_server/ { chosen = 1 }
        $1 == "root" { sub(";", "", $2); if (!first) first = $2; if (chosen && !best) best = $2 }
        END { print best ? best : first }')
elif command -v apache2ctl >/dev/null && pidof apache2 >/dev/null; then
    root=$(apache2ctl -t -D DUMP_RUN_CFG 2>/dev/null | sed -n 's/^Main DocumentRoot: "\(.*\)"/\1/p')
else
    not_here "neither nginx nor apache2 runs"
fi
[ -d "$root" ] || not_here "the web server's folder was not found (found '$root')"
site=$root/$place
trap clear_up EXIT
rm -rf "$site"
mkdir "$site"
echo 'a page' >"$site/page"
head -c 1000000 /dev/urandom >part
for each in $(seq "$1"); do
    cat part
    echo "$each"
done >"$site/large"
(cd "$site" && sha256sum page large >sums)
chmod -R a+rX "$site"
got=$(get -o page -w '%{http_code}' "http://$PATCHLAB_ADDRESS_SERVER/$place/page" 2>&1) || true
{ [ "$got" = 200 ] && cmp -s page "$site/page"; } || not_here "the web server does not serve its folder $root over HTTP: it answers '$got'"

trap 'exit 0' TERM INT
: >"$kept-here"
: >"$PATCHLAB_READY"
sleep 1000 &
wait
