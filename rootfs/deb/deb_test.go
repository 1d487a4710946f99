package deb

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/userns"
)

func TestMain(m *testing.M) {
	userns.MustEnter()
	os.Exit(m.Run())
}

// asBoth runs a test as root and again as an ordinary user.
func asBoth(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	testenv.NeedProgram(t, "dpkg-deb")
	testenv.AsBoth(t, test)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// source is what a package is built from: entries by name; a name that ends in / is a directory, content that begins with -> a symbolic link, and with == a
// hard link.
type source map[string]string

// build makes a package with dpkg-deb and returns its file.
func build(t *testing.T, control string, files source, options ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "package")
	must(t, os.MkdirAll(filepath.Join(dir, "DEBIAN"), 0o755))
	put := func(name, text string, perm fs.FileMode) {
		path := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		if strings.HasSuffix(name, "/") {
			must(t, os.MkdirAll(path, 0o755))
			return
		}
		if target, ok := strings.CutPrefix(text, "-> "); ok {
			must(t, os.Symlink(target, path))
			return
		}
		must(t, os.WriteFile(path, []byte(text), perm))
		must(t, os.Chmod(path, perm))
	}
	put("DEBIAN/control", control+"Maintainer: T <t@example.org>\nDescription: t\n more\n", 0o644)
	for name, text := range files {
		if _, ok := strings.CutPrefix(text, "== "); ok {
			continue
		}
		perm := fs.FileMode(0o644)
		if strings.HasPrefix(text, "#!") {
			perm = 0o755
		}
		put(name, text, perm)
	}
	for name, text := range files {
		if target, ok := strings.CutPrefix(text, "== "); ok {
			must(t, os.Link(filepath.Join(dir, target), filepath.Join(dir, name)))
		}
	}
	must(t, os.Chmod(dir, 0o755))
	out := filepath.Join(t.TempDir(), "out.deb")
	testenv.Run(t, "dpkg-deb", slices.Concat([]string{"--root-owner-group"}, options, []string{"-b", dir, out})...)
	return out
}

// listing is a directory as text: modes, sizes and contents.
func listing(t *testing.T, dir string, leave ...string) string {
	t.Helper()
	var out strings.Builder
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		must(t, err)
		if slices.ContainsFunc(leave, func(l string) bool { return strings.HasPrefix(name, l) }) {
			return nil
		}
		info, err := e.Info()
		must(t, err)
		fmt.Fprintf(&out, "%s %v", name, info.Mode())
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			must(t, err)
			out.WriteString(" -> " + target)
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			must(t, err)
			fmt.Fprintf(&out, " %s %q", info.ModTime().UTC().Format("2006-01-02 15:04:05"), data)
		}
		out.WriteString("\n")
		return nil
	}))
	return out.String()
}

const simple = "Package: simple\nVersion: 1:2.0-1\nArchitecture: amd64\nMulti-Arch: same\n"

func TestReading(t *testing.T) {
	testenv.NeedProgram(t, "dpkg-deb")
	big := strings.Repeat("0123456789abcdef\n", 20000)
	for _, compression := range []string{"none", "gzip", "xz", "zstd"} {
		t.Run(compression, func(t *testing.T) {
			name := build(t, simple, source{"usr/bin/x": "#!/bin/sh\n", "usr/share/big": big, "DEBIAN/postinst": "#!/bin/sh\n"}, "-Z"+compression)
			a, err := Open(name)
			must(t, err)
			defer a.Close()
			c, err := a.Control(t.Context())
			must(t, err)
			if c.Name() != "simple" || c.Fields["Version"] != "1:2.0-1" || c.InfoName() != "simple:amd64" || string(c.Files["postinst"]) != "#!/bin/sh\n" {
				t.Errorf("%+v", c)
			}
			data, err := a.Data(t.Context())
			must(t, err)
			got, err := io.ReadAll(data)
			must(t, errors.Join(err, data.Close()))
			if want := testenv.Run(t, "dpkg-deb", "--fsys-tarfile", name); want != string(got) {
				t.Errorf("dpkg-deb has %d bytes, here are %d", len(want), len(got))
			}
		})
	}
}

