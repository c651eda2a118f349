# The state of a Linux guest, for the health checks: sections (`== name`), a record a line. Run as root by sh, environment:
#   PATCHLAB_RESULT    where the output goes, gzipped; without it: plain, to standard output
# Rules: no process per file or per process, and none for what the shell can read itself (on an emulated machine it takes 20 ms to start
# one, and most of them do no more than that); a tool that is missing or fails gives `unavailable: reason` in its section, one that does not
# end in time `cut-off: reason`, never an error and never half of what it had to say;
# secrets (password hashes, private keys) leave the machine only as digests. All judging, folding and comparing is done outside.
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_COLORS=0 SYSTEMD_PAGER=
umask 077
have() { command -v "$1" >/dev/null 2>&1; }
section() { echo "== $1"; }
# patience: seconds. Ample, for the tools take seconds on an idle host.
patience=240
limit() {
    if have timeout; then timeout -k 5 "$patience" "$@"; else "$@"; fi
}
# ask COMMAND...: runs it, if it is there and ends well: what it says into $said. Else prints why not.
ask() {
    have "$1" || { echo "unavailable: no $1" && return 1; }
    said=$(limit "$@" 2>&1) && return
    failed "$1" $?
}
# failed COMMAND CODE
failed() {
    case $2 in
        124 | 137) echo "cut-off: $1 did not end within $patience seconds" ;;
        *) echo "unavailable: $1 ended with $2: $(echo "$said" | tail -n 1)" ;;
    esac
    return 1
}
tell() { [ -z "$said" ] || printf '%s\n' "$said"; }
# first NAME FILE: a line `NAME word` with the file's first word, for files that may be read by the byte.
first() {
    word=
    [ ! -r "$2" ] || read -r word rest <"$2"
    echo "$1 $word"
}
# copy FILE: its lines.
copy() {
    while IFS= read -r line || [ -n "$line" ]; do printf '%s\n' "$line"; done <"$1"
}
# kernel NAME COMMAND...: a section by a tool that asks nothing but the kernel, and so has nothing to wait for.
kernel() {
    section "$1"
    shift
    have "$1" || { echo "unavailable: no $1" && return; }
    if said=$("$@" 2>&1); then tell; else failed "$1" $?; fi
}
# optional NAME COMMAND...: a section by a tool that may be missing or fail.
optional() {
    section "$1"
    shift
    ask "$@" && tell
}

