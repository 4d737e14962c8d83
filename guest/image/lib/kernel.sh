# shellcheck shell=bash
# The distribution's kernel, downloaded and unpacked but not installed. Needs no root.

build_kernel() {
  local hash
  hash=$(hash_inputs "$distribution" "$suite" "$stamp" "$(hash_scripts lib/kernel.sh lib/distribution.sh lib/vmlinux.py)")
  readonly kernel_hash=$hash
  part kernel "$hash" make_kernel
  readonly kernel_dir=$part_dir
}

# dependencies PACKAGE PATTERN: direct dependencies whose name matches.
dependencies() {
  apt-cache depends --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances "$1" |
    sed -n 's/^ *|\?Depends: //p' | grep -E "$2" || true
}

# A meta package leads to the newest image; on Ubuntu the modules are a package of their own.
kernel_packages() {
  local meta found
  for meta in "${kernel_meta[@]}"; do
    found=$(dependencies "$meta" '^linux-image-[0-9]' | head -n 1)
    if [[ -n $found ]]; then
      echo "$found"
      dependencies "$found" '^linux-modules-[0-9]'
      return
    fi
  done
  return 1
}

# download_packages DIRECTORY : false when apt knows no kernel, or knows one that the mirror has replaced since.
download_packages() {
  local -a packages
  mapfile -t packages < <(kernel_packages)
  ((${#packages[@]})) && (cd "$1" && apt-get download -o APT::Sandbox::User=root "${packages[@]}")
}

make_kernel() {
  local stage=$1 format release package lib
  require python3 python3
  mkdir "$stage/download" "$stage/unpacked"
  if ! download_packages "$stage/download"; then
    update_package_lists
    download_packages "$stage/download" || fail "apt can download none of ${kernel_meta[*]}"
  fi
  for package in "$stage"/download/*.deb; do
    dpkg-deb --extract "$package" "$stage/unpacked"
  done

  release=$(basename "$stage"/unpacked/boot/vmlinuz-*)
  release=${release#vmlinuz-}
  format=$(python3 "$here/lib/vmlinux.py" "$stage/unpacked/boot/vmlinuz-$release" "$stage/kernel")
  mv "$stage/kernel" "$stage/$format"
  record_sha256 "$stage/$format"
  echo "$format" >"$stage/format"
  echo "$release" >"$stage/release"
  # shellcheck disable=SC2016 # dpkg-deb's own placeholders
  dpkg-deb --show --showformat '${Package} ${Version}\n' "$stage"/download/linux-image-*.deb >"$stage/package"

  # The configuration is in the modules package where there is one. /lib may be a link into /usr.
  mv "$stage/unpacked/boot/config-$release" "$stage/config"
  for lib in "$stage/unpacked/lib" "$stage/unpacked/usr/lib"; do
    [[ ! -d $lib/modules/$release ]] || mv "$lib/modules/$release" "$stage/modules"
  done
  [[ -f $stage/modules/modules.builtin ]] || fail "the kernel packages contain no modules for $release"
  rm -r "$stage/download" "$stage/unpacked"
}
