package users

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
)

const (
	passwdText = "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n+::::::\n"
	shadowText = "root:*:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\n"
	groupText  = "root:x:0:\ndaemon:x:1:\nsudo:x:27:\nusers:x:100:\nnogroup:x:65534:\n"
	defsText   = "# comment\nUID_MIN\t\t\t 1000\nUID_MAX 60000\nGID_MIN 1000\nHOME_MODE 0750\nUMASK 022\nUSERGROUPS_ENAB yes\n"
)

// newTree has the accounts of a small Debian.
func newTree(t *testing.T) *layers.Tree {
	t.Helper()
	edit := layers.NewTree().Edit(layers.Timespec{Sec: 5})
	for _, f := range []struct {
		name, text string
		perm       uint32
	}{
		{"etc/passwd", passwdText, 0o644}, {"etc/group", groupText, 0o644}, {"etc/shadow", shadowText, 0o640}, {"etc/gshadow", "root:*::\nsudo:*::\n", 0o640},
		{"etc/login.defs", defsText, 0o644}, {"etc/default/useradd", "SHELL=/bin/sh\n", 0o644}, {"etc/skel/.profile", "p\n", 0o644}, {"etc/skel/bin/x", "x\n", 0o755},
		{"etc/subuid", "", 0o644}, {"etc/subgid", "other:100000:65536\n", 0o644}, {"bin/sh", "x", 0o755}, {"bin/bash", "x", 0o755}, {"usr/sbin/thing", "x", 0o755},
		{"root/.bashrc", "x", 0o644},
	} {
		if err := edit.WriteFile(f.name, []byte(f.text), f.perm); err != nil {
			t.Fatal(err)
		}
	}
	if err := edit.Change("etc/shadow", func(n *layers.Node) { n.GID = 42 }); err != nil {
		t.Fatal(err)
	}
	return edit.Tree()
}

func source() repro.Source { return repro.New(time.Unix(20000*86400, 0), "test") }

func apply(t *testing.T, tree *layers.Tree, users ...description.User) (*layers.Tree, []string) {
	t.Helper()
	edit := tree.Edit(layers.Timespec{Sec: 9})
	notes, err := Apply(edit, nil, users, source())
	if err != nil {
		t.Fatal(err)
	}
	return edit.Tree(), notes
}

