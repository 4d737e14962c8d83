#!/usr/bin/env bash
# Builds the disk of the stand-in host. See --help.
set -euo pipefail

lab_here=$(dirname "$(readlink -f "$0")")
# Where the parts that are shared with the guests' images are made.
here=$(readlink -f "$lab_here/../../../guest/image")
readonly lab_here here

# shellcheck source=../../../guest/image/lib/report.sh
source "$here/lib/report.sh"
# shellcheck source=../../../guest/image/lib/cache.sh
source "$here/lib/cache.sh"
# shellcheck source=../../../guest/image/lib/distribution.sh
source "$here/lib/distribution.sh"
# shellcheck source=../../../guest/image/lib/agent.sh
source "$here/lib/agent.sh"
# shellcheck source=../../../guest/image/lib/kernel.sh
source "$here/lib/kernel.sh"
# shellcheck source=../../../guest/image/lib/initramfs.sh
source "$here/lib/initramfs.sh"
# shellcheck source=../../../guest/image/lib/bootstrap.sh
source "$here/lib/bootstrap.sh"

usage() {
  cat <<'HELP'
NAME
  build.sh - build what the lab's stand-in host boots from

SYNOPSIS
  build.sh --cache DIR --node FILE
  build.sh --help

DESCRIPTION
  Installs the packages of lab.packages into an archive, adds the kernel's modules, Node.js, the guest agent (through
  which tests run commands in the lab) and two ways to start, and makes a file system image of it. Kernel, initramfs
  and agent are those of the guests. Parts are cached by what they are made from, as guest/image/build.sh does. No
  Docker, no loop device, no mount on this machine.

OPTIONS
  --cache DIR   where parts go; made if absent
  --node FILE   the Node.js program to put in; this machine runs the same distribution, so it runs there too
  --verbose     show what the build commands print, which otherwise goes to DIR/logs/ only
  --help        this text

OUTPUT
  One line per part on standard error. Standard output has what to boot, one `name=value` per line: kernel, initramfs,
  root.

EXIT STATUS
  0  the parts are complete
  1  a part failed; the end of its log was shown
  2  wrong usage, or this machine lacks something (the message names it)

NEEDS
  Root, and what guest/image/build.sh needs.
HELP
}

parse_arguments() {
  cache='' node='' verbose=no refresh=no agent_file=''
  while (($#)); do
    case $1 in
      --cache | --node) [[ $# -ge 2 && -n $2 ]] || wrong_usage "$1 needs a value" ;;&
      --cache) cache=$2 && shift 2 ;;
      --node) node=$2 && shift 2 ;;
      --verbose) verbose=yes && shift ;;
      --help | -h) usage && exit 0 ;;
      *) wrong_usage "unknown argument $1" ;;
    esac
  done
  [[ -n $cache ]] || wrong_usage "--cache is missing"
  [[ -x $node ]] || wrong_usage "--node must name a program"
  readonly node verbose refresh agent_file
}

wrong_usage() {
  echo "build.sh: $1; see build.sh --help" >&2
  exit 2
}

# In the place of the guests' list.
listed_packages() {
  sed -e 's/#.*//' -e 's/[[:space:]]//g' -e '/^$/d' "$lab_here/lab.packages"
}

build_lab_packages() {
  local hash
  hash=$(hash_inputs "$distribution" "$suite" "$stamp" "$(listed_packages)" \
    "$(hash_scripts lib/bootstrap.sh lib/distribution.sh rootfs/dpkg-excludes.conf)")
  readonly lab_packages_hash=$hash
  part lab-packages "$hash" make_bootstrap
  readonly lab_packages_dir=$part_dir
}

build_lab_root() {
  local hash
  hash=$(hash_inputs "$lab_packages_hash" "$kernel_hash" "$agent_hash" "$(sha256_of "$node")" \
    "$(cd "$lab_here" && sha256sum build.sh rootfs/*)")
  part lab-root "$hash" make_lab_root
  readonly lab_root_dir=$part_dir
}

# Of the file system; sparse on this machine.
readonly lab_root_bytes=$((24 << 30))
readonly lab_root_uuid=746f7270-6f72-4c61-8c00-000000000001

