#!/bin/sh
# A libvirt daemon, for as long as standard input is open: daemon.sh FOLDER USER [HIDDEN...], in namespaces of its own for network and mounts
# (unshare). Its socket is in FOLDER, and so is its storage pool `lab`; its machines are USER's, its state is gone with it. The folders HIDDEN
# are empty for it. A line `kill` on standard input ends the daemon at once, but not its machines; `start` starts it again. It says `ready`
# whenever it can be connected to.
set -eu
folder=$1 user=$2
shift 2

ip link set lo up
for own in /run/libvirt /var/cache/libvirt /var/lib/libvirt /etc/libvirt/qemu /etc/libvirt/storage "$@"; do
    mkdir -p "$own"
    mount -t tmpfs none "$own"
    chmod 755 "$own"
done
mkdir /var/lib/libvirt/qemu
chown "$user" /var/lib/libvirt/qemu
printf 'user = "%s"\ngroup = "kvm"\n' "$user" >"$folder/qemu.conf"
mount --bind "$folder/qemu.conf" /etc/libvirt/qemu.conf
printf 'unix_sock_dir = "%s"\nunix_sock_group = "root"\nauth_unix_rw = "none"\n' "$folder" >"$folder/libvirtd.conf"

# Who has no business in the folder still gets to the pool.
chmod 711 "$folder"
mkdir -m 711 "$folder/pool"
virtlogd --pid-file "$folder/virtlogd.pid" >>"$folder/log" 2>&1 &
logs=$!
start() {
    libvirtd --config "$folder/libvirtd.conf" --pid-file "$folder/libvirtd.pid" >>"$folder/log" 2>&1 &
    daemon=$!
    tries=0
    until virsh -c "qemu+unix:///system?socket=$folder/libvirt-sock" capabilities >/dev/null 2>&1; do
        [ $tries -lt 300 ] || exit 1
        sleep 0.2
        tries=$((tries + 1))
    done
}

start
connect="virsh -q -c qemu+unix:///system?socket=$folder/libvirt-sock"
$connect pool-define-as lab dir --target "$folder/pool" >&2
$connect pool-start lab >&2
echo ready
while read -r line; do
    case $line in
    kill)
        kill -9 "$daemon"
        wait "$daemon" || true
        ;;
    start)
        start
        echo ready
        ;;
    esac
done
kill "$daemon" "$logs"
wait
