# shellcheck shell=bash
# The file system image: the bootstrap archive, our files, the agent, and a record of what went in.

readonly rootfs_bytes=5368709120
# Fixed, because mkfs.ext4 would make new ones for each build. Guests never see each other's disks.
readonly rootfs_uuid=746f7270-6f72-4e6d-8c00-000000000001

build_rootfs() {
  local hash
  hash=$(hash_inputs "$image" "$rootfs_bytes" "$agent_hash" "$kernel_hash" "$bootstrap_hash" \
    "$(hash_scripts lib/rootfs.sh lib/manifest.py rootfs/init rootfs/dpkg-excludes.conf)" "$busybox_sha256")
  readonly rootfs_hash=$hash
  part "rootfs-$image" "$hash" make_rootfs
  readonly rootfs_dir=$part_dir
}

make_rootfs() {
  local stage=$1 tree=$1/tree
  ((EUID == 0)) || fail "filling a root filesystem with files of several users needs root: run build.sh with sudo" 2
  require mkfs.ext4 e2fsprogs
  mkdir "$tree"
  tar --numeric-owner --xattrs --xattrs-include='*' -C "$tree" -xf "$bootstrap_dir/bootstrap.tar"
  remove_what_guests_do_not_need "$tree"
  add_user "$tree"
  add_system_files "$tree"
  add_manifest "$stage"
  find "$tree" -newermt "@$SOURCE_DATE_EPOCH" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
  make_file_system "$tree" "$stage/rootfs.ext4"
  rm -rf --one-file-system "$tree"
}

remove_what_guests_do_not_need() {
  local tree=$1
  # mmdebstrap never installed these; debootstrap installs before dpkg knows the excludes.
  find "$tree/usr/share/doc" -type f ! -name copyright -delete
  find "$tree/usr/share/doc" -type l -delete
  find "$tree/usr/share/locale" -mindepth 1 -maxdepth 1 ! -name locale.alias -exec rm -rf {} +
  rm -rf "$tree"/usr/share/{man,info,lintian,bug}/*
  rm -rf "$tree"/var/lib/apt/lists/* "$tree"/var/cache/apt/* "$tree"/var/cache/debconf/*-old "$tree"/var/lib/dpkg/*-old
  # Differ from build to build and are made again when missed.
  rm -rf "$tree"/var/cache/ldconfig/aux-cache "$tree"/var/log/{dpkg.log,alternatives.log,bootstrap.log,apt/*}
  rm -f "$tree/etc/machine-id" "$tree/var/lib/dbus/machine-id"
}

add_user() {
  local tree=$1
  echo 'user:x:1000:1000:,,,:/home/user:/bin/bash' >>"$tree/etc/passwd"
  echo 'user:x:1000:' >>"$tree/etc/group"
  # Locked: nobody logs in with a password, the agent switches to the user.
  echo 'user:!::0:99999:7:::' >>"$tree/etc/shadow"
  echo 'user:!::' >>"$tree/etc/gshadow"
  cp -r "$tree/etc/skel" "$tree/home/user"
  chown -R 1000:1000 "$tree/home/user"
  chmod 755 "$tree/home/user"
  echo 'user ALL=(ALL:ALL) NOPASSWD: ALL' >"$tree/etc/sudoers.d/user"
  chmod 440 "$tree/etc/sudoers.d/user"
}

add_system_files() {
  local tree=$1
  install -d "$tree/etc/torpor" "$tree/usr/lib/torpor"
  install -m 755 "$busybox" "$tree/usr/lib/torpor/busybox"
  install -m 755 "$here/rootfs/init" "$tree/usr/lib/torpor/init"
  ln -sfn ../lib/torpor/init "$tree/usr/sbin/init"
  install -m 755 "$agent_dir/envd" "$tree/usr/local/bin/envd"
  # E2B lets every user install programs there.
  chmod 777 "$tree/usr/local"
  echo sandbox >"$tree/etc/hostname"
  printf '%s\n' '127.0.0.1 localhost' '127.0.1.1 sandbox' '::1 localhost ip6-localhost ip6-loopback' >"$tree/etc/hosts"
  printf 'nameserver %s\n' 1.1.1.1 8.8.8.8 >"$tree/etc/resolv.conf"
  rm -f "$tree"/etc/apt/sources.list "$tree"/etc/apt/sources.list.d/*
  cp "$bootstrap_dir/sources.list" "$tree/etc/apt/sources.list"
  rm -f "$tree"/etc/dpkg/dpkg.cfg.d/{99mmdebstrap,torpor-excludes} "$tree"/etc/apt/apt.conf.d/99mmdebstrap
  install -m 644 "$here/rootfs/dpkg-excludes.conf" "$tree/etc/dpkg/dpkg.cfg.d/torpor-excludes"
}

add_manifest() {
  local stage=$1
  # shellcheck disable=SC2016 # dpkg-query's own placeholders
  dpkg-query --admindir="$stage/tree/var/lib/dpkg" --show --showformat '${Package} ${Version}\n' |
    LC_ALL=C sort >"$stage/packages"
  python3 "$here/lib/manifest.py" "$stage/packages" \
    image="$image" inputs="$rootfs_hash" distribution="$distribution" suite="$suite" \
    kernel="$(<"$kernel_dir/package")" kernel_release="$(<"$kernel_dir/release")" \
    agent_version="$(<"$agent_dir/version")" agent_sha256="$(<"$agent_dir/sha256")" >"$stage/manifest.json"
  install -m 644 "$stage/manifest.json" "$stage/tree/etc/torpor/manifest.json"
}

make_file_system() {
  local tree=$1 target=$2
  truncate --size "$rootfs_bytes" "$target"
  # A small journal and few reserved blocks: the disk is the sandbox's to fill. Nothing is left to be
  # zeroed by the guest, which would otherwise spend its first minute writing inode tables to its own disk.
  E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH mkfs.ext4 -q -F -L torpor-root -U "$rootfs_uuid" \
    -E "hash_seed=$rootfs_uuid,root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0" -J size=16 -m 1 -d "$tree" "$target"
  LC_ALL=C dumpe2fs -h "$target" 2>/dev/null |
    awk '/^Block count/ { b = $3 } /^Free blocks/ { f = $3 } /^Block size/ { s = $3 } END { print int((b - f) * s / 1048576) }' >"$(dirname "$target")/used-mib"
}
