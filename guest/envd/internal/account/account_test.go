package account

import (
	"errors"
	"os/user"
	"testing"
)

func TestResolvePath(t *testing.T) {
	me := &Account{Name: "u", Home: "/home/u"}
	cases := []struct{ path, workdir, want string }{
		{"", "", "/home/u"},
		{"", "/work", "/work"},
		{"", "~/work", "/home/u/work"},
		{"~", "/work", "/home/u"},
		{"~/a/../b", "", "/home/u/b"},
		{"a/b", "/work", "/home/u/a/b"},
		{"./a", "", "/home/u/a"},
		{"../x", "", "/home/x"},
		{"/a//b/", "", "/a/b"},
		{"/../a", "", "/a"},
		{"~other/a", "", ""},
		{"a\x00b", "", ""},
	}
	for _, c := range cases {
		got, err := me.ResolvePath(c.path, c.workdir)
		if got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("ResolvePath(%q, %q) = %q, %v; want %q", c.path, c.workdir, got, err, c.want)
		}
	}
}

func TestLookup(t *testing.T) {
	root, err := Lookup("root")
	if err != nil || root.UID != 0 || root.GID != 0 || len(root.Groups) == 0 {
		t.Fatalf("root is %+v, %v", root, err)
	}
	_, err = Lookup("root123")
	var unknown *UnknownUserError
	if !errors.As(err, &unknown) || err.Error() != "invalid username: 'root123'" {
		t.Errorf("got %v", err)
	}
}

func TestGroupsHaveThePrimaryFirstAndOnce(t *testing.T) {
	current, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	found, err := Lookup(current.Username)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[uint32]bool{}
	for _, group := range found.Groups {
		if seen[group] {
			t.Errorf("group %d twice in %v", group, found.Groups)
		}
		seen[group] = true
	}
	if found.Groups[0] != found.GID {
		t.Errorf("groups %v do not begin with %d", found.Groups, found.GID)
	}
}
