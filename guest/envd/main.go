// Command envd is the agent inside every guest: it runs programs, moves files, and
// prepares the guest for snapshots. README.md says more.
package main

import (
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"torpor/guest/envd/internal/access"
	"torpor/guest/envd/internal/cgroup"
	"torpor/guest/envd/internal/forward"
	"torpor/guest/envd/internal/guestos"
	"torpor/guest/envd/internal/process"
	"torpor/guest/envd/internal/server"
)

// version is set by the build: -ldflags "-X main.version=…".
var version = "dev"

func main() {
	port := flag.Int("port", 49983, "TCP port to listen on")
	listen := flag.String("listen", "0.0.0.0", "address to listen on")
	anyCaller := flag.Bool("host-calls-from-anywhere", false, "for tests: let callers on this machine use /init and the Guest service")
	noForward := flag.Bool("no-port-forwarding", false, "do not make servers on localhost reachable at the guest's address")
	showVersion := flag.Bool("version", false, "print the protocol's and the agent's version, then exit")
	flag.Parse()
	if *showVersion {
		fmt.Printf("%s torpor %s\n", server.ProtocolVersion, version)
		return
	}
	if err := run(net.JoinHostPort(*listen, strconv.Itoa(*port)), *anyCaller, *noForward); err != nil {
		slog.Error("envd cannot go on", "error", err)
		os.Exit(1)
	}
}

func run(address string, anyCaller, noForward bool) error {
	// Files that callers upload are readable by all and writable by their owner.
	unix.Umask(0o022)
	// Without the agent nobody could even look at a guest that ran out of memory.
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0); err != nil {
		slog.Warn("the agent may be killed when memory runs out", "error", err)
	}
	groups, err := cgroup.Open("/sys/fs/cgroup")
	if err != nil {
		slog.Warn("programs share the agent's cgroup", "error", err)
	}
	forwarder := forward.New(forwardFrom)
	if !noForward {
		forwarder.Start()
	}
	parts := server.Parts{
		Version: version, OS: guestos.Linux{}, Groups: groups, Forwarders: forwarder,
		OwnAddresses: access.InterfaceAddresses, Retention: process.Retention,
	}
	if noForward {
		parts.Forwarders = forward.None{}
	}
	if anyCaller {
		parts.OwnAddresses = nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	slog.Info("listening", "address", listener.Addr(), "protocol", server.ProtocolVersion, "version", version)
	return server.New(parts).Serve(listener)
}

// forwardFrom is where the host sends traffic: the guest's IPv4 addresses.
func forwardFrom() ([]netip.Addr, error) {
	all, err := access.InterfaceAddresses()
	if err != nil {
		return nil, err
	}
	var outward []netip.Addr
	for _, address := range all {
		if address.Is4() && !address.IsLoopback() {
			outward = append(outward, address)
		}
	}
	return outward, nil
}
