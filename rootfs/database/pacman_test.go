package database

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/testrepos"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/layers/layerstest"
)

// TestPacmanAgainstPacman reads what the real pacman has installed, and compares the changed files with what it says.
func TestPacmanAgainstPacman(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedPrograms(t, "pacman", "makepkg", "bsdtar")
	root, repo := t.TempDir(), t.TempDir()
	var files []testrepos.File
	for _, name := range []string{"same", "content", "size", "mode", "time", "gone", "with blank"} {
		files = append(files, testrepos.File{Path: "/opt/" + name, Content: "text\n"})
	}
	files = append(files, testrepos.File{Path: "/etc/conf", Content: "x\n"}, testrepos.File{Path: "/opt/link", Link: "same"}, testrepos.File{Path: "/opt/dir/"})
	conf := filepath.Join(repo, "pacman.conf")
	must(t, os.WriteFile(conf, []byte("[options]\nSigLevel = Never\nLocalFileSigLevel = Never\n"), 0o644))
	must(t, os.MkdirAll(filepath.Join(root, "var/lib/pacman"), 0o755))
	pacman := []string{"--noconfirm", "--root", root, "--config", conf, "--logfile", "/dev/null", "--cachedir", repo}
	for _, p := range []testrepos.PacmanPackage{{Name: "changed", Version: "1:2.5-3", Files: files, Backup: []string{"etc/conf"}, Provides: []string{"virtual=1"}, Groups: []string{"gang"}}, {Name: "quiet"}} {
		testenv.Run(t, "pacman", append(slices.Clone(pacman), "-U", "--noscriptlet", testrepos.BuildPacman(t, repo, p))...)
	}
	script := `cd "$1"/opt
echo texT > content; touch -r same content
echo more >> size; touch -r same size
chmod 700 mode dir; touch -d 2001-01-01 time; rm gone
rm link; ln -s other link
echo changed > ../etc/conf; touch -r same ../etc/conf
`
	testenv.Run(t, "sh", "-ec", script, "sh", root)
	tree, _, err := layers.ScanDir(t.Context(), root, layers.ScanOptions{})
	must(t, err)
	packages, changes, verified := reports(t, tree)
	const lines = "changed|None|1:2.5|3|any|None|None\nquiet|None|1|1|any|None|None\n"
	if got := withoutLicense(packages); got != lines {
		t.Error(cmp.Diff(lines, got))
	}
	if changes != "changed|\nquiet|\n" {
		t.Errorf("%q", changes)
	}
	var got []string
	for line := range strings.Lines(verified) {
		got = append(got, strings.TrimSpace(line[strings.IndexByte(line, '/'):]))
	}
	slices.Sort(got)
	if diff := cmp.Diff(differing(t, root, pacman), got); diff != "" {
		t.Errorf("%s\n%s", diff, verified)
	}
	for _, want := range []string{
		"S.5??...?  c /etc/conf\n", "..5??...?    /opt/content\n", "?M???..??    /opt/dir\n", "missing     /opt/gone\n", "????L..??    /opt/link\n", "...??..T?    /opt/time\n",
	} {
		if !strings.Contains(verified, want) {
			t.Errorf("no %q in\n%s", want, verified)
		}
	}
	db, err := Open(tree)
	must(t, err)
	if db.Kind() != Pacman || db.Installed()[0].EVR() != "1:2.5-3" || len(db.Missing([]string{"quiet", "virtual", "gang", "other"})) != 1 {
		t.Errorf("%+v", db.Installed())
	}
}

// withoutLicense replaces the last field of each line, which depends on the maker of test packages.
func withoutLicense(lines string) string {
	var out strings.Builder
	for line := range strings.Lines(lines) {
		out.WriteString(line[:strings.LastIndexByte(line, '|')] + "|None\n")
	}
	return out.String()
}

