# Says a test's result in TAP. check NAME EXPECTED FOUND
number=0
check() {
    number=$((number + 1))
    if [ "$2" = "$3" ]; then echo "ok $number - $1"; else printf 'not ok %s - %s\n# expected %s\n# found %s\n' "$number" "$1" "$2" "$3"; fi
}