// TestQuicken reads what was compressed anew with dpkg-deb.
func TestQuicken(t *testing.T) {
	testenv.NeedPrograms(t, "dpkg-deb", "xz")
	big := make([]byte, 300<<10)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range big {
		big[i] = byte(random.IntN(256))
	}
	for _, test := range []struct {
		name, content, compression string
		want                       bool
	}{{"large", string(big), "xz", true}, {"small", "x", "xz", true}, {"gzip", "x", "gzip", false}} {
		name := build(t, simple, source{"usr/share/big": test.content, "DEBIAN/postinst": "#!/bin/sh\n"}, "-Z"+test.compression)
		out, err := os.Create(filepath.Join(t.TempDir(), "quick.deb"))
		must(t, err)
		done, err := Quicken(t.Context(), name, out)
		must(t, errors.Join(err, out.Close()))
		if done != test.want {
			t.Errorf("%s: %v", test.name, done)
		}
		if !done {
			continue
		}
		for _, what := range []string{"--fsys-tarfile", "--ctrl-tarfile"} {
			if testenv.Run(t, "dpkg-deb", what, name) != testenv.Run(t, "dpkg-deb", what, out.Name()) {
				t.Errorf("%s: dpkg-deb %s differs", test.name, what)
			}
		}
	}
}

func TestDamaged(t *testing.T) {
	testenv.NeedProgram(t, "dpkg-deb")
	name := build(t, simple, source{"usr/share/x": strings.Repeat("x", 1000)}, "-Znone")
	good, err := os.ReadFile(name)
	must(t, err)
	for _, test := range []struct {
		name string
		data []byte
	}{
		{"empty", nil},
		{"text", []byte("hello")},
		{"cut", good[:len(good)/2]},
		{"header only", good[:8]},
		{"another version", bytes.Replace(good, []byte("2.0\n"), []byte("9.0\n"), 1)},
		{"huge member", bytes.Replace(good, []byte("control.tar/    "), []byte("control.zip/    "), 1)},
	} {
		a, err := New(bytes.NewReader(test.data), int64(len(test.data)))
		if err == nil {
			_, err = a.Control(t.Context())
		}
		if err == nil && test.name != "huge member" {
			t.Errorf("%s: no error", test.name)
		}
	}
}

// TestUnpackAsDpkg compares a tree with what dpkg makes of the same packages, and has dpkg configure ours.
func TestUnpackAsDpkg(t *testing.T) { asBoth(t, testUnpackAsDpkg) }

