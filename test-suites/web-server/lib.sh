# Shared by this suite's cases. $root: the folder that the first server serves. Files that a case puts there go away with it.
set -eu
root=$(nginx -T 2>/dev/null | awk '$1 == "root" { sub(";", "", $2); print $2; exit }')
[ -d "$root" ] || { echo "nginx serves no folder: $root"; exit 99; }
site=$root/patchlab-test
trap 'rm -rf "$site"' EXIT
mkdir -p "$site" && chmod 755 "$site"
http=http://127.0.0.1/patchlab-test
https=https://127.0.0.1/patchlab-test
has_tls() { nginx -T 2>/dev/null | grep -q '^[[:space:]]*listen.*ssl'; }
get() { curl -sS --max-time 20 --noproxy '*' "$@"; }