// added returns the lines of a file that are not in before.
func added(t *testing.T, tree *layers.Tree, name, before string) string {
	t.Helper()
	data, err := tree.ReadFile(name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	old := slices.Collect(strings.Lines(before))
	var lines strings.Builder
	for line := range strings.Lines(string(data)) {
		if !slices.Contains(old, line) {
			lines.WriteString(line)
		}
	}
	return lines.String()
}

func TestNewUsers(t *testing.T) {
	tree, notes := apply(t, newTree(t),
		description.User{Name: "ann", Password: "$6$x$y", UID: -1, RealName: "Ann A.", Shell: "/bin/bash", Groups: []description.Group{{Name: "users", GID: -1}, {Name: "sudo", GID: -1}}},
		description.User{Name: "bob", Password: "!", UID: -1},
		description.User{Name: "sys", Password: "*", UID: 500, Home: "/var/lib/sys", Shell: "/bin/zsh"},
	)
	for _, test := range []struct{ file, before, want string }{
		{"etc/passwd", passwdText, "ann:x:1000:100:Ann A.:/home/ann:/bin/bash\nbob:x:1001:1001::/home/bob:/bin/sh\nsys:x:500:500::/var/lib/sys:/bin/zsh\n"},
		{"etc/shadow", shadowText, "ann:$6$x$y:20000:0:99999:7:::\nbob:!:20000:0:99999:7:::\nsys:*:20000:0:99999:7:::\n"},
		{"etc/group", groupText, "sudo:x:27:ann\nbob:x:1001:\nsys:x:500:\n"},
		{"etc/gshadow", "root:*::\n", "sudo:*::ann\nbob:!::\nsys:!::\n"},
		{"etc/subuid", "", "ann:100000:65536\nbob:165536:65536\n"},
		{"etc/subgid", "other:100000:65536\n", "ann:165536:65536\nbob:231072:65536\n"},
	} {
		if diff := cmp.Diff(test.want, added(t, tree, test.file, test.before)); diff != "" {
			t.Errorf("%s: %s", test.file, diff)
		}
	}
	if diff := cmp.Diff([]string{"user sys has the shell /bin/zsh, which the root tree lacks"}, notes); diff != "" {
		t.Error(diff)
	}
	data, err := tree.ReadFile("etc/passwd", 1<<20)
	if err != nil || !strings.HasSuffix(string(data), "\n+::::::\n") {
		t.Errorf("the line of the network services is not the last one: %q, %v", data, err)
	}
	want := `etc/shadow 0640 0:42
home/ann 0750 1000:100
home/ann/.profile 0644 1000:100
home/ann/bin 0755 1000:100
home/ann/bin/x 0755 1000:100
home/bob 0750 1001:1001
var/lib/sys 0750 500:500
`
	if diff := cmp.Diff(want, owners(t, tree, "etc/shadow", "home/ann", "home/ann/.profile", "home/ann/bin", "home/ann/bin/x", "home/bob", "var/lib/sys")); diff != "" {
		t.Error(diff)
	}
	if got := owners(t, tree, "etc/skel/bin/x"); got != "etc/skel/bin/x 0755 0:0\n" {
		t.Errorf("the skeleton was changed: %s", got)
	}
}

func owners(t *testing.T, tree *layers.Tree, names ...string) string {
	t.Helper()
	var out strings.Builder
	for _, name := range names {
		n, err := tree.Lookup(name)
		if err != nil {
			t.Error(err)
			continue
		}
		fmt.Fprintf(&out, "%s %04o %d:%d\n", name, n.Perm(), n.UID, n.GID)
	}
	return out.String()
}

func TestChangedUsers(t *testing.T) {
	first, _ := apply(t, newTree(t), description.User{
		Name: "ann", Password: "a", UID: -1, Groups: []description.Group{{Name: "users", GID: -1}, {Name: "sudo", GID: -1}},
	})
	tree, notes := apply(t, first,
		description.User{Name: "root", Password: "$6$new", UID: -1, Home: "/root"},
		description.User{Name: "ann", Password: "a", UID: 2000, Shell: "/bin/bash", Groups: []description.Group{{Name: "ann", GID: 7777}, {Name: "daemon", GID: -1}}},
		description.User{Name: "daemon", Password: "*", UID: -1, Home: "/usr/sbin"},
	)
	if notes != nil {
		t.Errorf("notes %q", notes)
	}
	for _, test := range []struct{ file, before, want string }{
		{"etc/passwd", passwdText, "ann:x:2000:7777::/home/ann:/bin/bash\n"},
		{"etc/shadow", shadowText, "root:$6$new:20000:0:99999:7:::\nann:a:20000:0:99999:7:::\n"},
		{"etc/group", groupText, "daemon:x:1:ann\nann:x:7777:\n"},
	} {
		if diff := cmp.Diff(test.want, added(t, tree, test.file, test.before)); diff != "" {
			t.Errorf("%s: %s", test.file, diff)
		}
	}
	want := "home/ann/bin/x 0755 2000:100\nusr/sbin/thing 0755 0:0\nroot/.bashrc 0644 0:0\n"
	if diff := cmp.Diff(want, owners(t, tree, "home/ann/bin/x", "usr/sbin/thing", "root/.bashrc")); diff != "" {
		t.Error(diff)
	}
}

// TestOverlayHome gives a user what an overlay has put into the home directory.
func TestOverlayHome(t *testing.T) {
	edit := newTree(t).Edit(layers.Timespec{})
	if err := edit.WriteFile("home/ann/.ssh/authorized_keys", []byte("k"), 0o600); err != nil {
		t.Fatal(err)
	}
	tree, _ := apply(t, edit.Tree(), description.User{Name: "ann", Password: "x", UID: -1})
	want := "home/ann 0755 1000:1000\nhome/ann/.ssh/authorized_keys 0600 1000:1000\n"
	if diff := cmp.Diff(want, owners(t, tree, "home/ann", "home/ann/.ssh/authorized_keys")); diff != "" {
		t.Error(diff)
	}
}

func TestGroups(t *testing.T) {
	edit := newTree(t).Edit(layers.Timespec{})
	groups := []description.Group{{Name: "a", GID: 50}, {Name: "b", GID: -1}, {Name: "c", GID: 4000}, {Name: "d", GID: -1}, {Name: "sudo", GID: 3}}
	notes, err := Apply(edit, groups, nil, source())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"group sudo is there with id 27; it does not get id 3"}, notes); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff("a:x:50:\nb:x:1000:\nc:x:4000:\nd:x:4001:\n", added(t, edit.Tree(), "etc/group", groupText)); diff != "" {
		t.Error(diff)
	}
}