make_lab_root() {
  local stage=$1 tree=$1/tree release
  ((EUID == 0)) || fail "filling a root filesystem with files of several users needs root: run build.sh with sudo" 2
  require mkfs.ext4 e2fsprogs
  mkdir "$tree"
  tar --numeric-owner --xattrs --xattrs-include='*' -C "$tree" -xf "$lab_packages_dir/bootstrap.tar"
  rm -rf "$tree"/var/lib/apt/lists/* "$tree"/var/cache/apt/* "$tree"/var/log/{dpkg.log,bootstrap.log,apt/*}
  rm -f "$tree/etc/machine-id" "$tree/var/lib/dbus/machine-id"

  release=$(<"$kernel_dir/release")
  mkdir -p "$tree/lib/modules/$release"
  cp -a "$kernel_dir/modules/." "$tree/lib/modules/$release/"
  chroot "$tree" depmod "$release"
  # Whom VMs run as.
  chroot "$tree" useradd --system --no-create-home --shell /usr/sbin/nologin torpor-vm

  install -m 755 "$node" "$tree/usr/bin/node"
  install -d "$tree/usr/lib/torpor-lab" "$tree/torpor/tree" "$tree/torpor/bin" "$tree/var/cache/torpor"
  install -m 755 "$agent_dir/envd" "$tree/usr/lib/torpor-lab/envd"
  install -m 755 "$lab_here"/rootfs/{init,fast-init,prepare,start-agent} "$tree/usr/lib/torpor-lab/"
  ln -sfn ../lib/torpor-lab/init "$tree/usr/sbin/init"
  install -m 644 "$lab_here"/rootfs/*.service "$tree/etc/systemd/system/"
  install -d "$tree/etc/systemd/system/multi-user.target.wants"
  for unit in "$lab_here"/rootfs/*.service; do
    ln -sfn "../$(basename "$unit")" "$tree/etc/systemd/system/multi-user.target.wants/$(basename "$unit")"
  done
  ln -sfn /lib/systemd/system/multi-user.target "$tree/etc/systemd/system/default.target"
  calm_systemd "$tree"
  echo torpor-lab >"$tree/etc/hostname"
  printf '%s\n' '127.0.0.1 localhost' '127.0.1.1 torpor-lab' '::1 localhost ip6-localhost ip6-loopback' >"$tree/etc/hosts"
  : >"$tree/etc/fstab"
  find "$tree" -newermt "@$SOURCE_DATE_EPOCH" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
  truncate --size "$lab_root_bytes" "$stage/root.ext4"
  E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH mkfs.ext4 -q -F -L torpor-lab -U "$lab_root_uuid" \
    -E "hash_seed=$lab_root_uuid,root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0" -J size=64 -m 1 \
    -d "$tree" "$stage/root.ext4"
  rm -rf --one-file-system "$tree"
}

# Leaves out what only keeps an emulated processor busy. Nobody logs in, nothing is upgraded.
calm_systemd() {
  local tree=$1 wants=$1/etc/systemd/system
  # Empty, it is filled in at every boot; absent, systemd would take that for a first boot and enable all it can.
  : >"$tree/etc/machine-id"
  rm -f "$wants"/timers.target.wants/* "$wants"/getty.target.wants/* "$wants"/multi-user.target.wants/e2scrub_reap.service
  # Out of the way of everything that waits for the system to be initialized.
  mv "$wants/sysinit.target.wants/systemd-timesyncd.service" "$wants/multi-user.target.wants/"
  install -d "$tree/etc/systemd/system.conf.d"
  printf '%s\n' '[Manager]' 'ShowStatus=no' 'DefaultTimeoutStartSec=15min' >"$tree/etc/systemd/system.conf.d/torpor-lab.conf"
}

main() {
  parse_arguments "$@"
  open_cache
  build_agent
  build_kernel
  build_initramfs
  build_lab_packages
  build_lab_root
  echo "kernel=$kernel_dir/$(<"$kernel_dir/format")"
  echo "initramfs=$initramfs_dir/initramfs.cpio"
  echo "root=$lab_root_dir/root.ext4"
}

main "$@"
