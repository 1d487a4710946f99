package selinux

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
)

// rules are in the manner of a distribution's policy.
const rules = `
# comment
/	-d	system_u:object_r:root_t:s0
/.*	system_u:object_r:default_t:s0
/etc(/.*)?	system_u:object_r:etc_t:s0
/etc/shadow.*	--	system_u:object_r:shadow_t:s0
/etc/\.pwd\.lock	--	system_u:object_r:shadow_t:s0
/etc/[^/]*\.conf	--	system_u:object_r:conf_t:s0
/etc/hosts	system_u:object_r:net_conf_t:s0
/usr(/.*)?	system_u:object_r:usr_t:s0
/usr/(.*/)?lib(/.*)?	system_u:object_r:lib_t:s0
/usr/(s)?bin/.*	--	system_u:object_r:bin_t:s0
/usr/s?bin	-d	system_u:object_r:bindir_t:s0
/usr/lib/.*/ld-[^/]*\.so(\.[^/]*)*	--	system_u:object_r:ld_so_t:s0
/usr/bin/passwd	--	system_u:object_r:passwd_exec_t:s0
/usr/bin/sh	-l	system_u:object_r:link_t:s0
/var/(a|b)	system_u:object_r:ab_t:s0
(/var)?/log(/.*)?	system_u:object_r:log_t:s0
/x{2}y	system_u:object_r:xxy_t:s0
/proc	-d	<<none>>
/proc/.*	<<none>>
/tmp/.*	<<none>>
/home/[^/]+	-d	system_u:object_r:home_t:s0
`

