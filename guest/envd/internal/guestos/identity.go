package guestos

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

var hostnamePattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,62})(\.[A-Za-z0-9]([A-Za-z0-9-]{0,62}))*$`)

func (Linux) SetHostname(name string) error {
	if len(name) > 64 || !hostnamePattern.MatchString(name) {
		return fmt.Errorf("hostname '%s': letters, digits, '-' and '.' only, at most 64 in all", name)
	}
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("sethostname '%s': %w", name, err)
	}
	if err := os.WriteFile("/etc/hostname", []byte(name+"\n"), 0o644); err != nil {
		return err
	}
	hosts, err := os.ReadFile("/etc/hosts")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.WriteFile("/etc/hosts", []byte(hostsNaming(string(hosts), name)), 0o644)
}

// hostsNaming replaces the line of 127.0.1.1, Debian's address for a machine's own
// name, keeps every other line, and adds localhost where it is missing.
func hostsNaming(hosts, name string) string {
	kept := []string{}
	localhost := false
	for line := range strings.Lines(hosts) {
		line = strings.TrimRight(line, "\n")
		fields := strings.Fields(line)
		if len(fields) > 0 && fields[0] == "127.0.1.1" {
			continue
		}
		if len(fields) > 1 && fields[0] == "127.0.0.1" {
			localhost = true
		}
		kept = append(kept, line)
	}
	if !localhost {
		kept = append([]string{"127.0.0.1\tlocalhost"}, kept...)
	}
	return strings.Join(append(kept, "127.0.1.1\t"+name), "\n") + "\n"
}

// WriteIdentity uses /run, which is memory: a disk copied to another sandbox must
// not carry the name of the first.
func (Linux) WriteIdentity(sandboxID, templateID string) error {
	if err := writeIdentityBelow("/run", sandboxID, templateID); err != nil || sandboxID == "" {
		return err
	}
	// On disk, since machine-id(5) wants it there; the sandbox that the disk is copied to writes its own.
	return os.WriteFile("/etc/machine-id", []byte(machineID(sandboxID)+"\n"), 0o444)
}

// machineID is the same after every restore of one sandbox and another one in every
// other: programs that must not share it (log daemons, DHCP, licences) ask for it.
func machineID(sandboxID string) string {
	sum := sha256.Sum256([]byte("torpor machine " + sandboxID))
	return hex.EncodeToString(sum[:16])
}

func writeIdentityBelow(run, sandboxID, templateID string) error {
	for _, flavour := range []struct{ folder, prefix string }{{"torpor", ".TORPOR_"}, {"e2b", ".E2B_"}} {
		folder := filepath.Join(run, flavour.folder)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		for name, value := range map[string]string{"SANDBOX": "true", "SANDBOX_ID": sandboxID, "TEMPLATE_ID": templateID} {
			if value == "" {
				continue
			}
			if err := os.WriteFile(filepath.Join(folder, flavour.prefix+name), []byte(value), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}
