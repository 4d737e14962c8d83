package forward

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

const soon = 20 * time.Second

func TestParseTable(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 0100007F:1F91 0100007F:0001 01 00000000:00000000 00:00000000 00000000     0        0 1 1
   2: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0 0 0
`
	found, err := parseTable([]byte(table))
	want := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:8080"), netip.MustParseAddrPort("[::1]:80")}
	if err != nil || len(found) != 2 || found[0] != want[0] || found[1] != want[1] {
		t.Errorf("got %v, %v; want %v", found, err, want)
	}
	if _, err := parseTable([]byte("0: zz:1 0:0 0A")); err == nil {
		t.Error("nonsense was accepted")
	}
}

func TestRules(t *testing.T) {
	servers := func(list string) (all []netip.AddrPort) {
		for _, text := range strings.Fields(list) {
			all = append(all, netip.MustParseAddrPort(text))
		}
		return all
	}
	outside := []netip.Addr{netip.MustParseAddr("10.0.0.2")}
	cases := []struct{ name, servers, ours, want string }{
		{"localhost only", "127.0.0.1:80", "", "10.0.0.2:80>127.0.0.1:80"},
		{"IPv6 localhost only", "[::1]:80", "", "10.0.0.2:80>[::1]:80"},
		{"both: IPv4 first", "[::1]:80 127.0.0.1:80", "", "10.0.0.2:80>127.0.0.1:80"},
		{"both: IPv4 kept", "127.0.0.1:80 [::1]:80", "", "10.0.0.2:80>127.0.0.1:80"},
		{"everywhere", "0.0.0.0:80", "", ""},
		{"everywhere by IPv6", "127.0.0.1:80 [::]:80", "", ""},
		{"there by itself", "127.0.0.1:80 10.0.0.2:80", "", ""},
		{"there by us", "127.0.0.1:80 10.0.0.2:80", "10.0.0.2:80", "10.0.0.2:80>127.0.0.1:80"},
		{"another loopback address", "127.0.0.53:53", "", ""},
	}
	for _, c := range cases {
		ours := map[netip.AddrPort]bool{}
		for _, own := range servers(c.ours) {
			ours[own] = true
		}
		got := []string{}
		for r := range rules(servers(c.servers), outside, ours) {
			got = append(got, r.listen.String()+">"+r.target.String())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: got %v, want %q", c.name, got, c.want)
		}
	}
}

// echo is a server on localhost only.
func echo(t *testing.T) (port uint16, stop func()) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				conn.Close()
			}()
		}
	}()
	t.Cleanup(func() { listener.Close() })
	return listener.Addr().(*net.TCPAddr).AddrPort().Port(), func() { listener.Close() }
}

// until tries again while the forwarder has not looked yet.
func until(t *testing.T, what string, reached func() bool) {
	t.Helper()
	for deadline := time.Now().Add(soon); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if reached() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

func TestForwarding(t *testing.T) {
	outside := netip.MustParseAddr("127.0.0.2") // stands for the guest's address
	forwarder := New(func() ([]netip.Addr, error) { return []netip.Addr{outside}, nil })
	forwarder.interval = 5 * time.Millisecond
	forwarder.Start()
	forwarder.Start()

	port, stopServer := echo(t)
	address := netip.AddrPortFrom(outside, port).String()
	var conn net.Conn
	until(t, "forwarded", func() (ok bool) {
		var err error
		conn, err = net.Dial("tcp", address)
		return err == nil
	})
	if _, err := conn.Write([]byte("through")); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || string(got) != "through" {
		t.Fatalf("got %q, %v", got, err)
	}

	held, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() {
		forwarder.Stop()
		forwarder.Stop()
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-time.After(soon):
		t.Fatal("Stop does not return")
	}
	if _, err := held.Read(make([]byte, 1)); err == nil {
		t.Error("a connection outlived Stop")
	}
	if _, err := net.Dial("tcp", address); err == nil {
		t.Error("a listener outlived Stop")
	}

	forwarder.Start()
	until(t, "forwarded again", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	stopServer()
	until(t, "closed with its server", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	forwarder.Stop()
}
