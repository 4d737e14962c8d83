# shellcheck shell=bash
# busybox, the modules that lead to the disk and the network, and a script that mounts the one and ends. Needs no root.

# What the init script loads, dependencies excluded. Random numbers and the balloon are devices that a
# host may or may not attach; loading their drivers later would need the modules inside every image.
readonly guest_modules=(virtio_pci virtio_blk virtio_net virtio_rng virtio_balloon)

build_initramfs() {
  local hash
  find_busybox
  hash=$(hash_inputs "$kernel_hash" "$busybox_sha256" "${guest_modules[*]}" \
    "$(hash_scripts lib/initramfs.sh lib/initramfs.py lib/kernel_modules.py initramfs/init)")
  readonly initramfs_hash=$hash
  part initramfs "$hash" make_initramfs
  readonly initramfs_dir=$part_dir
}

# A dynamically linked busybox would need its libraries in the initramfs and in every image.
find_busybox() {
  busybox=$(command -v busybox) || fail "busybox is needed and not installed: apt-get install busybox-static" 2
  # The name of the program interpreter is in the file if and only if it has one.
  ! grep -qaF /lib64/ld-linux "$busybox" || fail "$busybox is not static: apt-get install busybox-static" 2
  busybox_sha256=$(sha256_of "$busybox")
  readonly busybox busybox_sha256
}

make_initramfs() {
  require python3 python3
  # -B: no bytecode is left in the checkout.
  python3 -B "$here/lib/initramfs.py" "$kernel_dir/modules" "$busybox" "$here/initramfs/init" "$1/initramfs.cpio" "${guest_modules[@]}"
  record_sha256 "$1/initramfs.cpio"
}
