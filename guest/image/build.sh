#!/usr/bin/env bash
# Builds what a guest boots from. See --help.
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
readonly here

# shellcheck source=lib/report.sh
source "$here/lib/report.sh"
# shellcheck source=lib/cache.sh
source "$here/lib/cache.sh"
# shellcheck source=lib/distribution.sh
source "$here/lib/distribution.sh"
# shellcheck source=lib/agent.sh
source "$here/lib/agent.sh"
# shellcheck source=lib/kernel.sh
source "$here/lib/kernel.sh"
# shellcheck source=lib/initramfs.sh
source "$here/lib/initramfs.sh"
# shellcheck source=lib/bootstrap.sh
source "$here/lib/bootstrap.sh"
# shellcheck source=lib/rootfs.sh
source "$here/lib/rootfs.sh"
# shellcheck source=lib/index.sh
source "$here/lib/index.sh"

usage() {
  cat <<'HELP'
NAME
  build.sh - build the guest agent, kernel, initramfs and root filesystem

SYNOPSIS
  build.sh --cache DIR [--image NAME] [--agent FILE] [--refresh] [--verbose]
  build.sh --help

DESCRIPTION
  Builds each part into DIR/<kind>-<hash>/, where <hash> is made from everything the part is built
  from, and writes DIR/images.json, which names the parts to boot. What exists is not built again, so
  a second run takes a fraction of a second. No Docker, no loop device, no mount on the host.

  Parts: agent (guest/envd, a static binary), kernel (the distribution's cloud kernel), initramfs,
  bootstrap (the installed packages) and rootfs (the file system image with the agent inside).

  Each part appears under its final name only when it is complete and on disk. Runs with the same
  DIR wait for each other. What an interrupted run left behind is removed by the next.

OPTIONS
  --cache DIR    where parts and images.json go; made if absent
  --image NAME   the image to build: reads NAME.packages beside this script (default: minimal)
  --agent FILE   use this agent binary instead of compiling guest/envd (no Go needed then)
  --refresh      resolve kernel and packages anew, for security updates; parts in use stay as they are
  --verbose      show what the build commands print, which otherwise goes to DIR/logs/ only
  --help         this text

OUTPUT
  One line per part (built or cached, with seconds) on standard error. The path of images.json is the
  last line of standard output.

EXIT STATUS
  0  images.json names complete parts
  1  a part failed; the end of its log was shown
  2  wrong usage, or this machine lacks something (the message names it)

ENVIRONMENT
  http_proxy, https_proxy, GOPROXY and the like are passed on to apt and Go. The machine's own apt
  sources decide where packages come from.

NEEDS
  The packages of host-packages.txt, Go and Python 3. Root is needed only to install the packages of
  a root filesystem (its files belong to several users); agent, kernel and initramfs build without.
HELP
}

wrong_usage() {
  echo "build.sh: $1; see build.sh --help" >&2
  exit 2
}

parse_arguments() {
  cache='' image=minimal agent_file='' refresh=no verbose=no
  while (($#)); do
    case $1 in
      --cache | --image | --agent) [[ $# -ge 2 && -n $2 ]] || wrong_usage "$1 needs a value" ;;&
      --cache) cache=$2 && shift 2 ;;
      --image) image=$2 && shift 2 ;;
      --agent) agent_file=$2 && shift 2 ;;
      --refresh) refresh=yes && shift ;;
      --verbose) verbose=yes && shift ;;
      --help | -h) usage && exit 0 ;;
      *) wrong_usage "unknown argument $1" ;;
    esac
  done
  [[ -n $cache ]] || wrong_usage "--cache is missing"
  [[ $image =~ ^[a-z0-9][a-z0-9-]*$ ]] || wrong_usage "--image takes lower case letters, digits and dashes"
  [[ -f $here/$image.packages ]] || wrong_usage "there is no image $image ($image.packages is missing)"
  readonly image agent_file refresh verbose
}

main() {
  parse_arguments "$@"
  open_cache
  build_agent
  build_kernel
  build_initramfs
  build_bootstrap
  build_rootfs
  write_index
}

main "$@"
