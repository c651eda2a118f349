# What a guest is, and what a clone becomes that was thawed from a template: a machine of its own.
#   look                            says what it is, and runs once what a renewal runs
#   renew ROOT NOW KEYS [OLD NEW]...  with a seed on standard input; ROOT is where the job runner is, NOW in hundredths of a second since
#                                   1970, KEYS is `yes` where the guest makes its SSH host keys itself, then hardware addresses of NICs and
#                                   what they are to be
# Prints lines of words, read by renew.rs. As few processes as may be: on an emulated machine each takes 20 ms.
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# uptime: hundredths of a second since the boot, into $uptime.
uptime() {
    read -r uptime _ </proc/uptime
    uptime=$((${uptime%.*} * 100 + 1${uptime#*.} - 100))
}
# draw: random UUIDs (122 of 128 bits are random), as the kernel makes them of its random numbers: one into $fresh, two into $random.
draw() {
    random=
    for of in 1 2 3; do
        IFS=- read -r a b c d e </proc/sys/kernel/random/uuid
        fresh=$a$b$c$d$e
        [ "$of" = 3 ] || random=$random$fresh
    done
}
# rehearse: a renewal's programs, where they harm nothing. The clones of who is looked at find them in memory.
rehearse() {
    try=/run/patchlab-rehearsal
    mkdir "$try" || return
    : >"$try/new"
    mv "$try/new" "$try/old"
    ln -s old "$try/new"
    rm -f "$try/new"
    ! command -v ssh-keygen || ssh-keygen -q -t ed25519 -N '' -C '' -f "$try/key" </dev/null
    ip link show
    mkdir "$try/media"
    mount -t iso9660 -o ro,nosuid,nodev /dev/sr0 "$try/media" && umount "$try/media"
    rm -rf --one-file-system "$try"
} >/dev/null 2>&1
machine_id() {
    id=
    [ ! -r /etc/machine-id ] || read -r id </etc/machine-id
}
uptime
begun=$uptime
what=$1
shift

if [ "$what" = renew ]; then
    root=$1 now=$2 makes_keys=$3
    shift 3
    # A kernel that is told of its new life by its vmgenid device has seeded itself already; another one is told to use the seed at once
    # (RNDRESEEDCRNG, random(4)), or does with its next own seeding.
    seed='sysread STDIN, my $seed, 64; open my $to, ">", "/dev/urandom" or die; syswrite $to, $seed; ioctl $to, 0x5207, 0 or die'
    if [ -e /sys/bus/acpi/devices/QEMUVGID:00/driver ] || ! command -v perl >/dev/null; then
        cat >/dev/urandom
    else
        perl -e "$seed"
    fi
    while [ $# -ge 2 ]; do
        for nic in /sys/class/net/*; do
            read -r address <"$nic/address"
            [ "$address" = "$1" ] && [ "$1" != "$2" ] || continue
            # Down and up again: addresses that were made of the old one (IPv6, link-local) go with it.
            ip -force -batch - <<LINK
link set dev ${nic##*/} down
link set dev ${nic##*/} address $2
link set dev ${nic##*/} up
LINK
            break
        done
        shift 2
    done
    draw
    machine_id
    case $id in
        '' | uninitialized) ;;
        *)
            old=$id
            id=$fresh
            echo "$id" >/etc/machine-id
            [ -L /var/lib/dbus/machine-id ] || [ ! -e /var/lib/dbus/machine-id ] || echo "$id" >/var/lib/dbus/machine-id
            # The journal is kept below the machine's id, which its daemon asks for only once: until it starts anew, it gets there by the
            # old one.
            for store in /run/log/journal /var/log/journal; do
                [ ! -d "$store/$old" ] || { mv "$store/$old" "$store/$id" && ln -s "$id" "$store/$old"; }
            done
            ;;
    esac
    if [ "$makes_keys" = yes ]; then
        keys=$(echo /etc/ssh/ssh_host_*_key)
        rm -f /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub
        for key in $keys; do
            kind=${key#/etc/ssh/ssh_host_}
            ssh-keygen -q -t "${kind%_key}" -N '' -C '' -f "$key" </dev/null
        done
    fi
    # The drive that every machine of the lab has, and no other; looking for a label costs half a second. Linux may miss the medium when it
    # is looked at for the first time (sr_revalidate_disk), and then takes the drive's size to be 2097151 for good: until it is opened again.
    # A clone of a checkpoint has it already.
    tries=0
    size=2097151
    set -- "$root"/media/*
    until [ -e "$1" ] || { [ "$size" != 2097151 ] && mount -t iso9660 -o ro,nosuid,nodev /dev/sr0 "$root/media"; }; do
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || { echo 'no medium in /dev/sr0' >&2 && exit 1; }
        [ "$tries" -lt 5 ] || sleep 0.1
        (: </dev/sr0) 2>/dev/null
        read -r size </sys/block/sr0/size
    done
    uptime
    now=$((now + uptime - begun))
    date -s "@$((now / 100)).$(printf %02d $((now % 100)))" >/dev/null
    # What the new clock set off are jobs of the service manager.
    case $(systemctl show --property=NJobs) in NJobs=0 | '') echo "settled yes" ;; esac
    read -r boot </proc/sys/kernel/random/boot_id && echo "boot-id $boot"
fi

machine_id
echo "machine-id $id"
read -r name </proc/sys/kernel/hostname
echo "hostname $name"
[ "$what" = renew ] || draw
echo "random $random"
for key in /etc/ssh/ssh_host_*_key.pub; do
    [ -r "$key" ] && read -r _ public _ <"$key" && echo "host-key ${key##*/} $public"
done
if [ "$what" = look ]; then
    # Older than the boot is what came with the image.
    made=$(stat -c %Y /etc/ssh/ssh_host_*_key 2>/dev/null)
    booted=$(($(date +%s) - begun / 100))
    for at in $made; do [ "$at" -lt "$booted" ] || echo "makes-host-keys yes"; done
    ip -o -4 address show dynamic 2>/dev/null | while read -r _ _ _ lease _; do echo "lease $lease"; done
    rehearse
fi
for nic in /sys/class/net/*; do
    [ -e "$nic/device" ] && read -r address <"$nic/address" && echo "nic $address"
done
# It begins anew with the new keys.
if [ "${makes_keys-no}" = yes ]; then
    read -r daemon </run/sshd.pid && read -r name <"/proc/$daemon/comm" && [ "$name" = sshd ] && kill -HUP "$daemon"
fi 2>/dev/null
exit 0
