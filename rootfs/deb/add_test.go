package deb

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// twins are two root trees that start alike: in one dpkg unpacks, in the other this package.
type twins struct{ theirs, ours string }

// newTwins makes trees with an installed package that waits for changes, a diversion, and settings of dpkg.
func newTwins(t *testing.T) twins {
	t.Helper()
	testenv.NeedProgram(t, "dpkg")
	first := build(t, "Package: first\nVersion: 1\nArchitecture: all\n", source{
		"usr/share/first/own": "x", "usr/share/shared/": "", "etc/first.conf": "x\n", "DEBIAN/conffiles": "/etc/first.conf\n", "usr/share/moved": "first's\n", "usr/lib/real/": "", "usr/lib/other": "-> real",
		"DEBIAN/triggers": "interest /usr/share/watched\ninterest-noawait /usr/lib/real\ninterest-noawait named\ninterest waited\n",
	})
	w := twins{filepath.Join(t.TempDir(), "theirs"), filepath.Join(t.TempDir(), "ours")}
	for _, root := range []string{w.theirs, w.ours} {
		for name, text := range map[string]string{
			"var/lib/dpkg/status": "", "var/lib/dpkg/updates/": "", "var/lib/dpkg/triggers/": "", "var/lib/dpkg/info/format": "1\n",
			"var/lib/dpkg/diversions": "/usr/share/moved\n/usr/share/moved.first\nfirst\n/usr/share/local\n/usr/share/local.moved\n:\n", "etc/dpkg/dpkg.cfg.d/docs": "# comment\npath-exclude=/usr/share/doc/*\npath-include /usr/share/doc/*/copyright\nforce-unsafe-io\n",
			"etc/unowned.conf": "another\n", "usr/share/unowned": "y",
		} {
			path := filepath.Join(root, name)
			must(t, os.MkdirAll(filepath.Dir(path), 0o755))
			if strings.HasSuffix(name, "/") {
				must(t, os.MkdirAll(path, 0o755))
				continue
			}
			must(t, os.WriteFile(path, []byte(text), 0o644))
		}
		runDpkg(t, root, "--install", first)
	}
	return w
}

// runDpkg runs dpkg on a tree that has no programs.
func runDpkg(t *testing.T, root string, args ...string) {
	t.Helper()
	// It reads the options of this machine, and not those of the tree.
	paths := []string{"--path-exclude=/usr/share/doc/*", "--path-include=/usr/share/doc/*/copyright"}
	options := []string{"--root=" + root, "--force-not-root", "--force-bad-path", "--force-unsafe-io", "--force-architecture", "--force-script-chrootless", "--force-confdef", "--force-confold", "--log=/dev/null"}
	testenv.Run(t, "dpkg", slices.Concat(options, paths, args)...)
}

// compare looks for differences of the trees. Unless everything is configured, triggers that have happened may be noted in another way.
func (w twins) compare(t *testing.T, what string, done bool) {
	t.Helper()
	leave := []string{"var/lib/dpkg/available", "var/lib/dpkg/lock", "var/lib/dpkg/triggers/Lock", "var/lib/dpkg/status-old", "var/lib/dpkg/tmp.ci"}
	if !done {
		leave = append(leave, "var/lib/dpkg/status", "var/lib/dpkg/triggers/Unincorp")
	}
	strip := func(dir string) string {
		var lines []string
		for line := range strings.Lines(listing(t, dir, leave...)) {
			name, _, _ := strings.Cut(line, " ")
			if strings.HasSuffix(name, ".list") || strings.HasPrefix(name, "var/lib/dpkg/") && !strings.HasPrefix(name, "var/lib/dpkg/info/") || strings.HasPrefix(name, "etc/") || strings.HasSuffix(name, "unowned") || strings.HasSuffix(name, "format") || strings.HasSuffix(name, ".md5sums") {
				// The times are those of the writing.
				if i := strings.Index(line, ` "`); i >= 0 {
					line = line[:i-len("2006-01-02 15:04:05")] + line[i:]
				}
			}
			lines = append(lines, line)
		}
		return strings.Join(lines, "")
	}
	if diff := cmp.Diff(strip(w.theirs), strip(w.ours)); diff != "" {
		t.Errorf("%s (-dpkg +ours): %s", what, diff)
	}
}

// add unpacks packages into ours.
func (w twins) add(t *testing.T, names ...string) error {
	t.Helper()
	a, err := Add(t.Context(), w.ours, names, Options{})
	if err != nil {
		return err
	}
	return errors.Join(a.Unpack(t.Context()), a.Close())
}

// TestAddAsDpkg compares a tree with what dpkg makes of the same packages, unpacked and configured.
func TestAddAsDpkg(t *testing.T) { asBoth(t, testAddAsDpkg) }

