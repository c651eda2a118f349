# Makes a bootable disk from a root directory, without mounting anything.
#
#   disk.sh ROOT OUT     writes OUT/disk.qcow2
#
# GPT: 1 MiB for BIOS GRUB's core at 1 MiB, the EFI system partition at 2 MiB, the root file system (ext4) up to the last MiB.
root=$1
out=$2
disk=$out/disk.part
esp=$out/esp.part
mib=1048576

bios_start=2048 # sectors of 512 bytes
esp_start=4096
esp_mib=48
root_start=$((esp_start + esp_mib * 2048))
root_mib=$((DISK_BYTES / mib - root_start / 2048 - 1))

truncate -s "$DISK_BYTES" "$disk"
sfdisk --quiet "$disk" <<TABLE
label: gpt
label-id: $DISK_UUID
start=$bios_start, size=2048, type=21686148-6449-6E6F-744E-656564454649, name=bios-boot
start=$esp_start, size=$((esp_mib * 2048)), type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name=esp
start=$root_start, size=$((root_mib * 2048)), type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, name=root
TABLE

# --- UEFI: Debian's signed shim and GRUB, where firmware looks without being told, and where Debian's packages update them.
shim=$root/usr/lib/shim
grub=$root/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed
printf 'search.fs_uuid %s root\nset prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n' "$ROOT_UUID" > "$out/grub.cfg.part"
truncate -s "${esp_mib}M" "$esp"
mformat -i "$esp" -N "$ESP_SERIAL" -v ESP ::
# mformat leaves what looks like a partition table of its own, at which GRUB's tools stumble.
dd if=/dev/zero of="$esp" bs=1 seek=446 count=64 conv=notrunc status=none
mmd -i "$esp" ::EFI ::EFI/BOOT ::EFI/debian
mcopy -i "$esp" "$shim/shimx64.efi.signed" ::EFI/BOOT/BOOTX64.EFI
mcopy -i "$esp" "$shim/shimx64.efi.signed" ::EFI/debian/shimx64.efi
for folder in BOOT debian; do
    mcopy -i "$esp" "$shim/mmx64.efi.signed" "::EFI/$folder/mmx64.efi"
    mcopy -i "$esp" "$grub" "::EFI/$folder/grubx64.efi"
done
mcopy -i "$esp" "$out/grub.cfg.part" ::EFI/debian/grub.cfg
dd if="$esp" of="$disk" bs=$mib seek=$((esp_start / 2048)) conv=notrunc,sparse status=none

# --- The root file system. The two features switched off are unknown to this release's GRUB or fsck.
mke2fs -q -t ext4 -O '^metadata_csum_seed,^orphan_file' -m 1 -U "$ROOT_UUID" -L root \
    -E "offset=$((root_start * 512)),hash_seed=$ROOT_UUID,lazy_itable_init=0,nodiscard" -d "$root" "$disk" "${root_mib}M"

# --- BIOS: GRUB's boot.img in the first sector, before the partition table; core.img in its own partition. What grub-install would
# write: the core's first sector into boot.img (at 92), no check of the drive number (2 bytes at 102), and into core.img's first sector
# (at 500) where its rest begins.
little_endian() {
    printf "\\$(printf %03o $(($1 & 255)))\\$(printf %03o $(($1 >> 8 & 255)))\\000\\000\\000\\000\\000\\000"
}
cp "$root/boot/grub/i386-pc/boot.img" "$out/boot.part"
cp "$root/boot/grub/i386-pc/core.img" "$out/core.part"
little_endian $bios_start | dd of="$out/boot.part" bs=1 seek=92 conv=notrunc status=none
printf '\220\220' | dd of="$out/boot.part" bs=1 seek=102 conv=notrunc status=none
little_endian $((bios_start + 1)) | dd of="$out/core.part" bs=1 seek=500 conv=notrunc status=none
dd if="$out/boot.part" of="$disk" bs=1 count=440 conv=notrunc status=none
dd if="$out/core.part" of="$disk" bs=512 seek=$bios_start conv=notrunc status=none

qemu-img convert -q -c -f raw -O qcow2 -o compression_type=zstd "$disk" "$out/image.part"
mv "$out/image.part" "$out/disk.qcow2"
