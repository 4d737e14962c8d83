# shellcheck shell=bash
# images.json: which parts to boot. Written on every run, and always whole.

# What the guest kernel is told. Reasons:
#   quiet loglevel=1   every character on an emulated serial port is an exit
#   reboot=k panic=1   a guest that dies ends its VM instead of standing still
#   mitigations=off    the user of a guest may become root in it anyway: there is nothing to keep apart
#                      inside; what separates guests is the host's business
#   cryptomgr.notests  self-tests cost a few percent of the boot time under software emulation
readonly guest_cmdline='console=ttyS0 quiet loglevel=1 reboot=k panic=1 mitigations=off cryptomgr.notests'

# A JSON string. Only paths and versions come here; control characters have no place in either.
json_string() {
  local escaped=${1//\\/\\\\}
  printf '"%s"' "${escaped//\"/\\\"}"
}

# Each image's entry is kept in a file of its own, so that building one does not drop the others.
record_image() {
  mkdir -p "$cache/images"
  cat >"$cache/.staging/image.json" <<JSON
    "$image": {
      "rootfs": $(json_string "$rootfs_dir/rootfs.ext4"),
      "manifest": $(json_string "$rootfs_dir/manifest.json"),
      "bytes": $rootfs_bytes,
      "sha256": "$rootfs_hash",
      "packages": $(wc -l <"$rootfs_dir/packages")
    }
JSON
  mv "$cache/.staging/image.json" "$cache/images/$image.json"
}

# The recorded entries, separated by commas.
image_entries() {
  local entry separator=''
  for entry in "$cache"/images/*.json; do
    printf '%s%s' "$separator" "$(<"$entry")"
    separator=$',\n'
  done
}

write_index() {
  record_image
  local index=$cache/images.json kernel
  kernel=$kernel_dir/$(<"$kernel_dir/format")
  cat >"$cache/.staging/images.json" <<JSON
{
  "version": 1,
  "arch": "x86_64",
  "kernel": {
    "path": $(json_string "$kernel"),
    "version": $(json_string "$(<"$kernel_dir/release")"),
    "sha256": "$(<"$kernel_dir/sha256")"
  },
  "initramfs": {
    "path": $(json_string "$initramfs_dir/initramfs.cpio"),
    "sha256": "$(<"$initramfs_dir/sha256")"
  },
  "cmdline": "$guest_cmdline",
  "agent": {
    "path": $(json_string "$agent_dir/envd"),
    "version": $(json_string "$(<"$agent_dir/version")"),
    "sha256": "$(<"$agent_dir/sha256")"
  },
  "images": {
$(image_entries)
  }
}
JSON
  sync "$cache/.staging/images.json"
  mv "$cache/.staging/images.json" "$index"
  echo "$index"
}
