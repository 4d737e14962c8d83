# shellcheck shell=bash
# Content-addressed parts: DIR/<kind>-<hash>/, staged in DIR/.staging and renamed when complete.

# Files that no input dates get this time, so that equal inputs make equal images.
export SOURCE_DATE_EPOCH=1735689600

open_cache() {
  mkdir -p "$cache/.staging" "$cache/logs" || fail "cannot make the cache directory $cache" 2
  cache=$(readlink -f "$cache")
  readonly cache
  # Children inherit the lock on purpose: should this script be killed, the lock is held until the
  # last command it started is gone too, and only then may its leftovers be removed.
  exec {lock}>"$cache/.lock"
  if ! flock --nonblock "$lock"; then
    echo "waiting for another build in $cache" >&2
    flock "$lock"
  fi
  remove_leftovers
  trap remove_leftovers EXIT
  read_refresh_stamp
}

remove_leftovers() {
  rm -rf --one-file-system "$cache/.staging"
  mkdir -p "$cache/.staging"
}

# Kernel and packages are "the newest of the suite" when first built and then stay. The stamp is among
# their inputs; a new one makes new parts beside the old, which running guests may be using.
read_refresh_stamp() {
  [[ $refresh == no ]] || date -u +%Y-%m-%dT%H:%M:%SZ >"$cache/refreshed"
  stamp=never
  [[ ! -f $cache/refreshed ]] || read -r stamp <"$cache/refreshed"
  readonly stamp
}

# hash_inputs WORD... : one hash for all a part is made from
hash_inputs() {
  printf '%s\n' "$@" | sha256sum | cut -d' ' -f1
}

sha256_of() {
  sha256sum "$1" | cut -d' ' -f1
}

# hash_tree DIRECTORY [FIND TEST...] : names are relative, so that it does not matter where the checkout is.
hash_tree() {
  (cd "$1" && find . -type f "${@:2}" -print0 | LC_ALL=C sort --zero-terminated | xargs -0 --no-run-if-empty sha256sum) | sha256sum
}

# hash_scripts NAME... : files beside build.sh
hash_scripts() {
  (cd "$here" && sha256sum "$@") | sha256sum
}

# part KIND HASH BUILDER: sets part_dir. BUILDER runs in a subshell with errexit, its argument an empty staging directory.
part() {
  local kind=$1 hash=${2:0:12} builder=$3 started log status
  started=$(now)
  part_dir=$cache/$kind-$hash
  if [[ -d $part_dir ]]; then
    part_line cached "$kind" "$hash" $(($(now) - started))
    return
  fi
  log=$cache/logs/$kind-$hash.log
  local stage=$cache/.staging/$kind-$hash
  mkdir "$stage"
  # A function called in a condition runs without errexit; hence the status by hand.
  set +e
  if [[ $verbose == yes ]]; then
    (set -e -o pipefail; "$builder" "$stage") 2>&1 | tee "$log" >&2
    status=${PIPESTATUS[0]}
  else
    (set -e; "$builder" "$stage") >"$log" 2>&1
    status=$?
  fi
  set -e
  if ((status != 0)); then
    [[ $verbose == yes ]] || tail -n 25 "$log" >&2
    fail "building $kind failed with status $status; the whole log: $log"
  fi
  # On disk before it has its name: after a power cut a part is whole or absent.
  sync --file-system "$stage"
  mv --no-target-directory "$stage" "$part_dir"
  part_line built "$kind" "$hash" $(($(now) - started))
}

# record_sha256 FILE: writes FILE's hash to "sha256" beside it, so that warm runs need not read it again.
record_sha256() {
  sha256_of "$1" >"$(dirname "$1")/sha256"
}
