# Shared by this suite's cases. $root: the folder that the first server serves. Files that a case puts there go away with it.
set -eu
config=$(nginx -T 2>/dev/null) || true
root=$(printf '%s\n' "$config" | awk '$1 == "root" && !found { sub(";", "", $2); print $2; found = 1 }')
[ -d "$root" ] || { echo "nginx serves no folder: $root"; exit 99; }
site=$root/patchlab-test
trap 'rm -rf "$site"' EXIT
mkdir -p "$site" && chmod 755 "$site"
http=http://127.0.0.1/patchlab-test
https=https://127.0.0.1/patchlab-test
has_tls() { printf '%s\n' "$config" | grep '^[[:space:]]*listen.*ssl' >/dev/null; }
get() { curl -sS --max-time 20 --noproxy '*' "$@"; }
