# shellcheck shell=bash
# The guest agent: guest/envd compiled to one static binary, or a given file.

build_agent() {
  local hash source=$here/../envd
  if [[ -n $agent_file ]]; then
    [[ -x $agent_file ]] || fail "--agent $agent_file is not an executable file" 2
    hash=$(hash_inputs "given agent" "$(sha256_of "$agent_file")")
  else
    require go golang
    [[ -f $source/go.mod ]] || fail "guest/envd has no go.mod: is the checkout complete?" 2
    hash=$(hash_inputs "$(go version)" "$(hash_scripts lib/agent.sh)" \
      "$(hash_tree "$source" ! -name '*_test.go' ! -name '*.md')")
  fi
  readonly agent_hash=$hash
  part agent "$hash" make_agent
  readonly agent_dir=$part_dir
}

make_agent() {
  local binary=$1/envd
  if [[ -n $agent_file ]]; then
    install -m 755 "$agent_file" "$binary"
  else
    CGO_ENABLED=0 go build -C "$here/../envd" -trimpath -buildvcs=false \
      -ldflags "-s -w -X main.version=${agent_hash:0:12}" -o "$binary" .
  fi
  # The first word is the version of the protocol, by which clients decide what they may ask for.
  "$binary" --version | cut -d' ' -f1 >"$1/version"
  grep -qE '^[0-9]+\.[0-9]+\.[0-9]+$' "$1/version" || fail "$binary --version does not begin with a version"
  record_sha256 "$binary"
}
