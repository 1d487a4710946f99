package rootfs

import (
	"testing"

	"github.com/imgbuild/imgbuild/layers"
)

// TestCleanUp looks what stays of the traces that package managers leave.
func TestCleanUp(t *testing.T) {
	before := layers.NewTree().Edit(layers.Timespec{Sec: 1})
	for _, name := range []string{"var/log/zypp/history", "var/cache/dnf/x", "etc/passwd-"} {
		if err := before.WriteFile(name, []byte("before"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tree := before.Tree()
	o := newOverlay(request(t, tree, load(t, map[string]string{"config.xml": describe("docker")})))
	err := o.work.edit(t.Context(), func(edit *layers.Editor) error {
		for _, name := range []string{
			"var/log/zypp/history", "var/log/zypper.log", "var/cache/dnf/x", "var/cache/dnf/y/z", "var/log/dnf.librepo.log", "var/log/dnf5.log.1", "var/log/pacman.log", "var/cache/pacman/pkg/a.pkg.tar.zst",
			"var/lib/rpm/__db.001", "var/lib/rpm/rpmdb.sqlite", "usr/lib/sysimage/rpm/.rpm.lock", "var/log/apk.log", "var/cache/apk/APKINDEX.x.tar.gz", "var/cache/apt/archives/x.deb", "var/log/apt/history.log",
			"etc/passwd-", "etc/.pwd.lock", "etc/passwd", "var/log/own.log", "var/lib/pacman/local/x/desc", "var/log/YaST2/y2log",
		} {
			if err := edit.WriteFile(name, []byte("after"), 0o644); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := o.cleanUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"var/log/zypp/history": "before", "var/log/zypper.log": "", "var/cache/dnf/x": "before", "var/cache/dnf/y": "", "var/log/dnf.librepo.log": "", "var/log/dnf5.log.1": "", "var/log/pacman.log": "",
		"var/cache/pacman/pkg/a.pkg.tar.zst": "", "var/lib/rpm/__db.001": "", "var/lib/rpm/rpmdb.sqlite": "after", "usr/lib/sysimage/rpm/.rpm.lock": "", "var/log/apk.log": "",
		"var/cache/apk/APKINDEX.x.tar.gz": "", "var/cache/apt/archives/x.deb": "", "var/log/apt/history.log": "", "etc/passwd-": "before", "etc/.pwd.lock": "", "etc/passwd": "after", "var/log/own.log": "after",
		"var/lib/pacman/local/x/desc": "after", "var/log/YaST2/y2log": "",
	} {
		data, err := o.work.tree.ReadFile(name, 1<<10)
		if string(data) != want {
			t.Errorf("/%s: %q, not %q (%v)", name, data, want, err)
		}
	}
}

func TestMachineID(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		want  string
		there bool
	}{
		"nobody would read it":         {map[string]string{"etc/x": ""}, "", false},
		"systemd without one":          {map[string]string{"etc/x": "", "usr/lib/systemd/systemd": "x"}, "", true},
		"one of the build":             {map[string]string{"etc/machine-id": "0123\n"}, "", true},
		"the distribution's own state": {map[string]string{"etc/machine-id": "uninitialized\n", "var/lib/dbus/machine-id": "0123\n"}, "uninitialized\n", true},
	} {
		edit := layers.NewTree().Edit(layers.Timespec{})
		for file, text := range test.files {
			if err := edit.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := resetMachineID(edit); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		data, err := edit.ReadFile("etc/machine-id", 1<<10)
		if (err == nil) != test.there || string(data) != test.want {
			t.Errorf("%s: %q, %v", name, data, err)
		}
		if n, err := edit.Lookup("var/lib/dbus/machine-id"); err == nil && !n.IsSymlink() {
			t.Errorf("%s: D-Bus has an id of its own", name)
		}
	}
}
