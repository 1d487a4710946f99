package filesystem

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/imagetypes/filesystem/squashfs"
	"github.com/imgbuild/imgbuild/internal/helperkernel"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/layers/layerstest"
)

// packedTwice makes a file system two times, at different offsets, and returns one as a file of its own.
func packedTwice(t *testing.T, tree *layers.Tree, spec Spec) string {
	t.Helper()
	var all [][]byte
	for _, offset := range []int64{0, 3 << 20} {
		env := testEnv()
		env.Cache = &Cache{}
		defer env.Cache.Close()
		size, err := Size(t.Context(), env, tree, spec)
		if err != nil {
			t.Fatal(err)
		}
		f := newFile(t)
		if err := Write(t.Context(), env, f, offset, size, tree, spec); err != nil {
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

func TestErofs(t *testing.T) {
	testenv.NeedPrograms(t, "mkfs.erofs", "dump.erofs")
	needKernel(t)
	tree := withShortNames(t, varietyTree(t))
	spec := Spec{Type: "erofs", UUID: "01234567-89ab-cdef-0123-456789abcdef"}
	name := packedTwice(t, tree, spec)
	if out := testenv.Run(t, "dump.erofs", "-s", name); !strings.Contains(out, spec.UUID) {
		t.Errorf("the file system is %s", out)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	layerstest.Same(t, withoutHoles(t, tree), withoutHoles(t, readBack(t, f, 0, 0, "erofs")))
}

// TestDirectoryAndKernel makes each file system in both ways.
func TestDirectoryAndKernel(t *testing.T) {
	testenv.NeedPrograms(t, "mkfs.erofs", "mkfs.cramfs", "mke2fs")
	testenv.NeedRealRoot(t) // for devices in a directory
	needKernel(t)
	small := cramfsTree(t)
	for _, spec := range []Spec{{Type: "erofs"}, {Type: "erofs", Compression: "uncompressed"}, {Type: "cramfs"}} {
		tree := small
		if spec.Type == "erofs" {
			tree = oneAttribute(t, withShortNames(t, varietyTree(t)))
		}
		var sums []string
		for _, kind := range []helperkernel.Kind{helperkernel.Auto, helperkernel.UML} {
			env := testEnv()
			env.HelperKernel = kind
			env.Cache = &Cache{}
			defer env.Cache.Close()
			size, err := Size(t.Context(), env, tree, spec)
			if err != nil {
				t.Fatal(err)
			}
			f := newFile(t)
			if err := Write(t.Context(), env, f, 0, size, tree, spec); err != nil {
				t.Fatal(err)
			}
			sum := sha256.New()
			if _, err := io.Copy(sum, io.NewSectionReader(f, 0, size)); err != nil {
				t.Fatal(err)
			}
			sums = append(sums, fmt.Sprintf("%x, %d bytes", sum.Sum(nil), size))
		}
		if sums[0] != sums[1] {
			t.Errorf("%+v: the two ways make %q", spec, sums)
		}
	}
}

// oneAttribute leaves each file at most one extended attribute: in which order a directory gives several is up to the file system that it lies on.
func oneAttribute(t *testing.T, tree *layers.Tree) *layers.Tree {
	t.Helper()
	edit := tree.Edit(layers.Timespec{})
	err := tree.Walk(func(name string, n *layers.Node) error {
		if len(n.Xattrs) < 2 {
			return nil
		}
		return edit.Change(name, func(n *layers.Node) { n.Xattrs = n.Xattrs[:1] })
	})
	if err != nil {
		t.Fatal(err)
	}
	return edit.Tree()
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

// withoutHoles makes the holes of sparse files zeros.
func withoutHoles(t *testing.T, tree *layers.Tree) *layers.Tree {
	t.Helper()
	edit := tree.Edit(layers.Timespec{})
	err := tree.Walk(func(name string, n *layers.Node) error {
		if n.Data == nil {
			return nil
		}
		data, err := tree.ReadFile(name, n.Size)
		if err != nil {
			return err
		}
		return edit.Change(name, func(n *layers.Node) { n.Data, n.Content = nil, layers.Bytes(data) })
	})
	if err != nil {
		t.Fatal(err)
	}
	return edit.Tree()
}

// cramfsTree is one that cramfs holds.
func cramfsTree(t *testing.T) *layers.Tree {
	t.Helper()
	edit := layers.NewTree().Edit(layers.Timespec{})
	for name, data := range map[string]string{"etc/hosts": "localhost", "usr/bin/large": strings.Repeat("content", 100000), "empty": ""} {
		if err := edit.WriteFile(name, []byte(data), 0o4755); err != nil {
			t.Fatal(err)
		}
	}
	if err := edit.Symlink("usr/bin", "bin"); err != nil {
		t.Fatal(err)
	}
	if err := edit.MkdirAll("dev", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := edit.Put("dev/null", &layers.Node{Mode: layers.TypeChar | 0o666, Major: 1, Minor: 3}); err != nil {
		t.Fatal(err)
	}
	return edit.Tree()
}

func TestCramfs(t *testing.T) {
	testenv.NeedPrograms(t, "mkfs.cramfs")
	needKernel(t)
	tree := cramfsTree(t)
	f, err := os.Open(packedTwice(t, tree, Spec{Type: "cramfs"}))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := withoutTimes(t, tree)
	layerstest.Same(t, want, withoutTimes(t, readBack(t, f, 0, 0, "cramfs")))
}

// withoutTimes leaves out what cramfs has not.
func withoutTimes(t *testing.T, tree *layers.Tree) *layers.Tree {
	t.Helper()
	edit := tree.Edit(layers.Timespec{})
	err := tree.Walk(func(name string, n *layers.Node) error {
		return edit.Change(name, func(n *layers.Node) { n.MTime = layers.Timespec{} })
	})
	if err != nil {
		t.Fatal(err)
	}
	return edit.Tree()
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

func TestTreesThatDoNotFit(t *testing.T) {
	testenv.NeedProgram(t, "mkfs.erofs")
	edit := layers.NewTree().Edit(layers.Timespec{})
	if err := edit.MkdirAll("var", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := edit.Put("var/"+strings.Repeat("n", 255), &layers.Node{Mode: layers.TypeRegular | 0o600}); err != nil {
		t.Fatal(err)
	}
	for i := range squashfs.MaxIDs {
		if err := edit.Put(fmt.Sprintf("var/%d", i), &layers.Node{Mode: layers.TypeRegular | 0o600, UID: uint32(i + 1)}); err != nil {
			t.Fatal(err)
		}
	}
	for kind, want := range map[string]string{"squashfs": "65536 different owners", "erofs": "has 255 bytes, and mkfs.erofs takes 254"} {
		if err := CheckTree(edit.Tree(), Spec{Type: kind}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v", kind, err)
		}
	}
}

// TestCramfsLength reads it in both orders of bytes.
func TestCramfsLength(t *testing.T) {
	testenv.NeedPrograms(t, "mkfs.cramfs")
	for _, order := range []string{"little", "big"} {
		spec := Spec{Type: "cramfs", MkfsOptions: []string{"-N", order}}
		dir, name := t.TempDir(), filepath.Join(t.TempDir(), "made")
		testenv.Run(t, "mkfs.cramfs", cramfsTool(spec).arguments(dir, name)...)
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := cramfsLength(bytes.NewReader(data)); err != nil || got != int64(len(data)) {
			t.Errorf("%s: %d bytes of %d, %v", order, got, len(data), err)
		}
	}
}
