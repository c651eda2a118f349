# Kind diff. `diffs` holds the payload files in order (a line each), `paths` the files that they change (a line each); `root` and `strip` as
# in the manifest. `patch` exits with 0, 1 (rejects) or 2 (trouble).

# run FOLDER DIRECTION OPTION...: all diffs, one after the other; backwards for -R.
run() {
    folder=$1 direction=$2
    shift 2
    if [ "$direction" = -R ]; then order=$(echo "$diffs" | sed -n '1!G;h;$p'); else order=$diffs; fi
    echo "$order" | while IFS= read -r file; do
        patch -d "$folder" -p "$strip" "$direction" -f --no-backup-if-mismatch -r - "$@" <"$PATCHLAB_MEDIA/payload/$file" || exit $?
    done
}
# Tries the whole row of diffs on copies: those of a row may build on each other.
try() {
    rm -rf "$work/trial" && mkdir -p "$work/trial" || end $cannot "cannot make $work/trial"
    echo "$paths" | while IFS= read -r path; do
        [ -n "$path" ] && [ -e "$path" ] || continue
        inside=${path#"${root%/}"/}
        mkdir -p "$work/trial/$(dirname "$inside")" && cp -a "$path" "$work/trial/$inside" || exit 1
    done || end $cannot "cannot copy the files that it changes"
    run "$work/trial" "$1" 2>&1
    code=$?
    rm -rf "$work/trial"
    return $code
}
diff_preflight() {
    [ -d "$root" ] || end $not_applicable "this build has no folder $root"
    answer=$(try -N) && { echo "$answer"; return; }
    code=$?
    if try -R >/dev/null; then end $not_applicable "it is applied here already"; fi
    echo "$answer"
    end "$code" "its hunks do not fit this build: $(echo "$answer" | grep -iE 'fail|ignored|find file' | head -n 3 | tr '\n' ' ')"
}
diff_apply() {
    if try -R >/dev/null; then
        echo "it is applied already: nothing is changed"
        return
    fi
    run "$root" -N || end $? "its hunks do not fit this build"
    reload
}
diff_confirm() {
    answer=$(try -R) || { echo "$answer" && end $not_effective "the files are not as the patch makes them: $(echo "$answer" | grep -iE 'fail|ignored' | head -n 1)"; }
    echo "$paths" | while IFS= read -r path; do
        [ ! -e "$path.rej" ] || end $not_effective "$path.rej was left behind"
    done || exit $?
}
diff_rollback() {
    run "$root" -R || end $? "it cannot be taken back"
    reload
}
reload() {
    while IFS= read -r path; do touched "$path" </dev/null; done <<LIST
$paths
LIST
}
