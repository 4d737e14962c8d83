package forward

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
)

const stateListen = "0A"

// listening reads what the kernel says is listening, on IPv4 and IPv6.
func listening() ([]netip.AddrPort, error) {
	var all []netip.AddrPort
	for _, path := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		table, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, err
		}
		found, err := parseTable(table)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, found...)
	}
	return all, nil
}

func parseTable(table []byte) ([]netip.AddrPort, error) {
	var found []netip.AddrPort
	for line := range bytes.Lines(table) {
		fields := bytes.Fields(line)
		if len(fields) < 4 || string(fields[3]) != stateListen {
			continue
		}
		address, err := parseAddress(fields[1])
		if err != nil {
			return nil, fmt.Errorf("line %q: %w", line, err)
		}
		found = append(found, address)
	}
	return found, nil
}

// parseAddress undoes the kernel's form: words of four bytes, each in the machine's
// order, which is little-endian wherever this runs.
func parseAddress(text []byte) (netip.AddrPort, error) {
	host, port, found := bytes.Cut(text, []byte(":"))
	if !found {
		return netip.AddrPort{}, fmt.Errorf("no port in %q", text)
	}
	raw := make([]byte, hex.DecodedLen(len(host)))
	if _, err := hex.Decode(raw, host); err != nil {
		return netip.AddrPort{}, err
	}
	if len(raw)%4 != 0 {
		return netip.AddrPort{}, fmt.Errorf("address of %d bytes", len(raw))
	}
	for word := 0; word < len(raw); word += 4 {
		raw[word], raw[word+1], raw[word+2], raw[word+3] = raw[word+3], raw[word+2], raw[word+1], raw[word]
	}
	address, ok := netip.AddrFromSlice(raw)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("address of %d bytes", len(raw))
	}
	number, err := strconv.ParseUint(string(port), 16, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(address, uint16(number)), nil
}