func testUnpackAsDpkg(t *testing.T) {
	testenv.NeedProgram(t, "dpkg")
	names := []string{
		build(t, simple, source{
			"usr/bin/tool": "#!/bin/sh\n", "usr/bin/link": "-> tool", "usr/bin/second": "== usr/bin/tool", "etc/simple.conf": "setting\n", "etc/simple.d/": "",
			"DEBIAN/conffiles": "/etc/simple.conf\n", "DEBIAN/triggers": "interest-noawait /usr/share/watched\ninterest named\nactivate x\n", "DEBIAN/md5sums": "d41d8cd98f00b204e9800998ecf8427e  usr/share/none\n",
		}),
		build(t, "Package: base-files\nVersion: 1\nArchitecture: all\n", source{"tmp/": "", "usr/share/doc/base-files/copyright": "free\n", "DEBIAN/md5sums": "d41d8cd98f00b204e9800998ecf8427e  usr/share/none\n"}),
		build(t, "Package: winner\nVersion: 1\nArchitecture: all\nReplaces: loser (<< 2), other\n", source{"usr/share/both": "winner\n", "DEBIAN/md5sums": "d41d8cd98f00b204e9800998ecf8427e  usr/share/none\n"}),
		build(t, "Package: loser\nVersion: 1\nArchitecture: all\n", source{"usr/share/both": "loser\n", "usr/share/loser": "x", "DEBIAN/md5sums": "d41d8cd98f00b204e9800998ecf8427e  usr/share/none\n"}),
	}
	ours, theirs := filepath.Join(t.TempDir(), "ours"), filepath.Join(t.TempDir(), "theirs")
	for _, dir := range []string{ours, filepath.Join(theirs, "var/lib/dpkg/info"), filepath.Join(theirs, "var/lib/dpkg/updates"), filepath.Join(theirs, "var/lib/dpkg/triggers")} {
		must(t, os.MkdirAll(dir, 0o755))
	}
	must(t, os.WriteFile(filepath.Join(theirs, "var/lib/dpkg/status"), nil, 0o644))
	done := 0
	controls, err := Unpack(t.Context(), ours, names, Options{Unpacked: func() { done++ }})
	must(t, err)
	if len(controls) != 4 || done != 4 || controls[0].Name() != "base-files" {
		t.Errorf("%d packages, %d told", len(controls), done)
	}
	// The one that is replaced first, as its dependencies would have it.
	dpkg := func(root string, args ...string) {
		testenv.Run(t, "dpkg", append([]string{"--root=" + root, "--force-not-root", "--force-bad-path", "--force-unsafe-io", "--force-architecture", "--force-script-chrootless", "--log=/dev/null"}, args...)...)
	}
	dpkg(theirs, "--unpack", names[1], names[0], names[3], names[2])
	leave := []string{"var/lib/dpkg/status", "var/lib/dpkg/available", "var/lib/dpkg/lock", "var/lib/dpkg/triggers/Lock", "var/lib/dpkg/updates", "var/lib/dpkg/info/format", "var/lib/dpkg/triggers/Unincorp", "var/lib/dpkg/arch"}
	strip := func(dir string) string {
		var lines []string
		for line := range strings.Lines(listing(t, dir, leave...)) {
			if strings.Contains(line, "var/lib/dpkg") { // the times are those of the writing
				before, after, _ := strings.Cut(line, "-r")
				if i := strings.Index(after, `"`); i >= 0 {
					line = before + after[i:]
				}
			}
			lines = append(lines, line)
		}
		return strings.Join(lines, "")
	}
	if diff := cmp.Diff(strip(theirs), strip(ours)); diff != "" {
		t.Errorf("(-dpkg +ours): %s", diff)
	}
	for _, root := range []string{theirs, ours} {
		dpkg(root, "--configure", "--pending")
	}
	if diff := cmp.Diff(strip(theirs), strip(ours)); diff != "" {
		t.Errorf("after the configuration (-dpkg +ours): %s", diff)
	}
	status := func(root string) string {
		data, err := os.ReadFile(filepath.Join(root, "var/lib/dpkg/status"))
		must(t, err)
		return string(data)
	}
	if diff := cmp.Diff(status(theirs), status(ours)); diff != "" {
		t.Errorf("status (-dpkg +ours): %s", diff)
	}
}

func TestMergedUsr(t *testing.T) { asBoth(t, testMergedUsr) }