func newTree(t *testing.T, names ...string) *layers.Editor {
	t.Helper()
	edit := layers.NewTree().Edit(layers.Timespec{})
	for suffix, text := range map[string]string{"": rules, ".local": "/srv/x\tsystem_u:object_r:local_t:s0\n", ".subs_dist": "/usr/lib64 /usr/lib\n# x\n/bin /usr/bin\n"} {
		if err := edit.WriteFile(contextsFile("targeted")+suffix, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range names {
		var err error
		switch {
		case strings.HasSuffix(name, "/"):
			err = edit.MkdirAll(strings.TrimSuffix(name, "/"), 0o755)
		case strings.HasSuffix(name, "@"):
			err = edit.Symlink("x", strings.TrimSuffix(name, "@"))
		default:
			err = edit.WriteFile(name, nil, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return edit
}

func labelOf(t *testing.T, tree *layers.Tree, name string) string {
	t.Helper()
	n, err := tree.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	context, _ := n.Xattr(Attribute)
	if context != "" && !strings.HasSuffix(context, "\x00") {
		t.Errorf("the context of /%s does not end with a zero byte", name)
	}
	return strings.TrimSuffix(strings.TrimPrefix(strings.TrimSuffix(context, "\x00"), "system_u:object_r:"), ":s0")
}

func TestLabel(t *testing.T) {
	edit := newTree(t, "etc/shadow", "etc/hosts", "etc/x.conf", "usr/bin/passwd", "usr/bin/sh@", "bin@", "usr/lib64/ld-x.so.2", "usr/lib/a/ld-x.so.2", "usr/share/doc", "proc/x", "tmp/y", "home/ann/", "srv/x", "var/log/m")
	if err := edit.Link("usr/share/doc", "usr/share/second"); err != nil {
		t.Fatal(err)
	}
	if err := edit.Change("etc/hosts", func(n *layers.Node) {
		n.Xattrs = []layers.Xattr{{Name: Attribute, Value: "old\x00"}, {Name: "user.x", Value: "kept"}}
	}); err != nil {
		t.Fatal(err)
	}
	if !Has(edit.Tree(), "targeted") || Has(edit.Tree(), "mls") {
		t.Error("the policies of the tree are not known")
	}
	if err := Label(edit, "targeted"); err != nil {
		t.Fatal(err)
	}
	tree := edit.Tree()
	got := map[string]string{}
	want := map[string]string{
		".": "root_t", "etc": "etc_t", "etc/shadow": "shadow_t", "etc/hosts": "net_conf_t", "etc/x.conf": "conf_t", "usr/bin": "bindir_t", "usr/bin/passwd": "passwd_exec_t", "usr/bin/sh": "link_t", "bin": "bindir_t",
		"usr/lib64/ld-x.so.2": "lib_t", "usr/lib/a/ld-x.so.2": "ld_so_t", "usr/share/doc": "usr_t", "proc": "", "proc/x": "", "tmp/y": "", "home/ann": "home_t", "srv/x": "local_t", "var/log/m": "log_t",
	}
	for name := range want {
		got[name] = labelOf(t, tree, name)
	}
	want["bin"] = "usr_t" // a link, for which there is no rule of its own
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	a, _ := tree.Lookup("usr/share/doc")
	b, _ := tree.Lookup("usr/share/second")
	if a != b {
		t.Error("two names of one file are two files now")
	}
	if n, _ := tree.Lookup("etc/hosts"); len(n.Xattrs) != 2 {
		t.Errorf("attributes %v", n.Xattrs)
	}
	again := tree.Edit(layers.Timespec{Sec: 1})
	if err := Label(again, "targeted"); err != nil {
		t.Fatal(err)
	}
	if again.Tree().Root() != tree.Root() {
		t.Error("labels that are right were set again")
	}
}

func TestBadPolicy(t *testing.T) {
	for text, want := range map[string]string{"/a b c d\n": "has 4 fields", "\n/a -q x\n": "file_contexts:2: \"-q\" is no file type"} {
		edit := newTree(t)
		if err := edit.WriteFile(contextsFile("targeted"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := Label(edit, "targeted"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	edit := newTree(t, "a")
	if err := edit.WriteFile(contextsFile("targeted"), []byte("/(?!x)a system_u:object_r:x:s0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Label(edit, "targeted"); err != nil {
		t.Errorf("a pattern that can't be read: %v", err)
	}
}

// TestLikeLibselinux compares with what the library says of random paths.
func TestLikeLibselinux(t *testing.T) {
	tool := testenv.NeedProgram(t, "matchpathcon")
	dir := t.TempDir()
	base := filepath.Join(dir, "file_contexts")
	for suffix, text := range map[string]string{"": rules, ".local": "/srv/x\tsystem_u:object_r:local_t:s0\n", ".subs_dist": "/usr/lib64 /usr/lib\n/bin /usr/bin\n"} {
		if err := os.WriteFile(base+suffix, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	edit := newTree(t)
	c, err := read(edit, "targeted")
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	words := []string{"etc", "usr", "bin", "sbin", "lib", "lib64", "shadow", "shadow-", "hosts", "x.conf", "passwd", "var", "a", "b", "log", "xxy", "proc", "tmp", "home", "ann", "ld-2.so", "ld-2.so.1", ".pwd.lock", "srv", "x"}
	kinds := map[string]uint32{"file": layers.TypeRegular, "dir": layers.TypeDir, "symlink": layers.TypeSymlink}
	args := []string{"-n", "-f", base}
	for name, kind := range kinds {
		var paths []string
		for range 150 {
			var p strings.Builder
			for range 1 + random.IntN(4) {
				p.WriteString("/" + words[random.IntN(len(words))])
			}
			paths = append(paths, p.String())
		}
		flag := map[string]string{"file": "file", "dir": "dir", "symlink": "symlink"}[name]
		out := testenv.Run(t, tool, append(append(args, "-m", flag), paths...)...)
		lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
		if len(lines) != len(paths) {
			t.Fatalf("%d answers for %d paths: %s", len(lines), len(paths), out)
		}
		for i, p := range paths {
			context, ok := c.lookup(p, kind)
			if !ok {
				context = "<<none>>"
			}
			if context != lines[i] {
				t.Errorf("%s (%s): %s, the library says %s", p, name, context, lines[i])
			}
		}
	}
}

// BenchmarkLabel labels as many files as a small distribution has, with as many rules as Fedora's policy.
func BenchmarkLabel(b *testing.B) {
	edit := layers.NewTree().Edit(layers.Timespec{})
	var text strings.Builder
	text.WriteString(rules)
	for i := range 6000 {
		fmt.Fprintf(&text, "/usr/share/package%d(/.*)?\tsystem_u:object_r:t%d_t:s0\n", i, i)
	}
	if err := edit.WriteFile(contextsFile("targeted"), []byte(text.String()), 0o644); err != nil {
		b.Fatal(err)
	}
	for i := range 17000 {
		if err := edit.WriteFile(fmt.Sprintf("usr/share/package%d/%d", i%300, i), nil, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	tree := edit.Tree()
	for b.Loop() {
		if err := Label(tree.Edit(layers.Timespec{}), "targeted"); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzRules looks for policies that end the program.
func FuzzRules(f *testing.F) {
	f.Add(rules)
	f.Add("/a\\ b c\n")
	f.Fuzz(func(t *testing.T, text string) {
		c := &contexts{exact: map[string][]rule{}, patterns: map[string][]*rule{}}
		for i, line := range strings.Split(text, "\n") {
			if c.add(line, i) != nil {
				return
			}
		}
		c.lookup("/usr/bin/x", layers.TypeRegular)
	})
}
