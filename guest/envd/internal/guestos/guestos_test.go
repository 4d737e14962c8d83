package guestos

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

func TestHostsNaming(t *testing.T) {
	cases := []struct{ name, before, want string }{
		{"empty", "", "127.0.0.1\tlocalhost\n127.0.1.1\tbox\n"},
		{"replaces the old name only", "127.0.0.1 localhost\n127.0.1.1 old\n10.0.0.1 other # mine\n", "127.0.0.1 localhost\n10.0.0.1 other # mine\n127.0.1.1\tbox\n"},
		{"twice is once", "127.0.0.1\tlocalhost\n127.0.1.1\tbox\n", "127.0.0.1\tlocalhost\n127.0.1.1\tbox\n"},
		{"no line end", "127.0.0.1 localhost", "127.0.0.1 localhost\n127.0.1.1\tbox\n"},
	}
	for _, c := range cases {
		if got := hostsNaming(c.before, "box"); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestHostnamesThatCouldWriteHostsLinesAreRefused(t *testing.T) {
	for _, name := range []string{"a b", "a\n1.2.3.4 b", "-a", "", "a..b", string(make([]byte, 65))} {
		if err := (Linux{}).SetHostname(name); err == nil {
			t.Errorf("%q was accepted", name)
		}
	}
}

func TestIdentityFiles(t *testing.T) {
	run := t.TempDir()
	for range 2 { // every resume writes them again
		if err := writeIdentityBelow(run, "abc", "tpl"); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		"torpor/.TORPOR_SANDBOX_ID": "abc", "torpor/.TORPOR_TEMPLATE_ID": "tpl", "torpor/.TORPOR_SANDBOX": "true",
		"e2b/.E2B_SANDBOX_ID": "abc", "e2b/.E2B_TEMPLATE_ID": "tpl", "e2b/.E2B_SANDBOX": "true",
	} {
		got, err := os.ReadFile(filepath.Join(run, path))
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", path, got, err, want)
		}
	}
}

func TestMemory(t *testing.T) {
	got, err := parseMemory([]byte("MemTotal:  100 kB\nMemFree: 1 kB\nMemAvailable: 60 kB\nCached: 20 kB\nSwapCached: 9 kB\n"))
	if want := (Memory{100 << 10, 60 << 10, 20 << 10}); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if _, err := parseMemory([]byte("MemFree: 1 kB\n")); err == nil {
		t.Error("a file without MemTotal was accepted")
	}
	if used, err := (Linux{}).MemoryUsed(); err != nil || used == 0 {
		t.Errorf("this machine uses %d bytes, %v", used, err)
	}
}
func TestMachineIDIsOneOfASandbox(t *testing.T) {
	first, again, other := machineID("abc"), machineID("abc"), machineID("abd")
	if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(first) {
		t.Errorf("%q is no machine-id(5)", first)
	}
	if first != again || first == other {
		t.Errorf("machineID: %q, again %q, of another sandbox %q", first, again, other)
	}
}