collect() {
    began=$PWD
    section meta
    echo "version 1"
    first boot-id /proc/sys/kernel/random/boot_id
    first uptime /proc/uptime
    echo "realtime $(date +%s)"
    first rtc /sys/class/rtc/rtc0/since_epoch
    first clocksource /sys/devices/system/clocksource/clocksource0/current_clocksource
    echo "timezone $(readlink /etc/localtime)"
    echo "architecture $(dpkg --print-architecture 2>/dev/null || uname -m)"
    first kernel /proc/sys/kernel/osrelease

    section file-roots
    roots=$(awk '$1 ~ "^/dev/" && $3 !~ "^(iso9660|squashfs|udf)$" && !seen[$1]++ { print $2 }' /proc/mounts)
    [ -z "$roots" ] || printf '%s\n' "$roots"
    section files
    # shellcheck disable=SC2086
    find ${roots:-/} -xdev -type d \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /var/tmp -o -path /lost+found \
        -o -path /var/lib/patchlab -o -path /var/lib/apt/lists -o -path /var/cache/apt \) -prune \
        -o -printf '%y %m %U:%G %s %T@ %p\t%l\n' 2>/dev/null
    section hashes
    find /etc /usr/local /root /boot -xdev -type f -size -1024k -print0 2>/dev/null | xargs -0 -r sha256sum 2>/dev/null
    section contents
    # What only root may read leaves as a digest alone, but for who may become root and who may log in.
    {
        find /etc -xdev -type d ! -perm -001 ! -path /etc/sudoers.d -prune -o -type f -size -64k \
            \( -perm -004 -o -path /etc/sudoers -o -path '/etc/sudoers.d/*' \) ! -name '*_key' ! -name '*.key' \
            ! -name 'shadow*' ! -name 'gshadow*' ! -path '*/certs/*' -print0 2>/dev/null
        find /root/.ssh/authorized_keys* /home/*/.ssh/authorized_keys -xdev -type f -size -64k -print0 2>/dev/null
    } | xargs -0 -r grep -IHZ '' 2>/dev/null | tr '\000' '\t'
    section shadow
    # The state of each password: locked, empty or set, and a digest of the hash so that a changed one is seen.
    while IFS=: read -r user hash rest; do
        case $hash in
            '') state=empty ;;
            [!*]* | '!'?*)
                case $hash in '!'* | x) state=locked ;; *) digest=$(printf %s "$hash" | sha256sum) state="set ${digest%"${digest#????????????????}"}" ;; esac ;;
            *) state=locked ;;
        esac
        echo "$user $state"
    done </etc/shadow 2>/dev/null
    optional capabilities getcap -r /usr/bin /usr/sbin /usr/local /opt

    optional packages dpkg-query -W -f '${binary:Package} ${Version} ${db:Status-Want} ${db:Status-Status} ${db:Status-Eflag}\n'
    section owned
    # Who owns which file: tells the patch's own files from others. `package` lines, then that package's paths.
    (cd /var/lib/dpkg/info 2>/dev/null && awk 'FNR == 1 { package = substr(FILENAME, 1, length(FILENAME) - 5) } { print package, $0 }' *.list 2>/dev/null)
    optional package-audit dpkg --audit
    section apt-check
    if have apt-get; then
        if said=$(limit apt-get -qq check -o Debug::NoLocking=1 2>&1); then said=ok; else
            code=$?
            case $code in 124 | 137) said=$(failed apt-get "$code") ;; esac
        fi
        tell
    else
        echo "unavailable: no apt-get"
    fi

    section units
    if have systemctl; then
        ask systemctl list-units --all --plain --no-legend --no-pager --full && tell | awk '{ print $1, $2, $3, $4 }'
        section restarts
        ask systemctl show --no-pager -p Id -p NRestarts '*.service' && tell |
            awk -F= '$1 == "NRestarts" { n = $2 } $1 == "Id" { id = $2 } /^$/ { if (n > 0) print id, n; n = 0 } END { if (n > 0) print id, n }'
        section boot-time
        limit systemctl show --no-pager -p UserspaceTimestampMonotonic -p FinishTimestampMonotonic 2>/dev/null
    else
        echo "unavailable: no systemctl"
    fi

    kernel listening ss -H -l -n -t -u -p
    kernel addresses ip -o address show
    kernel links ip -o link show
    kernel routes ip -o route show table all
    kernel rules ip rule show
    # A kernel without IPv6 has none of its rules.
    if have ip && said=$(ip -6 rule show 2>/dev/null); then tell | sed 's/^/inet6 /'; fi
    section dns
    # A resolver that is not configured is an empty one.
    cat /etc/resolv.conf 2>/dev/null
    # What is behind the stub of systemd-resolved.
    [ ! -r /run/systemd/resolve/resolv.conf ] || sed 's/^/resolved /' /run/systemd/resolve/resolv.conf
    section disk
    df -P -k -x tmpfs -x devtmpfs -x iso9660 -x efivarfs 2>/dev/null
    section inodes
    df -P -i -x tmpfs -x devtmpfs -x iso9660 -x efivarfs -x vfat 2>/dev/null
    section mounts
    cat /proc/mounts
    section fstab
    if have findmnt; then
        # It exits with 1 when it finds something.
        said=$(limit findmnt --verify 2>&1)
        case $? in 124 | 137) failed findmnt 124 ;; *) tell ;; esac
    else
        echo "unavailable: no findmnt"
    fi
    section swaps
    [ ! -r /proc/swaps ] || copy /proc/swaps

    kernel kernel-log dmesg --level=emerg,alert,crit,err,warn
    section journal
    ask journalctl -b -p err -q --no-pager -n 3000 -o short-monotonic --no-hostname && tell | cut -c1-600
    section core-dumps
    find /var/lib/systemd/coredump /var/crash /core* -maxdepth 1 -type f 2>/dev/null

    section drivers
    find /sys/bus/pci/devices/*/ /sys/bus/virtio/devices/*/ /sys/bus/scsi/devices/*/ /sys/bus/usb/devices/*/ /sys/bus/nvme/devices/*/ \
        -maxdepth 1 -name driver -printf '%p %l\n' 2>/dev/null
    section devices
    # Disks, network cards and TPMs, each with the drivers from itself up to its bus; then cards of such kinds that nothing drives.
    for device in /sys/class/block/* /sys/class/net/* /sys/class/tpm/*; do
        [ -e "$device/device" ] || continue
        case $device in /sys/class/block/*) kind=disk ;; /sys/class/net/*) kind=network ;; *) kind=tpm ;; esac
        cd -P "$device/device" || continue
        at=$PWD chain=
        while [ -n "$at" ] && [ "$at" != /sys/devices ]; do
            if [ -L "$at/driver" ] && cd -P "$at/driver"; then chain="$chain ${PWD##*/}"; fi
            at=${at%/*}
        done
        echo "$kind ${device##*/}$chain"
    done
    cd "$began" || cd /
    for device in /sys/bus/pci/devices/*; do
        if [ ! -L "$device/driver" ] && read -r class 2>/dev/null <"$device/class"; then
            case $class in 0x01* | 0x02*) echo "unbound ${device##*/} $class $(cat "$device/vendor" "$device/device" | tr '\n' ' ')" ;; esac
        fi
    done
    section hardware
    if [ -d /sys/firmware/efi ]; then echo "firmware uefi"; else echo "firmware bios"; fi
    for variable in SecureBoot:secure-boot SetupMode:setup-mode; do
        file=/sys/firmware/efi/efivars/${variable%%:*}-8be4df61-93ca-11d2-aa0d-00e098032b8c
        # Four bytes of attributes, then the value.
        [ -r "$file" ] && echo "${variable##*:} $(od -An -t u1 -j 4 -N 1 "$file" | tr -d ' ')"
    done
    [ -r /sys/kernel/security/lockdown ] && read -r value </sys/kernel/security/lockdown && echo "lockdown $value"
    [ -r /sys/class/tpm/tpm0/tpm_version_major ] && read -r value </sys/class/tpm/tpm0/tpm_version_major && echo "tpm $value"
    awk '/^processor/ { n++ } /^vendor_id/ { v = $3 } /^model name/ { sub(".*: ", ""); m = $0 } /^physical id/ { p[$4] = 1 }
        END { for (i in p) s++; print "processors", n; print "sockets", s; print "vendor", v; print "model", m }' /proc/cpuinfo
    for key in sys_vendor product_name product_version product_serial product_uuid product_sku product_family; do
        [ -r "/sys/class/dmi/id/$key" ] && read -r value <"/sys/class/dmi/id/$key" && echo "dmi $key $value"
    done
    section modules
    cut -d' ' -f1 /proc/modules 2>/dev/null

    section firewall
    if have nft; then
        ask nft -s list ruleset && tell
    elif have iptables-save; then
        ask iptables-save && tell | sed 's/\[[0-9]*:[0-9]*\]//; /^#/d'
    else
        echo "unavailable: no nft and no iptables-save"
    fi
    section apparmor
    if [ -r /sys/module/apparmor/parameters/enabled ]; then
        first enabled /sys/module/apparmor/parameters/enabled
        cat /sys/kernel/security/apparmor/profiles 2>/dev/null
    else
        echo "unavailable: no AppArmor in this kernel"
    fi
    section selinux
    if [ -r /sys/fs/selinux/enforce ]; then copy /sys/fs/selinux/enforce; else echo "unavailable: no SELinux in this kernel"; fi
    # sshd wants its folder in /run, which is only there while it runs.
    [ -d /run/sshd ] || { mkdir -m 755 /run/sshd && made=yes; }
    # What it prints the settings for it has checked: `sshd -t` stops before it would print.
    checked=
    optional sshd sshd -T && checked='sshd -t'
    section kernel-settings
    # By grep: the kernel gives a number to who reads the whole of it at once, and the shell reads by the byte.
    (cd /proc/sys && grep -H '' kernel/randomize_va_space kernel/kptr_restrict kernel/dmesg_restrict kernel/yama/ptrace_scope \
        kernel/unprivileged_bpf_disabled kernel/sysrq kernel/modules_disabled fs/suid_dumpable fs/protected_hardlinks fs/protected_symlinks \
        net/ipv4/ip_forward net/ipv4/conf/all/rp_filter net/ipv4/tcp_syncookies net/ipv6/conf/all/forwarding \
        net/ipv6/conf/all/disable_ipv6 kernel/hostname kernel/core_pattern kernel/modprobe kernel/pid_max fs/file-max fs/nr_open \
        vm/overcommit_memory vm/max_map_count net/core/somaxconn net/ipv4/ip_local_port_range 2>/dev/null) | sed 's/:/ /'
    section boot-options
    tr ' ' '\n' </proc/cmdline | grep -v -e '^BOOT_IMAGE=' -e '^root=' -e '^initrd='
    section syntax
    # Each service's own opinion of its configuration, where the service is installed.
    for try in 'sshd -t' 'nginx -t -q' 'visudo -cq' 'named-checkconf' 'apache2ctl -t' 'postfix check'; do
        if have "${try%% *}"; then
            if [ "$try" = "$checked" ] || said=$(limit $try 2>&1); then echo "ok $try"; else
                code=$?
                case $code in
                    124 | 137) failed "$try" "$code" ;;
                    *) echo "bad $try: $(echo "$said" | tail -n 3 | tr '\n' ' ')" ;;
                esac
            fi
        fi
    done

    [ -z "${made:-}" ] || rmdir /run/sshd
    section boot-files
    find /boot -xdev -maxdepth 1 \( -name 'vmlinuz-*' -o -name 'initrd.img-*' \) -printf '%f %s\n' 2>/dev/null
    section deleted-maps
    # Programs that still run code of a file that is gone: `pid path`.
    grep -H ' r-xp .*(deleted)$' /proc/[0-9]*/maps 2>/dev/null | awk '{ split($1, a, "/"); k = a[3] " " $6; if ($6 ~ "^/(usr|lib|bin|sbin|opt)" && !seen[k]++) print k }'
    section processes
    grep -H '' /proc/[0-9]*/comm 2>/dev/null | sed 's|^/proc/||; s|/comm:| |'
    section reboot-required
    if [ -e /run/reboot-required ]; then
        echo "yes"
        cat /run/reboot-required.pkgs 2>/dev/null
    fi
    section memory
    grep -E '^(MemTotal|MemAvailable|SwapTotal|SwapFree|Slab):' /proc/meminfo
    section end
}

if [ -n "${PATCHLAB_RESULT:-}" ] && have gzip; then
    collect | gzip -1 >"$PATCHLAB_RESULT"
elif [ -n "${PATCHLAB_RESULT:-}" ]; then
    collect >"$PATCHLAB_RESULT"
else
    collect
fi