func testAddAsDpkg(t *testing.T) {
	w := newTwins(t)
	packages := []string{
		build(t, simple, source{
			"usr/bin/tool": "#!/bin/sh\n", "usr/bin/link": "-> tool", "usr/bin/second": "== usr/bin/tool", "usr/share/watched/a/b": "b", "etc/simple.conf": "setting\n", "etc/unowned.conf": "packaged\n",
			"usr/share/moved": "simple's\n", "usr/share/local": "simple's\n", "usr/share/unowned": "simple's\n", "usr/share/doc/simple/copyright": "c", "usr/share/doc/simple/more": "c", "usr/share/man/man1/": "",
			"DEBIAN/conffiles": "/etc/simple.conf\n/etc/unowned.conf\n", "DEBIAN/triggers": "interest-noawait /usr/share/watched\ninterest mine\nactivate waited\n",
		}),
		build(t, "Package: libother\nVersion: 2\nArchitecture: amd64\nMulti-Arch: same\n", source{
			"usr/lib/other/libother.so": "x", "usr/share/shared/more": "x", "DEBIAN/triggers": "activate-noawait named\n", "DEBIAN/md5sums": "d41d8cd98f00b204e9800998ecf8427e  usr/share/none\n", "DEBIAN/shlibs": "libother 2\n",
		}),
		build(t, "Package: winner\nVersion: 1\nArchitecture: all\nReplaces: loser (<< 2), other\n", source{"usr/share/both": "winner\n"}),
		build(t, "Package: loser\nVersion: 1\nArchitecture: all\n", source{"usr/share/both": "loser\n", "usr/share/loser": "x"}),
		build(t, "Package: empty\nVersion: 1\nArchitecture: all\n", source{}),
	}
	must(t, w.add(t, packages...))
	runDpkg(t, w.theirs, append([]string{"--no-triggers", "--unpack"}, packages[0], packages[1], packages[3], packages[2], packages[4])...)
	w.compare(t, "unpacked", false)
	for _, root := range []string{w.theirs, w.ours} {
		runDpkg(t, root, "--configure", "--pending")
	}
	w.compare(t, "configured", true)
	for _, root := range []string{w.theirs, w.ours} {
		runDpkg(t, root, "--purge", "simple", "libother", "winner", "loser", "empty")
	}
	w.compare(t, "removed", true)
}

// TestAddTriggers has packages wait for what others unpack: what dpkg has noted of it must be the same.
func TestAddTriggers(t *testing.T) { asBoth(t, testAddTriggers) }

func testAddTriggers(t *testing.T) {
	w := newTwins(t)
	name := build(t, simple, source{"usr/share/watched/x": "x", "usr/lib/other/y": "y", "DEBIAN/triggers": "activate waited\nactivate-noawait named\nactivate nobody\n"})
	must(t, w.add(t, name))
	runDpkg(t, w.theirs, "--no-triggers", "--unpack", name)
	// Both read what was noted, and write it down.
	for _, root := range []string{w.theirs, w.ours} {
		runDpkg(t, root, "--no-triggers", "--configure", "simple")
	}
	w.compare(t, "with triggers pending", false)
	// The order of what is pending is another one.
	status := func(root string) string {
		data, err := os.ReadFile(filepath.Join(root, "var/lib/dpkg/status"))
		must(t, err)
		words := strings.Fields(string(data))
		slices.Sort(words)
		return strings.Join(words, "\n")
	}
	if diff := cmp.Diff(status(w.theirs), status(w.ours)); diff != "" {
		t.Errorf("status (-dpkg +ours): %s", diff)
	}
	for _, want := range []string{"triggers-awaited", "triggers-pending", "/usr/share/watched", "named", "waited"} {
		if !strings.Contains(status(w.ours), want) {
			t.Errorf("no %q in %s", want, status(w.ours))
		}
	}
}

// TestAddDeclines leaves to dpkg what is out of the ordinary, and leaves nothing in the way of it.
func TestAddDeclines(t *testing.T) { asBoth(t, testAddDeclines) }

