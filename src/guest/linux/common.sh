# Shared by the lab's own steps in a Linux guest. The last line of the output says why a step ended badly; its exit code says what kind
# of end it was (src/guest/linux/judge.rs).
export LC_ALL=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
work=${PATCHLAB_WORK:-/var/lib/patchlab}
not_applicable=64 undeclared_removals=65 not_effective=66 cannot=67
end() {
    code=$1
    shift
    echo "$*"
    exit "$code"
}
# A writable copy of the payload, for patches that write beside themselves. Media know no permission bits that can be trusted.
stage() {
    why=$({ rm -rf "$work/payload" && mkdir -p "$work/payload" && cp -R "$PATCHLAB_MEDIA/payload/." "$work/payload/"; } 2>&1) ||
        end $cannot "the payload cannot be copied to $work: $(echo "$why" | head -n 1)"
    chmod -R u=rwX,go=rX "$work/payload"
    find "$work/payload" -type f | while IFS= read -r file; do
        case $(head -c 2 "$file" | tr -d '\000') in '#!') chmod 755 "$file" ;; esac
    done
    cd "$work/payload" || end $cannot "cannot enter $work/payload"
}
# touched PATH...: the syntax tests of the services that read these files, then a reload of those that run.
touched() {
    tests='' units='' all=' '
    for path; do
        case $path in
            /etc/nginx/*) one='nginx -t -q' unit=nginx.service ;;
            /etc/ssh/*) one='sshd -t' unit=ssh.service ;;
            /etc/apache2/*) one='apache2ctl -t' unit=apache2.service ;;
            /etc/bind/*) one='named-checkconf' unit=named.service ;;
            /etc/postfix/*) one='postfix check' unit=postfix.service ;;
            /etc/sudoers | /etc/sudoers.d/*) one='visudo -cq' unit='' ;;
            /etc/fstab) one='findmnt --verify' unit='' ;;
            /etc/systemd/system/* | /usr/lib/systemd/system/*) one='systemctl daemon-reload' unit='' ;;
            /etc/sysctl.conf | /etc/sysctl.d/*) one='sysctl -q --system' unit='' ;;
            *) continue ;;
        esac
        case $all in *" $one "*) continue ;; esac
        all="$all$one "
        command -v "${one%% *}" >/dev/null || continue
        echo "checking: $one"
        $one || end 1 "$one refuses the new configuration"
        if [ -n "$unit" ] && systemctl -q is-active "$unit"; then
            echo "reloading: $unit"
            systemctl reload-or-restart "$unit" || end 1 "$unit does not reload"
        fi
    done
}
