package rootfs

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/testenv"
)

// TestLegacy2006 prepares a tree after a description in KIWI's format of 2006, and creates after what that has left in /image.
func TestLegacy2006(t *testing.T) {
	testenv.NeedRoot(t)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"VERSION": "1.1.2\n", "config.xml": `<directory><image name="kiosk"/><image type="ext3"/><image timezone="Europe/Berlin"/><image place="hall 3"/></directory>`,
		"config.sh": "#!/bin/sh\ntest -f /.profile && . /.profile\necho config $name $kiwi_iname in $place >> /order\n", "images.sh": "echo images $type >> /order\n",
		"config/aaa_base": "echo never >> /order\n", "root/etc/motd": "hello\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("motd", filepath.Join(dir, "root/etc/issue")); err != nil {
		t.Fatal(err)
	}
	resolve := func(doc *description.Document, err error) *description.Image {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		image, err := doc.Resolve(description.Selection{Arch: "x86_64", SkipChecks: []string{description.AllChecks}})
		if err != nil {
			t.Fatal(err)
		}
		return image
	}
	image := resolve(description.Load(dir, description.LoadOptions{}))
	r := request(t, busyboxTree(t, nil), image)
	r.Phase = Prepare
	prepared, err := Overlay(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, prepared.Tree, "order"); got != "config kiosk kiosk in hall 3\n" {
		t.Errorf("%q", got)
	}
	if n, err := prepared.Tree.Lookup("etc/issue"); err != nil || n.Target != "motd" {
		t.Errorf("the link of root/: %v", err)
	}
	again := resolve(description.LoadFS(prepared.Tree.FS("image"), "stash:/image", description.LoadOptions{}))
	r = request(t, prepared.Tree, again)
	r.Phase = Create
	created, err := Overlay(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("config kiosk kiosk in hall 3\nimages ext3\n", read(t, created.Tree, "order")); diff != "" {
		t.Error(diff)
	}
}
