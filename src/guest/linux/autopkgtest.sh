# Runs one test of a Debian source package the way autopkgtest does, or goes on with it after a restart. Environment:
#   suite, case   their names
#   source        the source package, on the media
#   file          the test's program, from the top of the source package; or
#   command       a command line for bash -e
#   user          root, ordinary or sudo
#   again         1 after a restart
#   alone         1 where the clone is the test's own
# Exits as the test did. What that can't say goes to $PATCHLAB_RESULT (src/verdict/results/autopkgtest.rs reads it).
here=$work/autopkgtest/$suite/$case
say() { echo "$*" >>"$PATCHLAB_RESULT"; }
broken() { say "broken $*" && end 1 "$*"; }

case $user in
root) as=root home=/root normal=autopkgtest ;;
sudo) as=autopkgtest-sudo home=/home/autopkgtest-sudo normal= ;;
*) as=autopkgtest home=/home/autopkgtest normal= ;;
esac
id "$as" >/dev/null 2>&1 || broken "there is no account $as"

mark=
if [ "$again" = 1 ]; then
    [ -s "$here/asked/mark" ] || { say unasked && exit 0; }
    mark=$(head -n 1 "$here/asked/mark" | head -c 400)
else
    rm -rf "$here"
    mkdir -p "$here/asked" "$here/tmp" "$here/artifacts" "$here/source" || broken "cannot make $here: $(df -P "$work" | tail -n 1)"
    cp -R "$source/." "$here/source/" && chmod -R u+rwX,go+rX "$here/source" || broken "cannot copy the source package to $here"
    chmod 1777 "$here/artifacts"
    chown "$as:" "$here/asked" "$here/tmp"
    [ "$as" = root ] || chown -R "$as:" "$here/source" || broken "cannot give the source package to $as"
    : >"$here/stderr"
fi
rm -f "$here/asked/mark" "$here/asked/prepared"
[ -z "$file" ] || chmod a+x "$here/source/$file" || broken "the source package has no $file"

# The way for the test to ask for a restart. Its own end is the lab's to see; the restart is too, unless the test brings it about itself.
for how in '' -prepare; do
    rm -f "/tmp/autopkgtest-reboot$how"
    {
        printf '#!/bin/sh\n[ -n "${1-}" ] || { echo "usage: $0 MARK" >&2; exit 1; }\n'
        printf 'printf "%%s\\n" "$1" >%s/asked/mark && ' "$here"
        case $how in
        '') printf 'sync && read -r group <%s/group && kill -s KILL -- "-$group"\n' "$here" ;;
        *) printf ': >%s/asked/prepared && sync\n' "$here" ;;
        esac
    } >"/tmp/autopkgtest-reboot$how" && chmod 755 "/tmp/autopkgtest-reboot$how" || broken "cannot write to /tmp"
done

# Some look for it on the path. Only where nothing else is measured on the machine.
[ "$alone" != 1 ] || ln -sfn /tmp/autopkgtest-reboot /usr/sbin/autopkgtest-reboot

# What autopkgtest's own shell does before the test.
inner='
. /etc/profile >/dev/null 2>&1 || true
. ~/.profile >/dev/null 2>&1 || true
export LANG=C.UTF-8
unset LANGUAGE LC_CTYPE LC_NUMERIC LC_TIME LC_COLLATE LC_MONETARY LC_MESSAGES LC_PAPER LC_NAME LC_ADDRESS LC_TELEPHONE LC_MEASUREMENT LC_IDENTIFICATION LC_ALL
cd "$0" || exit 99
if [ -n "$1" ]; then exec "$0/$1"; else exec bash -ec "$2"; fi
'
set -- env -i HOME="$home" USER="$as" LOGNAME="$as" SHELL=/bin/bash TERM=linux PATH="$PATH" DEBIAN_FRONTEND=noninteractive \
    DEB_BUILD_OPTIONS="parallel=$(nproc)" AUTOPKGTEST_TMP="$here/tmp" ADTTMP="$here/tmp" \
    AUTOPKGTEST_ARTIFACTS="$here/artifacts" ADT_ARTIFACTS="$here/artifacts" \
    ${normal:+AUTOPKGTEST_NORMAL_USER="$normal" ADT_NORMAL_USER="$normal"} \
    ${mark:+AUTOPKGTEST_REBOOT_MARK="$mark" ADT_REBOOT_MARK="$mark"} bash -c "$inner" "$here/source" "$file" "$command"
[ "$as" = root ] || set -- runuser -u "$as" -- "$@"

rm -f "$here/errors"
mkfifo "$here/errors" || broken "cannot make a pipe in $here"
tee -a "$here/stderr" <"$here/errors" &
tee=$!
export here
cd /
setsid sh -c 'echo $$ >"$here/group" && unset here && exec "$@"' sh "$@" </dev/null 2>"$here/errors" &
wait $!
code=$?
if [ -e "$here/asked/prepared" ]; then
    # It restarts the machine itself; then this never returns.
    sleep 120
    echo "the test prepared for a restart that did not come" | tee -a "$here/stderr"
    rm -f "$here/asked/mark"
    code=1
fi
# What the test left behind may hold the pipe open.
tries=0
while kill -0 "$tee" 2>/dev/null && [ "$tries" -lt 20 ]; do
    sleep 0.1
    tries=$((tries + 1))
done
kill "$tee" 2>/dev/null
if [ "$code" -eq 137 ] && [ -s "$here/asked/mark" ]; then
    echo "reboot $(head -n 1 "$here/asked/mark" | head -c 400)" >>"$PATCHLAB_RESULT"
    exit 0
fi
if [ -s "$here/stderr" ]; then say "stderr $(head -n 1 "$here/stderr" | head -c 400)"; fi
say ran
ls -A "$here/artifacts" | sed 's|^|left in AUTOPKGTEST_ARTIFACTS: |' | head -n 50
rm -rf "$here"
exit "$code"
