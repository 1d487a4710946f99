package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/layers"
)

func TestWithoutBuildFiles(t *testing.T) {
	edit := layers.NewTree().Edit(layers.Timespec{Sec: 1})
	for _, name := range []string{
		"image/config.xml", ".profile", ".kconfig", "run/lock/x", "tmp/y", "var/cache/kiwi/z", "etc/image/keep", "home/.profile", "usr/run/keep", "dev/null",
	} {
		if err := edit.WriteFile(name, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	full := edit.Tree()
	got, err := WithoutBuildFiles(full, "/dev/*")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	_ = got.Walk(func(name string, n *layers.Node) error {
		if !n.IsDir() || n.Len() == 0 {
			names = append(names, name)
		}
		return nil
	})
	if diff := cmp.Diff([]string{"dev", "etc/image/keep", "home/.profile", "run", "tmp", "usr/run/keep", "var/cache"}, names); diff != "" {
		t.Error(diff)
	}
	if _, err := full.Lookup("image/config.xml"); err != nil {
		t.Error("the tree that was given has changed")
	}
	again, err := WithoutBuildFiles(got, "/dev/*")
	if err != nil || again != got {
		t.Errorf("a tree without build files is not taken as it is (%v)", err)
	}
	if _, err := WithoutBuildFiles(full, "a[b"); err == nil {
		t.Error("a broken pattern was taken")
	}
}

func TestCompress(t *testing.T) {
	yes, no, passphrase := true, false, "secret"
	for _, c := range []struct {
		wish        *bool
		luks        *string
		usual, want bool
	}{{nil, nil, true, true}, {nil, nil, false, false}, {&no, nil, true, false}, {&yes, nil, false, true}, {&yes, &passphrase, true, false}, {nil, &passphrase, true, false}} {
		r := Request{BundleCompress: c.wish, Description: &description.Image{}}
		r.Description.Type.LUKS = c.luks
		if got := r.Compress(c.usual); got != c.want {
			t.Errorf("%+v: %t", c, got)
		}
	}
}

func TestFilled(t *testing.T) {
	whole := Request{Tree: layers.NewTree(), Description: &description.Image{}, BaseName: "x"}
	got, err := whole.Filled()
	if err != nil || got.Log == nil || got.Progress == nil || whole.Log != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, spoil := range []func(*Request){
		func(r *Request) { r.Tree = nil }, func(r *Request) { r.Description = nil }, func(r *Request) { r.BaseName = "" },
	} {
		r := whole
		spoil(&r)
		if _, err := r.Filled(); err == nil {
			t.Errorf("%+v was taken", r)
		}
	}
}

func TestScratch(t *testing.T) {
	r := Request{Dir: t.TempDir()}
	dir, remove, err := r.Scratch("disk")
	if err != nil || filepath.Dir(dir) != r.Dir || !strings.HasPrefix(filepath.Base(dir), ".") {
		t.Fatalf("%s, %v", dir, err)
	}
	remove()
	if _, err := os.Stat(dir); err == nil {
		t.Error("it is still there")
	}
	r.Workdir = "/nonexistent"
	if _, _, err := r.Scratch("disk"); err == nil {
		t.Error("a directory was made in one that does not exist")
	}
}

func TestTreeError(t *testing.T) {
	err := &TreeError{Missing: "kernel", Need: "a disk", Hint: "add one"}
	if got := err.Error(); got != "the root tree has no kernel, which a disk needs: add one" {
		t.Errorf("got %q", got)
	}
}