func TestPlainPassword(t *testing.T) {
	testenv.NeedProgram(t, "openssl")
	for _, password := range []string{"linux", "a", "a longer one with blanks and \"quotes\"", "p\u00e4ssw\u00f6rd", strings.Repeat("x", 100)} {
		salt := source().Salt(password, 16)
		got, err := Hash(password, salt)
		if err != nil {
			t.Fatal(err)
		}
		want := strings.TrimSpace(testenv.Run(t, "openssl", "passwd", "-6", "-salt", salt, password))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", password, diff)
		}
	}
	tree, _ := apply(t, newTree(t), description.User{Name: "root", Password: "linux", Plain: true, UID: -1})
	again, _ := apply(t, newTree(t), description.User{Name: "root", Password: "linux", Plain: true, UID: -1})
	got := added(t, tree, "etc/shadow", shadowText)
	if !strings.HasPrefix(got, "root:$6$") || got != added(t, again, "etc/shadow", shadowText) {
		t.Errorf("shadow has %q", got)
	}
}

func TestWithoutShadow(t *testing.T) {
	tree, notes := apply(t, layers.NewTree(), description.User{Name: "root", Password: "", UID: 0, Home: "/root"})
	if diff := cmp.Diff("root::0:0::/root:/bin/sh\n", added(t, tree, "etc/passwd", "")); diff != "" {
		t.Error(diff)
	}
	if len(notes) != 2 || !strings.Contains(notes[0], "empty password") {
		t.Errorf("notes %q", notes)
	}
}

