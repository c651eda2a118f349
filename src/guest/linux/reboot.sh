# Whether the guest wants a reboot: a line `reboot: reason` for each reason. The absence of one proves nothing on a minimal system, so
# several witnesses are heard. A machine that is on its way down already is not kept from it: the lab sees it restart.
if [ "$(systemctl is-system-running 2>/dev/null)" = stopping ]; then
    echo "reboot: the machine is going down already"
    sleep 240
fi
if [ -e /run/systemd/shutdown/scheduled ] && grep -q '^MODE=reboot' /run/systemd/shutdown/scheduled; then
    echo "reboot: a restart is scheduled"
fi
if [ -e /run/reboot-required ]; then
    echo "reboot: /run/reboot-required is there ($(tr '\n' ' ' </run/reboot-required.pkgs 2>/dev/null))"
fi
newest=$(ls /boot/vmlinuz-* 2>/dev/null | sed 's|^/boot/vmlinuz-||' | sort -V | tail -n 1)
running=$(uname -r)
if [ -n "$newest" ] && [ "$newest" != "$running" ]; then
    last=$(printf '%s\n%s\n' "$newest" "$running" | sort -V | tail -n 1)
    [ "$last" = "$running" ] || echo "reboot: kernel $newest is installed, $running runs"
fi
# Kernel, initial RAM disk, boot loader and what mounts the disks are tried by nothing but a boot. FAT knows no change of a file's status.
booted=$(($(date +%s) - $(cut -d. -f1 /proc/uptime)))
find /boot /etc/fstab /etc/crypttab -type f ! -name grubenv \( -newerct "@$booted" -o -newermt "@$booted" \) 2>/dev/null | sort | head -n 3 |
    while IFS= read -r file; do echo "reboot: $file was written since this boot"; done
grep -H ' r-xp .*(deleted)$' /proc/[0-9]*/maps 2>/dev/null | awk '{ split($1, a, "/"); if ($6 ~ "^/(usr|lib|bin|sbin|opt)" && !seen[a[3] $6]++) print a[3], $6 }' |
    while read -r pid path; do
        echo "reboot: $(cat "/proc/$pid/comm" 2>/dev/null) ($pid) still runs the old $path"
    done
# The kernel's own word for the build that runs is in its uncompressed head, where that is a PC's.
image=/boot/vmlinuz-$running same=
if grep -qF "$running (" "$image" 2>/dev/null; then
    if grep -qF "$(uname -v)" "$image"; then same=yes; else echo "reboot: $image is another build than the kernel that runs"; fi
fi
# needrestart compares just the same, and takes long.
if [ -z "$same" ] || [ "$newest" != "$running" ]; then
    if command -v needrestart >/dev/null; then
        case $(timeout 60 needrestart -b -k 2>/dev/null | sed -n 's/^NEEDRESTART-KSTA: //p') in
            2 | 3) echo "reboot: needrestart says that a kernel upgrade is pending" ;;
        esac
    fi
fi
exit 0
