#!/bin/sh
# Makes one golden disk. Runs in a mount namespace of its own as root, or as root of a user namespace: it mounts nothing of the host
# and needs no device.
#
#   build.sh IN OUT
#     IN   what to build (read only): parameters, sources.list, packages, files/, setup, inside.sh, disk.sh
#     OUT  where to work; afterwards it holds disk.qcow2 and packages (name, version, architecture, source)
set -eu

in=$1
out=$2
root=$out/root

# Standard input is the lab's lifeline: should the lab die, the build ends and cleans up too.
exec 9<&0 </dev/null
(cat <&9; kill -TERM 0) >/dev/null 2>&1 &
lifeline=$!
exec 9<&-

clear_up() {
    set +e
    kill "$lifeline"
    umount --lazy "$root"
    rm -rf "$root" "$out"/*.part
}
trap 'clear_up 2>/dev/null' EXIT
# Stopped: what mmdebstrap still had mounted in its root goes first. Nobody may be left to remove the rest, and in a namespace this
# root may not remove all of it either.
stop() {
    set +e
    findmnt --raw --noheadings --output TARGET | grep "^$root\(/\|$\)" | sort --reverse | xargs --no-run-if-empty umount --lazy
    rm -rf --one-file-system "$root" "$in" "$out"
    rmdir "${in%/*}"
    exit 1
}
trap 'stop 2>/dev/null' INT TERM

set -a
. "$in/parameters" # IMAGE SUITE ROOT_UUID DISK_UUID ESP_SERIAL DISK_BYTES ROOT_IN_MEMORY
set +a
export in LC_ALL=C.UTF-8

mkdir "$root"
if [ -n "$ROOT_IN_MEMORY" ]; then
    mount -t tmpfs -o "size=$ROOT_IN_MEMORY,mode=0755" root "$root"
fi

# Configuration that has to be there before the first package is set up: it decides what the initramfs holds.
early='cp -R --no-preserve=ownership "$in/early/." "$1/"'
# Files of the recipe, its setup script, then what makes the root an image of this lab.
files='cp -R --no-preserve=ownership "$in/files/." "$1/"'
inside='chroot "$1" sh -eu -s'

set -- --essential-hook="$early" --customize-hook="$files"
if [ -e "$in/setup" ]; then
    set -- "$@" --customize-hook='cp "$in/setup" "$1/setup.part" && chmod 0755 "$1/setup.part"
        cd "$1" && chroot "$1" /setup.part </dev/null; status=$?; rm -f "$1/setup.part"; exit "$status"'
fi
set -- "$@" --customize-hook="$inside < \"\$in/inside.sh\""

mmdebstrap --verbose --mode=root --format=directory --variant=minbase \
    --include="$(tr '\n' ',' < "$in/packages")" \
    --dpkgopt=force-unsafe-io --aptopt='Acquire::Retries "3"' \
    "$@" "$SUITE" "$root" "$in/sources.list"
rm -f "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap" "$root/etc/apt/apt.conf.d/99mmdebstrap"

chroot "$root" dpkg-query --show \
    --showformat '${Package}\t${Version}\t${Architecture}\t${source:Package}\n' > "$out/packages"

echo 'P: disk' >&2
sh -eu "$in/disk.sh" "$root" "$out"
chmod 0644 "$out/disk.qcow2" "$out/packages"
