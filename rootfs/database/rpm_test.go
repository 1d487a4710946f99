package database

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/testrepos"
	"github.com/imgbuild/imgbuild/internal/userns"
	"github.com/imgbuild/imgbuild/layers"
)

func TestMain(m *testing.M) {
	userns.MustEnter()
	os.Exit(m.Run())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rpmRoot installs packages with the real rpm and changes their files in every way.
func rpmRoot(t *testing.T) string {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.NeedPrograms(t, "rpm", "rpmbuild", "setcap")
	root, repo, key := t.TempDir(), t.TempDir(), testrepos.NewKey(t, "one")
	var files []testrepos.File
	for _, name := range []string{"same", "content", "size", "mode", "owner", "group", "time", "gone", "dir", "link", "caps", "nocaps", "elsewhere"} {
		files = append(files, testrepos.File{Path: "/opt/" + name, Content: "text\n"})
	}
	files[11].Attr = "%caps(cap_net_raw,cap_net_admin=ep)"
	files = append(files,
		testrepos.File{Path: "/etc/conf", Content: "x\n", Attr: "%config"}, testrepos.File{Path: "/etc/missing", Content: "x\n", Attr: "%config(noreplace)"},
		testrepos.File{Path: "/usr/share/doc/file", Content: "x\n", Attr: "%doc"}, testrepos.File{Path: "/usr/share/licenses/file", Content: "x\n", Attr: "%license"},
		testrepos.File{Path: "/var/log/ghost", Attr: "%ghost"}, testrepos.File{Path: "/opt/unverified", Content: "x\n", Attr: "%verify(not md5 size mtime)"},
		testrepos.File{Path: "/opt/goodlink", Link: "same"}, testrepos.File{Path: "/opt/badlink", Link: "same"}, testrepos.File{Path: "/opt/folder/", Mode: 0o750},
		testrepos.File{Path: "/opt/optional", Content: "x", Attr: "%attr(0644, daemon, daemon)"},
	)
	packages := []testrepos.RPM{
		{Name: "changed", Epoch: "2", Version: "1.5", Files: files, Requires: []string{"unmet"}, Changelog: "* Mon Jan 01 2024 A Person <a@example.org> - 1.5-1\n- First."},
		{Name: "quiet", Provides: []string{"virtual = 1"}},
	}
	args := []string{"--root", root, "--dbpath", "/usr/lib/sysimage/rpm", "--nosignature", "--nodeps", "-i"}
	for _, p := range packages {
		args = append(args, testrepos.BuildRPM(t, repo, p))
	}
	must(t, os.MkdirAll(filepath.Join(root, "etc"), 0o755))
	must(t, os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("root:x:0:0::/:/bin/sh\ndaemon:x:1:1::/:/bin/sh\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(root, "etc/group"), []byte("root:x:0:\ndaemon:x:1:\n"), 0o644))
	testenv.Run(t, "rpmkeys", "--root", root, "--dbpath", "/usr/lib/sysimage/rpm", "--import", key.Public)
	testenv.Run(t, "rpm", args...)
	script := `cd "$1"/opt
echo texT > content; touch -r same content
echo more >> size; touch -r same size
chmod 4755 mode
chown 1 owner; chgrp 1 group; chgrp 77 folder
touch -d 2001-01-01 time
rm gone; rm dir; mkdir dir; rm link; ln -s same link
setcap cap_chown=ep caps
rm badlink; ln -s other badlink
echo changed > unverified
echo long > ../etc/conf; rm ../etc/missing
chmod 700 folder ../usr/share/licenses
mv elsewhere ../moved
`
	testenv.Run(t, "sh", "-ec", script, "sh", root)
	return root
}

// TestRPMAgainstRPM compares the reports with what the real rpm says.
func TestRPMAgainstRPM(t *testing.T) {
	root := rpmRoot(t)
	tree, _, err := layers.ScanDir(t.Context(), root, layers.ScanOptions{})
	must(t, err)
	packages, changes, verified := reports(t, tree)
	rpm := []string{"rpm", "--root", root, "--dbpath", "/usr/lib/sysimage/rpm"}
	query := func(script string) string {
		return testenv.Run(t, "sh", append([]string{"-ec", script, "sh"}, rpm...)...)
	}
	want := query(`"$@" -qa --qf '%{NAME}|%{EPOCH}|%{VERSION}|%{RELEASE}|%{ARCH}|%{DISTURL}|%{LICENSE}\n' | LC_ALL=C sort`)
	if diff := cmp.Diff(want, packages); diff != "" || !strings.Contains(packages, "gpg-pubkey|(none)|") {
		t.Error(diff)
	}
	want = query(`"$@" -q changed quiet --qf '%{NAME}|\n' --changelog`)
	if diff := cmp.Diff(want, changes); diff != "" {
		t.Error(diff)
	}
	want = query(`"$@" -V --nodeps changed quiet || true`)
	if diff := cmp.Diff(want, verified); diff != "" {
		t.Error(diff)
	}
	if strings.Count(verified, "\n") < 12 {
		t.Errorf("only this differs:\n%s", verified)
	}
	db, err := Open(tree)
	must(t, err)
	list := []Package{
		{Name: "changed", Epoch: "2", Version: "1.5", Release: "1", Arch: "noarch", License: "MIT", Source: "changed"}, {Name: "quiet", Version: "1", Release: "1", Arch: "noarch", License: "MIT", Source: "quiet"},
	}
	if diff := cmp.Diff(list, db.Installed()); diff != "" || db.Kind() != RPM || db.Installed()[0].EVR() != "2:1.5-1" {
		t.Error(diff)
	}
	missing := db.Missing([]string{"quiet", "quiet.noarch", "quiet-1", "quiet-1-1.noarch", "virtual", "/opt/same", "/opt/none", "quiet.x86_64", "gpg-pubkey"})
	if diff := cmp.Diff([]string{"/opt/none", "quiet.x86_64", "gpg-pubkey"}, missing); diff != "" {
		t.Error(diff)
	}
}

// TestCapabilities compares the reading of capabilities with that of the real setcap.
func TestCapabilities(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedPrograms(t, "setcap")
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o755))
	for _, text := range []string{"cap_net_raw=ep", "cap_net_raw,cap_chown+p", "cap_checkpoint_restore=eip cap_chown-e", "= cap_sys_admin+i", "cap_bpf=ep cap_kill=ip cap_kill+e-i"} {
		testenv.Run(t, "setcap", text, file)
		value := make([]byte, 64)
		n, err := unix.Getxattr(file, "security.capability", value)
		must(t, err)
		if got, want := parseCaps(text), decodeCaps(string(value[:n])); got != want {
			t.Errorf("%s is %+v, and the file has %+v", text, got, want)
		}
	}
	if parseCaps("") != (capSets{}) || decodeCaps("short") != (capSets{}) {
		t.Error("nothing is something")
	}
}
