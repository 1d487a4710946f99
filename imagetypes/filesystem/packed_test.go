package filesystem

import (
	"bytes"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
)

// packedTwice makes a file system two times, at different offsets, and returns one as a file of its own.
func packedTwice(t *testing.T, tree *layers.Tree, spec Spec) string {
	t.Helper()
	var all [][]byte
	for _, offset := range []int64{0, 3 << 20} {
		size, err := Size(t.Context(), testEnv(), tree, spec)
		if err != nil {
			t.Fatal(err)
		}
		f := newFile(t)
		if err := Write(t.Context(), testEnv(), f, offset, size, tree, spec); err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(io.NewSectionReader(f, offset, size))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, data)
	}
	if !bytes.Equal(all[0], all[1]) {
		t.Error("two file systems of the same tree differ")
	}
	name := filepath.Join(t.TempDir(), "filesystem")
	if err := os.WriteFile(name, all[0], 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// extracted scans a directory that a foreign reader has filled.
func extracted(t *testing.T, dir string) *layers.Tree {
	t.Helper()
	tree, _, err := layers.ScanDir(t.Context(), dir, layers.ScanOptions{KeepVolatile: true})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestErofs(t *testing.T) {
	testenv.NeedPrograms(t, "mkfs.erofs", "fsck.erofs", "dump.erofs")
	testenv.NeedRealRoot(t) // for devices
	tree := withShortNames(t, varietyTree(t))
	for _, compression := range []string{"", "lz4hc", "uncompressed"} {
		spec := Spec{Type: "erofs", Compression: compression, UUID: "01234567-89ab-cdef-0123-456789abcdef"}
		name := packedTwice(t, tree, spec)
		if out := testenv.Run(t, "dump.erofs", "-s", name); !strings.Contains(out, "01234567-89ab-cdef-0123-456789abcdef") {
			t.Errorf("the file system is %s", out)
		}
		dir := t.TempDir()
		testenv.Run(t, "fsck.erofs", "--extract="+dir, "--overwrite", "--preserve", name)
		sameTree(t, plainTimes(t, tree), plainTimes(t, extracted(t, dir)))
	}
}

// withShortNames leaves out names that mkfs.erofs does not take.
func withShortNames(t *testing.T, tree *layers.Tree) *layers.Tree {
	t.Helper()
	var long []string
	_ = tree.Walk(func(name string, _ *layers.Node) error {
		if len(path.Base(name)) > maxErofsName {
			long = append(long, name)
		}
		return nil
	})
	if len(long) == 0 {
		t.Error("the sample has no name of 255 bytes")
	}
	return without(t, tree, long...)
}

// plainTimes leaves out what fsck.erofs does not extract: extended attributes and hard links, holes, and the times of directories and links.
func plainTimes(t *testing.T, tree *layers.Tree) *layers.Tree {
	t.Helper()
	edit := tree.Edit(layers.Timespec{})
	err := tree.Walk(func(name string, n *layers.Node) error {
		return edit.Change(name, func(n *layers.Node) {
			n.Xattrs, n.MTime.Nsec = nil, 0
			n.Mode &^= 0o6000 // fsck.erofs changes the owner last
			if !n.IsRegular() {
				n.MTime = layers.Timespec{}
			}
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return edit.Tree()
}

func TestCramfs(t *testing.T) {
	testenv.NeedPrograms(t, "mkfs.cramfs", "fsck.cramfs")
	edit := layers.NewTree().Edit(layers.Timespec{})
	for name, data := range map[string]string{"etc/hosts": "localhost", "usr/bin/large": strings.Repeat("content", 100000), "empty": ""} {
		if err := edit.WriteFile(name, []byte(data), 0o4755); err != nil {
			t.Fatal(err)
		}
	}
	if err := edit.Symlink("usr/bin", "bin"); err != nil {
		t.Fatal(err)
	}
	tree := edit.Tree()
	dir := filepath.Join(t.TempDir(), "out")
	testenv.Run(t, "fsck.cramfs", "--extract="+dir, packedTwice(t, tree, Spec{Type: "cramfs"}))
	got := extracted(t, dir)
	for _, name := range []string{"etc/hosts", "usr/bin/large", "empty"} {
		want, err := tree.ReadFile(name, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		data, err := got.ReadFile(name, 1<<20)
		if err != nil || !bytes.Equal(want, data) {
			t.Errorf("/%s has %d bytes, %v", name, len(data), err)
		}
	}
	if node, err := got.Lookup("usr/bin/large"); err != nil || node.Perm() != 0o4755 {
		t.Errorf("the mode is lost: %+v, %v", node, err)
	}
	if node, err := got.Lookup("bin"); err != nil || node.Target != "usr/bin" {
		t.Errorf("the link is lost: %+v, %v", node, err)
	}
}

func TestCramfsSaysWhatDoesNotFit(t *testing.T) {
	testenv.NeedPrograms(t, "mkfs.cramfs")
	edit := layers.NewTree().Edit(layers.Timespec{})
	if err := edit.MkdirAll("var", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]*layers.Node{
		"var/large":                       {Mode: layers.TypeRegular | 0o600, Size: 16 << 20, Data: []layers.Extent{}},
		"var/group":                       {Mode: layers.TypeRegular | 0o600, GID: 256},
		"var/owner":                       {Mode: layers.TypeRegular | 0o600, UID: 1 << 16},
		"var/" + strings.Repeat("n", 252): {Mode: layers.TypeRegular | 0o600},
	} {
		if err := edit.Put(name, n); err != nil {
			t.Fatal(err)
		}
	}
	err := CheckTree(edit.Tree(), Spec{Type: "cramfs"})
	if err == nil {
		t.Fatal("it was taken")
	}
	for _, want := range []string{"/var/large has 16777216 bytes", "the group of /var/group is 256", "the owner of /var/owner is 65536", "nnn has 252 bytes", "use squashfs or erofs"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
}