// TestOtherTrees makes users in trees of other kinds than Debian's.
func TestOtherTrees(t *testing.T) {
	type files map[string]string
	ann := description.User{Name: "ann", Password: "!", UID: -1, Groups: nil}
	for _, test := range []struct {
		name  string
		files files
		user  description.User
		want  files
	}{
		{"nothing at all", nil, description.User{Name: "root", Password: "!", UID: -1}, files{"etc/passwd": "root:!:0:0::/root:/bin/sh\n", "etc/group": "root:x:0:\n"}},
		{"Alpine, without settings", files{"etc/passwd": "root:x:0:0:root:/root:/bin/ash\n", "etc/shadow": "root:*::0:::::\n", "etc/group": "root:x:0:root\nusers:x:100:games\n"}, ann,
			files{"etc/passwd": "root:x:0:0:root:/root:/bin/ash\nann:x:1000:1000::/home/ann:/bin/sh\n", "etc/shadow": "root:*::0:::::\nann:!:20000:0:99999:7:::\n", "etc/group": "root:x:0:root\nusers:x:100:games\nann:x:1000:\n"}},
		{"SUSE, settings in /usr/etc", files{"etc/passwd": "root:x:0:0:root:/root:/bin/bash\n", "etc/shadow": "root:*:1::::::\n", "etc/group": "root:x:0:\nusers:x:100:\n",
			"usr/etc/login.defs": "UID_MIN 1000\nUSERGROUPS_ENAB no\n", "usr/etc/default/useradd": "GROUP=100\nSHELL=/bin/bash\n"}, ann,
			files{"etc/passwd": "root:x:0:0:root:/root:/bin/bash\nann:x:1000:100::/home/ann:/bin/bash\n", "etc/group": "root:x:0:\nusers:x:100:\n"}},
		{"Fedora, group shadow", files{"etc/passwd": "root:x:0:0:root:/root:/bin/bash\n", "etc/shadow": "root:!locked::0:99999:7:::\n", "etc/group": "root:x:0:\nwheel:x:10:\n", "etc/gshadow": "root:::\nwheel:::\n",
			"etc/login.defs": "CREATE_HOME yes\nUSERGROUPS_ENAB yes\nSUB_UID_COUNT 65536\n", "etc/subuid": "", "etc/subgid": ""},
			description.User{Name: "ann", Password: "!", UID: -1, Groups: []description.Group{{Name: "ann", GID: -1}, {Name: "wheel", GID: -1}}},
			files{"etc/gshadow": "root:::\nwheel:::ann\nann:!::\n", "etc/subuid": "ann:100000:65536\n", "etc/group": "root:x:0:\nwheel:x:10:ann\nann:x:1000:\n"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			edit := layers.NewTree().Edit(layers.Timespec{})
			for name, text := range test.files {
				if err := edit.WriteFile(name, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := Apply(edit, test.user.Groups, []description.User{test.user}, source()); err != nil {
				t.Fatal(err)
			}
			for name, want := range test.want {
				data, err := edit.ReadFile(name, 1<<20)
				if diff := cmp.Diff(want, string(data)); diff != "" || err != nil {
					t.Errorf("/%s: %v %s", name, err, diff)
				}
			}
		})
	}
}

func TestErrors(t *testing.T) {
	origin := description.Origin{Pos: description.Position{File: "config.xml", Line: 7, Column: 5}}
	for _, test := range []struct {
		user description.User
		want string
	}{
		{description.User{Origin: origin, Name: "a:b", UID: -1}, "config.xml:7:5: user a:b can't be made: the name must not"},
		{description.User{Origin: origin, Name: "a", UID: 1}, "id 1 belongs to another user"},
		{description.User{Origin: origin, Name: "a", UID: -1, RealName: "x:y"}, "the real name must not"},
		{description.User{Origin: origin, Name: "a", UID: -1, Password: "x:y"}, "pwdformat"},
		{description.User{Origin: origin, Name: "a", UID: -1, Home: "/etc/passwd"}, "a file is in the way"},
		{description.User{Origin: origin, Name: "a", UID: -1, Groups: []description.Group{{Name: "b", GID: 27}}}, "id 27 belongs to another group"},
	} {
		_, err := Apply(newTree(t).Edit(layers.Timespec{}), nil, []description.User{test.user}, source())
		var at *description.Error
		if err == nil || !strings.Contains(err.Error(), test.want) || !errors.As(err, &at) {
			t.Errorf("want %q, got %v", test.want, err)
		}
		if err != nil && test.user.Password != "" && strings.Contains(err.Error(), test.user.Password) {
			t.Errorf("the error tells the password: %v", err)
		}
	}
}

func TestLookup(t *testing.T) {
	for owner, want := range map[string]string{"": "0:0", "daemon": "1:1", "daemon:sudo": "1:27", "7:8": "7:8", "7": "7:7", "root:100": "0:100", "nobody": "65534:65534"} {
		uid, gid, err := Lookup(newTree(t).Edit(layers.Timespec{}), owner)
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, fmt.Sprintf("%d:%d", uid, gid)); diff != "" {
			t.Errorf("%s: %s", owner, diff)
		}
	}
	if _, _, err := Lookup(newTree(t).Edit(layers.Timespec{}), "who"); err == nil {
		t.Error("an owner that is not there has ids")
	}
}

// FuzzApply gives account files of strangers a user.
func FuzzApply(f *testing.F) {
	f.Add(passwdText, shadowText, groupText, "SUB_UID_COUNT 5\n")
	f.Add("+\n\n:\n", "ann:", "ann:x:99999999999:\n", "UID_MIN 0x\nUID_MAX 4294967295\n")
	f.Fuzz(func(t *testing.T, passwd, shadow, group, defs string) {
		edit := layers.NewTree().Edit(layers.Timespec{})
		for name, text := range map[string]string{"etc/passwd": passwd, "etc/shadow": shadow, "etc/group": group, "etc/gshadow": group, "etc/login.defs": defs, "etc/subuid": shadow} {
			if err := edit.WriteFile(name, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		user := description.User{Name: "ann", Password: "!", UID: -1, Groups: []description.Group{{Name: "g", GID: -1}, {Name: "h", GID: 5}}}
		if _, err := Apply(edit, nil, []description.User{user}, source()); err != nil {
			return
		}
		data, err := edit.ReadFile("etc/passwd", 1<<30)
		if err != nil || strings.Count("\n"+string(data), "\nann:") == 0 {
			t.Errorf("no ann in %q, %v", data, err)
		}
	})
}

func TestNextID(t *testing.T) {
	for _, test := range []struct {
		used            []uint32
		low, high, want uint32
	}{
		{nil, 1000, 60000, 1000}, {[]uint32{1000, 1005}, 1000, 60000, 1006}, {[]uint32{1000, 60000}, 1000, 60000, 1001}, {[]uint32{65534, 1<<32 - 1}, 1000, 1<<32 - 1, 65535},
		{[]uint32{1<<32 - 3}, 1000, 1<<32 - 1, 1000},
	} {
		used := map[uint32]bool{}
		for _, id := range test.used {
			used[id] = true
		}
		if got, err := nextID(used, test.low, test.high); err != nil || got != test.want {
			t.Errorf("%v from %d to %d: %d, %v; want %d", test.used, test.low, test.high, got, err, test.want)
		}
	}
	if id, err := nextID(map[uint32]bool{5: true}, 5, 5); err == nil {
		t.Errorf("a full range gave %d", id)
	}
}
