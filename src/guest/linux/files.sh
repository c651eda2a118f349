# Kind files. `files` holds a line a file: source, target, mode, owner (tab-separated). The copies that are put back live in $work/saved.
saved=$work/saved

# Calls `each SOURCE TARGET MODE OWNER` for every file.
targets() {
    while IFS='	' read -r source target mode owner; do
        [ -z "$source" ] || each "$source" "$target" "$mode" "$owner" </dev/null
    done <<LIST
$files
LIST
}

files_preflight() {
    each() {
        [ -f "$PATCHLAB_MEDIA/payload/$1" ] || end $cannot "$1 is not on the media"
        [ ! -d "$2" ] || end $not_applicable "$2 is a folder here"
        getent passwd "${4%%:*}" >/dev/null || end $not_applicable "this build has no user ${4%%:*}, to whom $2 should belong"
        getent group "${4##*:}" >/dev/null || end $not_applicable "this build has no group ${4##*:}, to whom $2 should belong"
    }
    targets
}
# Settings of the kernel that a file brings, as they are now, in the form of such a file.
settings() {
    case $2 in
        /etc/sysctl.conf | /etc/sysctl.d/*) ;;
        *) return ;;
    esac
    sed -n 's/^[[:space:]]*-\{0,1\}\([A-Za-z0-9_./-]*\)[[:space:]]*=.*/\1/p' "$PATCHLAB_MEDIA/payload/$1" |
        while IFS= read -r key; do sysctl -e "$key" 2>/dev/null; done
}
files_apply() {
    number=0 paths=''
    mkdir -p "$saved"
    each() {
        number=$((number + 1))
        if [ ! -e "$saved/$number.kept" ]; then
            if [ -e "$2" ] || [ -L "$2" ]; then cp -a "$2" "$saved/$number" || end $cannot "cannot keep a copy of $2"; fi
            # The folders that were not there.
            folder=$(dirname "$2")
            : >"$saved/$number.folders"
            while [ ! -d "$folder" ]; do
                echo "$folder" >>"$saved/$number.folders"
                folder=$(dirname "$folder")
            done
            settings "$1" "$2" >"$saved/$number.settings"
            : >"$saved/$number.kept"
        fi
        mkdir -p "$(dirname "$2")" && install -T -m "$3" -o "${4%%:*}" -g "${4##*:}" "$PATCHLAB_MEDIA/payload/$1" "$2.patchlab-new" && mv -T "$2.patchlab-new" "$2" ||
            end 1 "cannot put $2 into place"
        echo "installed: $2"
    }
    targets
    each() { touched "$2"; }
    targets
}
files_confirm() {
    each() {
        cmp "$PATCHLAB_MEDIA/payload/$1" "$2" || end $not_effective "$2 does not have the patch's contents"
        found=$(stat -c '%a %U:%G' "$2")
        [ "$found" = "$(echo "$3" | sed 's/^0*//') $4" ] || end $not_effective "$2 has mode and owner $found, the patch says $3 $4"
    }
    targets
}
files_rollback() {
    number=0
    each() {
        number=$((number + 1))
        [ -e "$saved/$number.kept" ] || end $cannot "there is no saved state of $2"
        rm -f "$2" || end 1 "cannot remove $2"
        if [ -e "$saved/$number" ] || [ -L "$saved/$number" ]; then cp -a "$saved/$number" "$2" || end 1 "cannot restore $2"; fi
        while IFS= read -r folder; do rmdir "$folder" || end 1 "cannot remove $folder, which the patch brought"; done <"$saved/$number.folders"
        echo "restored: $2"
    }
    targets
    each() { touched "$2"; }
    targets
    # Files that are gone take no setting back.
    cat "$saved"/*.settings | sysctl -q -p - || true
    rm -rf "$saved"
}
