# shellcheck shell=bash
# Guests run the distribution and suite of the host: its keys, mirrors and proxies are known to work.

# shellcheck source=/dev/null
read -r distribution suite < <(. /etc/os-release && echo "$ID ${VERSION_CODENAME:-}")
readonly distribution suite

[[ $(uname -m) == x86_64 ]] || fail "guest images are built for x86_64, this is $(uname -m)" 2

case $distribution in
  debian) components=main kernel_meta=(linux-image-cloud-amd64) ;;
  # tini is in universe. Ubuntu has no cloud kernel of that name; "virtual" is its smallest for guests, "kvm" the older name.
  ubuntu) components='main universe' kernel_meta=(linux-image-virtual linux-image-kvm) ;;
  *) fail "guest images are built on Debian or Ubuntu, this is $distribution" 2 ;;
esac
readonly components kernel_meta

# One line per suite in the form of sources.list, from the apt configuration of this machine; false
# when apt has no package lists yet, for only they say whose packages a source has.
package_sources() {
  local uri release component
  declare -A wanted=()
  while IFS='|' read -r uri release component; do
    [[ " $components " != *" $component "* ]] || wanted["$uri $release"]+=" $component"
  done < <(apt-get indextargets --format "\$(REPO_URI)|\$(RELEASE)|\$(COMPONENT)|\$(ORIGIN)" 'Created-By: Packages' |
    sed -n "s/|${distribution^}\$//p")
  ((${#wanted[@]})) || return
  for release in "${!wanted[@]}"; do
    echo "deb $release${wanted[$release]}"
  done | LC_ALL=C sort
}

update_package_lists() {
  ((EUID == 0)) || fail "apt's package lists are missing or out of date: run apt-get update as root"
  apt-get update
}
