# Waits until the machine is what its peers wait for; says what is missing when its time is up. Environment:
#   ready    a line each: `unit NAME`, `tcp PORT`, `address ADDRESS/PREFIX`
#   within   seconds
holds() {
    case $1 in
    unit) systemctl --quiet is-active "$2" ;;
    tcp) cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v port="$(printf :%04X "$2")" '$4 == "0A" && substr($2, length($2) - 4) == port { found = 1 } END { exit !found }' ;;
    address) ip -o -4 address show up 2>/dev/null | grep -qF " $2 " ;;
    esac
}

now() { cut -d. -f1 /proc/uptime; }
until=$(($(now) + within))
while :; do
    missing=
    while read -r kind what; do
        [ -n "$kind" ] || continue
        holds "$kind" "$what" || missing="${missing:+$missing, }$kind $what"
    done <<END
$ready
END
    [ -n "$missing" ] || exit 0
    [ "$(now)" -lt "$until" ] || end $not_effective "$missing"
    sleep 0.25
done