// differing are the files that the real pacman finds different.
func differing(t *testing.T, root string, pacman []string) []string {
	t.Helper()
	out := testenv.Run(t, "sh", append([]string{"-c", `LC_ALL=C pacman "$@" -Qkk 2>&1 || true`, "sh"}, pacman...)...)
	var names []string
	for line := range strings.Lines(out) {
		// Debian's finds every MD5 wrong.
		if _, rest, ok := strings.Cut(line, root); ok && !strings.Contains(line, "(MD5 ") {
			name, _, _ := strings.Cut(rest, " (")
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

func TestPacmanDamaged(t *testing.T) {
	tree := layerstest.Files(t, map[string]string{pacmanDir + "/x-1-1/desc": "%VERSION%\n1-1\n"})
	if _, err := Open(tree); err == nil || !strings.Contains(err.Error(), "x-1-1/desc") {
		t.Errorf("%v", err)
	}
}

const apkDatabase = `C:Q1abc=
P:busybox
V:1.36.1-r2
A:x86_64
L:GPL-2.0-only
o:busybox-src
p:/bin/sh cmd:sh=1.36.1-r2
F:bin
R:busybox
a:0:0:755
Z:Q19XLTlvrpIGYocU+yzgD3LpTyJY8=
R:sh
a:0:0:777
Z:Q1pcfTfDNEbNKQc2s1tia7da05M8Q=
F:etc/private
M:0:1:700
R:gone
R:changed
Z:Q19XLTlvrpIGYocU+yzgD3LpTyJY8=

P:musl
V:1.2.5
A:x86_64
`

func TestAPK(t *testing.T) {
	tree := layerstest.Files(t, map[string]string{"lib/apk/db/installed": apkDatabase, "etc/private/changed": "changed"})
	edit := tree.Edit(layers.Timespec{})
	must(t, edit.WriteFile("bin/busybox", []byte("hello\n"), 0o755))
	must(t, edit.Symlink("/bin/busybox", "bin/sh"))
	packages, changes, verified := reports(t, edit.Tree())
	if want := "busybox|None|1.36.1|r2|x86_64|None|GPL-2.0-only\nmusl|None|1.2.5|None|x86_64|None|None\n"; packages != want {
		t.Error(cmp.Diff(want, packages))
	}
	if changes != "busybox|\nmusl|\n" {
		t.Errorf("%q", changes)
	}
	const differs = "?M???.G??    /etc/private\nmissing     /etc/private/gone\n?.5??..??    /etc/private/changed\n"
	if diff := cmp.Diff(differs, verified); diff != "" {
		t.Error(diff)
	}
	db, err := Open(edit.Tree())
	must(t, err)
	if db.Kind() != APK || len(db.Missing([]string{"busybox", "cmd:sh", "/bin/sh", "other"})) != 1 || db.Installed()[0].Source != "busybox-src" {
		t.Errorf("%+v", db.Installed())
	}
}

// FuzzReaders has strangers' databases of pacman and apk: opening and reporting must end, and not panic.
func FuzzReaders(f *testing.F) {
	f.Add(apkDatabase, "%NAME%\nx\n\n%VERSION%\n1-1\n", "#mtree\n/set type=file mode=644\n./a\\040b sha256digest=00 size=1 time=1.0\n./l type=link link=\\057\n")
	f.Fuzz(func(t *testing.T, apk, desc, mtree string) {
		edit := layers.NewTree().Edit(layers.Timespec{})
		must(t, edit.WriteFile("lib/apk/db/installed", []byte(apk), 0o644))
		r, err := openAPK(edit.Tree())
		must(t, err)
		for i := range r.installed() {
			_, _ = r.claims(nil, i)
		}
		must(t, edit.WriteFile(pacmanDir+"/x/desc", []byte(desc), 0o644))
		must(t, edit.WriteFile(pacmanDir+"/x/files", []byte(desc), 0o644))
		_, _ = openPacman(edit.Tree())
		for _, entry := range parseMtree(mtree) {
			entry.claim()
		}
	})
}
