# shellcheck shell=bash
# What the person at the terminal sees. Everything goes to standard error; standard output carries results only.

fail() {
  echo "build.sh: $1" >&2
  exit "${2:-1}"
}

# require COMMAND PACKAGE: ends the run when a tool is missing, naming the package that has it.
require() {
  command -v "$1" >/dev/null || fail "$1 is needed and not installed: apt-get install $2" 2
}

# part_line STATE KIND HASH MICROSECONDS
part_line() {
  printf '%-7s %-22s %6d.%02d s\n' "$1" "$2-$3" $(($4 / 1000000)) $(($4 % 1000000 / 10000)) >&2
}

# Bash's clock without a fork, in microseconds.
now() {
  echo "${EPOCHREALTIME//[.,]/}"
}
