package zypper

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/testrepos"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/packages/managertest"
)

// ownZypper is a package with this machine's zypper and rpm and all that they need.
func ownZypper(t *testing.T) testrepos.RPM {
	t.Helper()
	programs := []string{"zypper", "rpm", "rpmdb", "rpmkeys", "repo2solv", "rpmdb2solv", "gpg", "gpgv", "bash"}
	files := map[string]bool{}
	for _, program := range programs {
		path := testenv.NeedProgram(t, program)
		files[path] = true
		for field := range strings.FieldsSeq(testenv.Run(t, "ldd", path)) {
			if strings.HasPrefix(field, "/") {
				files[field] = true
			}
		}
	}
	for _, pattern := range []string{"/usr/lib/rpm/macros", "/usr/lib/rpm/rpmrc", "/usr/lib/rpm/rpmpopt*"} {
		names, err := filepath.Glob(pattern)
		managertest.Must(t, err)
		for _, name := range names {
			files[name] = true
		}
	}
	p := testrepos.RPM{Name: "zypper", Arch: testrepos.HostArch(), Requires: []string{"base"}, Preamble: "%define _binary_payload w1.gzdio"}
	for name := range files {
		place := name
		if rest, ok := strings.CutPrefix(name, "/lib"); ok {
			place = "/usr/lib" + rest
		}
		if rest, ok := strings.CutPrefix(name, "/bin/"); ok {
			place = "/usr/bin/" + rest
		}
		p.Files = append(p.Files, testrepos.File{Path: place, Copy: name, Mode: 0o755})
	}
	p.Files = append(p.Files, testrepos.File{Path: "/etc/rpm/macros", Content: "%_dbpath /var/lib/rpm\n"})
	return p
}

// TestOwnZypper makes a tree that has zypper and rpm from nothing, and goes on with these.
func TestOwnZypper(t *testing.T) {
	if testing.Short() {
		t.Skip("not in short mode: it packages this machine's zypper")
	}
	needZypper(t)
	repo := t.TempDir()
	key := testrepos.NewKey(t, "one")
	distribution := append(testrepos.Distribution(t, "opensuse-leap"), ownZypper(t), testrepos.RPM{Name: "later", Post: "echo yes > /etc/ran", Requires: []string{"below"}}, testrepos.RPM{Name: "below"})
	testrepos.MakeRPMRepo(t, repo, testrepos.RPMRepo{Packages: distribution, Key: &key, IndexKey: &key})
	w := newWorld(t, repo)
	w.Image.RPM.CheckSignatures = true
	r := w.Plain()
	r.SigningKeys = []description.SigningKey{{URI: "file://" + key.Public}}
	managertest.Must(t, w.Bootstrap(t, managertest.Set("zypper"), r))
	w.wantInstalled(t, "base-1-1", "busybox-1.35-1", "filesystem-1-1", "release-15.6-1", "zypper-1-1")
	w.Commands = nil
	managertest.Must(t, w.With(t, func(s packages.Session) error { return s.Install(t.Context(), managertest.Set("later")) }, r))
	if ran := w.Read(t, "etc/ran"); ran != "yes\n" {
		t.Errorf("the script says %q", ran)
	}
	w.wantInstalled(t, "base-1-1", "below-1-1", "busybox-1.35-1", "filesystem-1-1", "later-1-1", "release-15.6-1", "zypper-1-1")
	managertest.Must(t, w.With(t, func(s packages.Session) error { return s.Uninstall(t.Context(), managertest.Packages(20, "later")) }, r))
	w.wantInstalled(t, "base-1-1", "busybox-1.35-1", "filesystem-1-1", "release-15.6-1", "zypper-1-1")
	for _, command := range w.Commands {
		if !strings.HasPrefix(command, "inside: ") {
			t.Errorf("it ran outside: %s", command)
		}
	}
}