func testMergedUsr(t *testing.T) {
	old := build(t, "Package: base-files\nVersion: 12\nArchitecture: amd64\n", source{"bin/": "", "lib/": ""})
	modern := build(t, "Package: base-files\nVersion: 13\nArchitecture: amd64\n", source{"bin": "-> usr/bin", "usr/bin/": ""})
	shell := build(t, "Package: shell\nVersion: 1\nArchitecture: amd64\n", source{"bin/sh": "#!x"})
	for _, test := range []struct {
		name  string
		first string
		want  string // of the first level
	}{
		{"before", old, "bin -> usr/bin, lib -> usr/lib, lib32 -> usr/lib32, lib64 -> usr/lib64, libx32 -> usr/libx32, sbin -> usr/sbin"},
		{"brought", modern, "bin -> usr/bin"},
	} {
		dir := t.TempDir()
		if _, err := Unpack(t.Context(), dir, []string{test.first, shell}, Options{MergedUsr: true}); err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		var links []string
		entries, err := os.ReadDir(dir)
		must(t, err)
		for _, e := range entries {
			if target, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
				links = append(links, e.Name()+" -> "+target)
			}
		}
		if diff := cmp.Diff(test.want, strings.Join(links, ", ")); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
		if _, err := os.Lstat(filepath.Join(dir, "usr/bin/sh")); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func TestSkip(t *testing.T) { asBoth(t, testSkip) }

func testSkip(t *testing.T) {
	name := build(t, simple, source{"usr/share/doc/a": "x", "usr/share/b": "x"})
	dir := t.TempDir()
	_, err := Unpack(t.Context(), dir, []string{name}, Options{Paths: []string{"--force-x", "--path-exclude=/usr/share/doc/*"}})
	must(t, err)
	if _, err := os.Stat(filepath.Join(dir, "usr/share/doc/a")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	list, err := os.ReadFile(filepath.Join(dir, "var/lib/dpkg/info/simple:amd64.list"))
	must(t, err)
	if !strings.Contains(string(list), "/usr/share/doc/a\n") || !strings.Contains(string(list), "/usr/share/b\n") {
		t.Errorf("list: %q", list)
	}
}

// TestHostile unpacks packages that want out of the tree, and two that want the same file.
func TestHostile(t *testing.T) { asBoth(t, testHostile) }

func testHostile(t *testing.T) {
	outside := t.TempDir()
	entry := func(name string, kind byte, target string) *tar.Header {
		return &tar.Header{Name: name, Typeflag: kind, Linkname: target, Mode: 0o755, Format: tar.FormatGNU}
	}
	for name, list := range map[string][]*tar.Header{
		"dots":           {entry("../../../../../../../.."+outside+"/x", tar.TypeReg, "")},
		"link":           {entry("./d", tar.TypeSymlink, outside), entry("./d/x", tar.TypeReg, "")},
		"relative link":  {entry("./d", tar.TypeSymlink, "../../../../../../../../../.."+outside), entry("./d/x", tar.TypeReg, "")},
		"hard link":      {entry("./x", tar.TypeLink, "../../../../../../../../../../etc/passwd")},
		"link to a link": {entry("./x", tar.TypeSymlink, outside+"/x"), entry("./x", tar.TypeReg, "")},
		"odd kind":       {entry("./x", 'Z', "")},
	} {
		dir := t.TempDir()
		_, err := Unpack(t.Context(), dir, []string{pack(t, list)}, Options{})
		t.Logf("%s: %v", name, err)
		if entries, err := os.ReadDir(outside); err != nil || len(entries) != 0 {
			t.Errorf("%s: outside there is %v, %v", name, entries, err)
		}
	}
	one, two := build(t, simple, source{"usr/x": "1"}), build(t, "Package: other\nVersion: 1\nArchitecture: all\n", source{"usr/x": "2"})
	if _, err := Unpack(t.Context(), t.TempDir(), []string{one, two}, Options{}); err == nil || !strings.Contains(err.Error(), "/usr/x is in the package simple too") && !strings.Contains(err.Error(), "/usr/x is in the package other too") {
		t.Errorf("%v", err)
	}
	if _, err := Unpack(t.Context(), t.TempDir(), []string{filepath.Join(outside, "none.deb")}, Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// pack makes a package of entries, without dpkg-deb, which would not.
func pack(t *testing.T, entries []*tar.Header) string {
	t.Helper()
	var control, data, out bytes.Buffer
	w := tar.NewWriter(&control)
	text := simple
	must(t, w.WriteHeader(&tar.Header{Name: "./control", Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(text))}))
	_, err := w.Write([]byte(text))
	must(t, errors.Join(err, w.Close()))
	w = tar.NewWriter(&data)
	for _, e := range entries {
		must(t, w.WriteHeader(e))
	}
	must(t, w.Close())
	out.WriteString(arMagic)
	for _, m := range []struct {
		name string
		data []byte
	}{{"debian-binary", []byte("2.0\n")}, {"control.tar", control.Bytes()}, {"data.tar", data.Bytes()}} {
		fmt.Fprintf(&out, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.name, 0, 0, 0, "100644", len(m.data))
		out.Write(m.data)
	}
	name := filepath.Join(t.TempDir(), "odd.deb")
	must(t, os.WriteFile(name, out.Bytes(), 0o644))
	return name
}

func FuzzNew(f *testing.F) {
	header := func(name, size string) string {
		return fmt.Sprintf("%-16s%-12d%-6d%-6d%-8s%-10s`\n", name, 0, 0, 0, "100644", size)
	}
	f.Add([]byte(arMagic + header("debian-binary", "4") + "2.0\n" + header("control.tar", "0") + header("data.tar.gz", "0")))
	f.Add([]byte(arMagic + header("debian-binary", "4") + "2.0\n" + header("control.tar.xz", "6") + "\xfd7zXZ\x00" + header("data.tar.zst", "0")))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := New(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		if c, err := a.Control(t.Context()); err == nil && !validName(c.Name()) {
			t.Errorf("name %q", c.Name())
		}
	})
}