func testAddDeclines(t *testing.T) {
	plain := build(t, simple, source{"usr/share/simple": "x", "etc/s.conf": "s\n", "DEBIAN/conffiles": "/etc/s.conf\n"})
	text := filepath.Join(t.TempDir(), "text")
	must(t, os.WriteFile(text, []byte("x"), 0o644))
	for _, test := range []struct {
		name, want string
		packages   []string
		change     func(root string) error
	}{
		{"installed", "the package first is there already", []string{build(t, "Package: first\nVersion: 2\nArchitecture: all\n", source{})}, nil},
		{"twice", "the package simple is there already", []string{plain, build(t, strings.Replace(simple, "amd64", "i386", 1), source{})}, nil},
		{"another's file", "/usr/share/first/own is in the package first too", []string{plain, build(t, "Package: taker\nVersion: 1\nArchitecture: all\nReplaces: first\n", source{"usr/share/first/own": "y"})}, nil},
		{"no package", "it is no Debian package", []string{text}, nil},
		{"owner", "/usr/share/simple is to have an owner and a mode of its own", []string{plain}, func(root string) error {
			return os.WriteFile(filepath.Join(root, "var/lib/dpkg/statoverride"), []byte("root root 4755 /usr/share/simple\n"), 0o644)
		}},
		{"option", "/etc/dpkg/dpkg.cfg has the option instdir", []string{plain}, func(root string) error {
			return os.WriteFile(filepath.Join(root, "etc/dpkg/dpkg.cfg"), []byte("instdir=/x\n"), 0o644)
		}},
		{"unfinished", "changes that are not done", []string{plain}, func(root string) error {
			return os.WriteFile(filepath.Join(root, "var/lib/dpkg/updates/0001"), []byte("Package: x\n"), 0o644)
		}},
		{"directory in the way", "is a directory", []string{plain}, func(root string) error { return os.MkdirAll(filepath.Join(root, "usr/share/simple"), 0o755) }},
	} {
		w := newTwins(t)
		if test.change != nil {
			must(t, test.change(w.ours))
		}
		status := func() string {
			data, err := os.ReadFile(filepath.Join(w.ours, "var/lib/dpkg/status"))
			must(t, err)
			return string(data)
		}
		before := status()
		if err := w.add(t, test.packages...); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", test.name, err)
		}
		if before != status() {
			t.Errorf("%s: the database has changed", test.name)
		}
		if test.name == "another's file" { // dpkg can do it
			for _, root := range []string{w.theirs, w.ours} {
				runDpkg(t, root, append([]string{"--install"}, test.packages...)...)
			}
			w.compare(t, test.name, true)
		}
	}
}

// TestOffer shows scripts that run before what dpkg shows them.
func TestOffer(t *testing.T) { asBoth(t, testOffer) }

func testOffer(t *testing.T) {
	w := newTwins(t)
	name := build(t, simple, source{"DEBIAN/preinst": "#!/bin/sh\n", "DEBIAN/config": "#!/bin/sh\n", "DEBIAN/templates": "Template: x\n"})
	a, err := Add(t.Context(), w.ours, []string{name}, Options{})
	must(t, err)
	defer func() { must(t, a.Close()) }()
	for range 2 {
		must(t, a.Offer(a.Controls()[0]))
		var got []string
		must(t, filepath.WalkDir(filepath.Join(w.ours, Incoming), func(path string, e fs.DirEntry, err error) error {
			info, err2 := e.Info()
			got = append(got, e.Name()+" "+info.Mode().String())
			return errors.Join(err, err2)
		}))
		want := []string{"tmp.ci drwxr-xr-x", "config -rwxr-xr-x", "control -rw-r--r--", "preinst -rwxr-xr-x", "templates -rw-r--r--"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	must(t, a.Unpack(t.Context()))
	if _, err := os.Stat(filepath.Join(w.ours, Incoming)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestFilter(t *testing.T) {
	f, err := parseFilter([]string{"--force-x", "--path-exclude=/usr/share/doc/*", "--path-include=/usr/share/doc/*/copyright", "--path-exclude=/a?[b-d][!x]\\*", "--path-exclude=/[", "--path-exclude=*.mo"})
	must(t, err)
	for _, test := range []struct {
		name       string
		dir, skips bool
	}{
		{"/usr/share/doc/a/README", false, true}, {"/usr/share/doc/a/copyright", false, false}, {"/usr/share/doc/a", true, false}, {"/usr/share/doc", true, false},
		{"/axby*", false, true}, {"/axbx*", false, false}, {"/axby", false, false}, {"/[", false, true}, {"/usr/x.mo", true, true}, {"/usr/x.mo.y", false, false},
	} {
		if got := f.skips(test.name, test.dir); got != test.skips {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

// FuzzFilter reads patterns and matches names, without an end in a panic; a pattern without special characters matches itself alone.
func FuzzFilter(f *testing.F) {
	for _, pattern := range []string{"/usr/share/doc/*", "[a-", "[]x]", `a\`, "[!x]?", "[z-a]", ""} {
		f.Add(pattern, "/usr/share/doc/x")
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		rules, err := parseFilter([]string{"--path-exclude=" + pattern})
		if err != nil {
			return
		}
		got := rules.skips(name, false)
		if !strings.ContainsAny(pattern, `*?[\`) && got != (name == pattern) {
			t.Errorf("%q and %q: %v", pattern, name, got)
		}
	})
}
