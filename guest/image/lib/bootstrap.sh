# shellcheck shell=bash
# The packages of an image, installed into an archive. This is the slow part, so it knows nothing of
# the agent or the kernel: a new agent costs only the file system image.

build_bootstrap() {
  local hash
  hash=$(hash_inputs "$distribution" "$suite" "$stamp" \
    "$(hash_scripts lib/bootstrap.sh lib/distribution.sh rootfs/dpkg-excludes.conf "$image.packages")")
  readonly bootstrap_hash=$hash
  part "bootstrap-$image" "$hash" make_bootstrap
  readonly bootstrap_dir=$part_dir
}

# The names of a package list, comments and blank lines removed.
listed_packages() {
  sed -e 's/#.*//' -e 's/[[:space:]]//g' -e '/^$/d' "$here/$image.packages"
}

make_bootstrap() {
  local stage=$1
  ((EUID == 0)) || fail "installing the packages of a root filesystem needs root: run build.sh with sudo" 2
  if ! package_sources >"$stage/sources.list"; then
    update_package_lists
    package_sources >"$stage/sources.list"
  fi
  if command -v mmdebstrap >/dev/null; then
    bootstrap_with_mmdebstrap "$stage"
  else
    require debootstrap mmdebstrap
    bootstrap_with_debootstrap "$stage"
  fi
}

bootstrap_with_mmdebstrap() {
  local stage=$1 setting
  local -a options=()
  # mmdebstrap does not read this machine's apt configuration, but how to reach the mirror is written there.
  while read -r setting; do
    options+=("--aptopt=$setting")
  done < <(apt-config dump | grep -E '^Acquire::(http|https|Check-)[^ ]* "[^"]+";$')
  while read -r setting; do
    [[ $setting == \#* ]] || options+=("--dpkgopt=$setting")
  done <"$here/rootfs/dpkg-excludes.conf"
  TMPDIR=$stage mmdebstrap --mode=root --format=tar --variant=minbase --architectures=amd64 \
    --include="$(listed_packages | paste -sd,)" "${options[@]}" \
    "$suite" "$stage/bootstrap.tar" "$stage/sources.list"
}

bootstrap_with_debootstrap() {
  local stage=$1 tree=$1/tree mirror
  # The suite itself, not its updates: the others are added by a second step inside.
  mirror=$(awk -v suite="$suite" '$3 == suite { print $2; exit }' "$stage/sources.list")
  # In a mount namespace of its own: when this is killed, what it mounted inside the tree goes with it.
  # shellcheck disable=SC2016 # expanded by the inner shell
  unshare --mount bash -euc '
    debootstrap --variant=minbase --components="$1" "$2" "$3" "$4"
    cp "$5" "$3/etc/apt/sources.list"
    cp "$6" "$3/etc/dpkg/dpkg.cfg.d/torpor-excludes"
    cp /etc/resolv.conf "$3/etc/resolv.conf"
    chroot "$3" apt-get update
    chroot "$3" env DEBIAN_FRONTEND=noninteractive apt-get --yes dist-upgrade
    chroot "$3" env DEBIAN_FRONTEND=noninteractive apt-get --yes --no-install-recommends install $7
  ' bootstrap "${components// /,}" "$suite" "$tree" "$mirror" "$stage/sources.list" \
    "$here/rootfs/dpkg-excludes.conf" "$(listed_packages | paste -sd' ')"
  tar --sort=name --numeric-owner --xattrs -C "$tree" -cf "$stage/bootstrap.tar" .
  rm -rf --one-file-system "$tree"
}
