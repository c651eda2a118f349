# Kind deb. `brings` is 1 when the packages are none that anybody has. `packages` holds a line a package: file, name, version, architecture (blank-separated; none can hold a blank).
export DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true NEEDRESTART_MODE=l UCF_FORCE_CONFFOLD=1 APT_LISTCHANGES_FRONTEND=none
# Nothing may be downloaded, and nothing but the payload may be chosen: apt knows no sources. (--no-download cannot be used: apt then hands
# local files to dpkg by their bare names.)
closed='-o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=/dev/null -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache='
list=$work/deb-files

# The version of an installed package, or nothing.
installed() {
    dpkg-query -W -f '${db:Status-Status} ${Version}\n' "$1" 2>/dev/null | sed -n 's/^installed //p' | head -n 1
}
simulate() {
    # shellcheck disable=SC2046,SC2086
    apt-get -s -o Debug::NoLocking=1 install $closed --no-install-recommends $(cat "$list")
}
deb_preflight() {
    mkdir -p "$work"
    own=" $(dpkg --print-architecture) $(dpkg --print-foreign-architectures | tr '\n' ' ') all "
    here=0 newer=0 others=''
    : >"$list" && : >"$list.all" || end $cannot "cannot write to $work: $(df -P "$work" | tail -n 1)"
    while read -r file name version architecture; do
        [ -n "$file" ] || continue
        case $own in *" $architecture "*) ;; *) others="$others $name:$architecture" && continue ;; esac
        echo "$PATCHLAB_MEDIA/payload/$file" >>"$list.all"
        now=$(installed "$name:$architecture")
        [ -n "$now" ] || now=$(installed "$name")
        if [ -n "$now" ]; then
            here=$((here + 1))
            echo "$PATCHLAB_MEDIA/payload/$file" >>"$list"
            if dpkg --compare-versions "$version" gt "$now"; then newer=$((newer + 1)); else echo "$name: $now is installed, the payload has $version"; fi
        fi
    done <<LIST
$packages
LIST
    [ -s "$list.all" ] || end $not_applicable "no package of the payload is for this architecture ($(dpkg --print-architecture)):$others"
    if [ $here -eq 0 ] && [ "$brings" = 1 ]; then
        cp "$list.all" "$list"
        here=1 newer=1
    fi
    [ $here -gt 0 ] || end $not_applicable "none of the payload's packages is installed here"
    [ $newer -gt 0 ] || end $not_applicable "no package of the payload is newer than what is installed here"
    # What is installed is upgraded; the payload's other packages come along only where those need them.
    if ! plan=$(simulate 2>&1); then
        cp "$list.all" "$list"
        plan=$(simulate 2>&1) || { echo "$plan" && end 1 "apt-get refuses: $(echo "$plan" | grep -E '^(E:| [a-z0-9.+-]+ :)' | head -n 4 | tr '\n' ' ')"; }
    fi
    echo "$plan"
    bad=''
    for name in $(echo "$plan" | sed -n 's/^Remv \([^ ]*\).*/\1/p'); do
        case " $removes " in *" ${name%%:*} "*) ;; *) bad="$bad $name" ;; esac
    done
    [ -z "$bad" ] || end $undeclared_removals "installing it would remove$bad"
}
deb_apply() {
    [ -s "$list" ] || end $cannot "there is no list of chosen packages: the preflight did not run"
    keep=--no-remove
    [ -z "$removes" ] || keep=
    # shellcheck disable=SC2046,SC2086
    apt-get install -y $keep $closed --no-install-recommends -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \
        -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 $(cat "$list")
}
deb_confirm() {
    chosen=''
    while read -r file name version architecture; do
        [ -n "$file" ] && grep -qxF "$PATCHLAB_MEDIA/payload/$file" "$list" || continue
        chosen="$chosen $name"
        now=$(installed "$name:$architecture")
        [ -n "$now" ] || now=$(installed "$name")
        [ -n "$now" ] || end $not_effective "$name is not installed"
        dpkg --compare-versions "$now" ge "$version" || end $not_effective "$name is at $now, the patch brings $version"
    done <<LIST
$packages
LIST
    audit=$(dpkg --audit 2>&1)
    [ -z "$audit" ] || { echo "$audit" && end $not_effective "dpkg --audit finds packages that are not fully installed: $(echo "$audit" | grep '^ ' | head -n 3 | tr -s ' \n' ' ')"; }
    # Configuration files (marked c) are the customer's to change.
    # shellcheck disable=SC2086
    verify=$(dpkg --verify $chosen 2>&1 | grep -v ' c /')
    [ -z "$verify" ] || { echo "$verify" && end $not_effective "dpkg --verify finds files that are not the package's: $(echo "$verify" | awk '{print $NF}' | head -n 3 | tr '\n' ' ')"; }
    check=$(apt-get -qq check -o Debug::NoLocking=1 2>&1) || { echo "$check" && end $not_effective "apt-get check finds unmet dependencies"; }
}
