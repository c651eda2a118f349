# Runs inside the new root after the recipe's own setup: makes it an image that any machine of the lab can boot.
# Whatever is set here is ordinary configuration of Debian's own tools, so that patches of those tools keep working.

# --- Identity: every clone makes its own.
: > /etc/machine-id
rm -f /var/lib/dbus/machine-id /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub
rm -f /etc/resolv.conf
echo "$IMAGE" > /etc/hostname
printf '127.0.0.1\tlocalhost\n127.0.1.1\t%s\n::1\tlocalhost ip6-localhost ip6-loopback\n' "$IMAGE" > /etc/hosts.part
if [ -e /etc/hosts.image ]; then cat /etc/hosts.image >> /etc/hosts.part; rm /etc/hosts.image; fi
mv /etc/hosts.part /etc/hosts
if [ -e /usr/sbin/sshd ]; then systemctl enable --quiet ssh-host-keys.service; fi

# --- File systems, by UUID: the disk's name depends on the machine.
mkdir -p /boot/efi
cat > /etc/fstab <<FSTAB
UUID=$ROOT_UUID	/	ext4	errors=remount-ro	0	1
UUID=$ESP_UUID	/boot/efi	vfat	umask=0077,nofail	0	0
FSTAB

# --- Network: whatever card the machine has; nothing waits for it. A recipe that masks the service has another keep its cards.
if [ "$(systemctl is-enabled systemd-networkd.service)" != masked ]; then systemctl enable --quiet systemd-networkd.service; fi
systemctl disable --quiet systemd-networkd-wait-online.service

# --- Boot loader for BIOS, to be embedded by disk.sh. UEFI gets the signed one from its package.
mkdir -p /boot/grub/i386-pc /boot/grub/x86_64-efi
cp /usr/lib/grub/i386-pc/*.mod /usr/lib/grub/i386-pc/*.lst /usr/lib/grub/i386-pc/boot.img /boot/grub/i386-pc/
cp /usr/lib/grub/x86_64-efi/*.mod /usr/lib/grub/x86_64-efi/*.lst /boot/grub/x86_64-efi/
printf 'search.fs_uuid %s root\nset prefix=($root)/boot/grub\n' "$ROOT_UUID" > /boot/grub/load.part
grub-mkimage -O i386-pc -p /boot/grub -c /boot/grub/load.part -o /boot/grub/i386-pc/core.img biosdisk part_gpt ext2 search_fs_uuid
rm /boot/grub/load.part
grub-editenv /boot/grub/grubenv create

# The menu is made by Debian's own generator. There is no disk to probe yet, so for this one call the prober is replaced by one that
# answers for the disk to come.
mv /usr/sbin/grub-probe /usr/sbin/grub-probe.part
cat > /usr/sbin/grub-probe <<'PROBE'
#!/bin/sh
for word; do
    case $word in
        --target=device) echo "UUID=$ROOT_UUID" ;;
        --target=fs_uuid) echo "$ROOT_UUID" ;;
        --target=fs) echo ext2 ;;
        --target=partmap) echo gpt ;;
    esac
done
PROBE
chmod 0755 /usr/sbin/grub-probe
update-grub 2>&1
mv /usr/sbin/grub-probe.part /usr/sbin/grub-probe
# From now on a newer GRUB installs itself for both firmwares (see the postinst of grub-cloud-amd64).
: > /etc/grub.d/enable_cloud

# --- Nothing wakes up by itself: a change in the machine is to come from the patch.
systemctl mask --quiet apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
    fstrim.timer man-db.timer systemd-tmpfiles-clean.timer

# --- Leave nothing of the building behind.
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb /var/log/apt/* /var/log/dpkg.log /var/log/alternatives.log \
    /var/log/bootstrap.log /var/cache/ldconfig/aux-cache
