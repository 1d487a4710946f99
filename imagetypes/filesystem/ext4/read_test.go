package ext4

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/imagetypes/filesystem/internal/sampletree"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/layers/layerstest"
)

// readTree reads what populate has written.
func readTree(t testing.TB, f *os.File, offset, size int64) *layers.Tree {
	t.Helper()
	got, notes, err := Read(t.Context(), io.NewSectionReader(f, offset, size), size)
	if err != nil {
		t.Fatal(err)
	}
	for _, note := range notes {
		t.Errorf("%s: %s", note.Path, note.Text)
	}
	edit := got.Edit(layers.Timespec{})
	if err := edit.Remove("lost+found"); err != nil {
		t.Fatal(err)
	}
	return edit.Tree()
}

func TestRead(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs")
	m := sampletree.New(t, 5)
	m.Variety("one")
	m.Dir("many")
	for i := range 700 {
		m.Put(fmt.Sprintf("many/entry number %d", i), m.File(m.Rand.IntN(300)))
	}
	m.Put("sparse", m.Sparse(40<<20, 30))
	root := *m.Edit.Tree().Root()
	root.Mode, root.UID, root.MTime = layers.TypeDir|0o751, 12, m.Time()
	m.Put(".", &root)
	tree := m.Edit.Tree()
	for name, options := range variants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const offset, size = 1 << 20, 96 << 20
			f := format(t, offset, size, options...)
			populate(t, f, offset, tree)
			got := readTree(t, f, offset, size)
			if strings.Contains(name, "inode128") || strings.Contains(name, "no-extras") { // they hold no nanoseconds and fewer attributes
				got, want := plain(t, got, true), plain(t, tree, true)
				seconds := func(tree *layers.Tree) *layers.Tree {
					return layerstest.Changed(t, tree, func(n *layers.Node) { n.MTime.Nsec = 0 })
				}
				layerstest.Same(t, seconds(want), seconds(got))
				return
			}
			layerstest.Same(t, tree, got)
		})
	}
}

// TestReadForeign reads a file system that mke2fs has filled, which lays things out otherwise.
func TestReadForeign(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs")
	dir := t.TempDir()
	for name, text := range map[string]string{"file": "text", "large": strings.Repeat("0123456789abcdef", 1<<18)} {
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("file", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(strings.Repeat("long/", 20), dir+"/long link"); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"ext2", "ext4"} {
		image := t.TempDir() + "/image"
		testenv.Run(t, "mke2fs", "-q", "-t", kind, "-L", "a label", "-d", dir, image, "24M")
		f, err := os.Open(image)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		want, _, err := layers.ScanDir(t.Context(), dir, layers.ScanOptions{})
		if err != nil {
			t.Fatal(err)
		}
		whole := func(tree *layers.Tree) *layers.Tree { // mke2fs -d keeps no nanoseconds and not the root directory's attributes
			return layerstest.Changed(t, tree, func(n *layers.Node) { n.MTime.Nsec = 0 })
		}
		got := readTree(t, f, 0, 24<<20)
		edit := got.Edit(layers.Timespec{})
		if err := edit.Put(".", want.Root()); err != nil {
			t.Fatal(err)
		}
		layerstest.Same(t, whole(want), whole(edit.Tree()))
		if label := VolumeLabel(f); label != "a label" || !Is(f) {
			t.Errorf("the label is %q", label)
		}
	}
}

func TestReadCutOff(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs")
	f := format(t, 0, 8<<20, "-t", "ext4")
	_, _, err := Read(t.Context(), f, 4<<20)
	var damaged *DamagedError
	if !errors.As(err, &damaged) || !strings.Contains(err.Error(), "cut off") {
		t.Error(err)
	}
	if _, _, err := Read(t.Context(), bytes.NewReader(nil), 0); !errors.As(err, &damaged) {
		t.Error(err)
	}
}

// walkAll reads all that a tree says it holds, up to a bound, since a small file system can have very long holes.
func walkAll(t testing.TB, tree *layers.Tree) {
	t.Helper()
	_ = tree.Walk(func(_ string, n *layers.Node) error {
		if n.Content == nil {
			return nil
		}
		r, err := n.Content.Open()
		if err != nil {
			return err
		}
		defer r.Close()
		read, err := io.Copy(io.Discard, r)
		if err == nil && read != n.DataSize() {
			t.Errorf("%d bytes of %d", read, n.DataSize())
		}
		return nil
	})
}

// TestReadDamaged changes bytes of a file system here and there: reading ends in time, with a tree or an error.
func TestReadDamaged(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs")
	image := sampleImage(t)
	m := sampletree.New(t, 9)
	deadline := time.Now().Add(3 * time.Second)
	for range 3000 {
		if time.Now().After(deadline) {
			break
		}
		damaged := bytes.Clone(image)
		for range 1 + m.Rand.IntN(8) {
			at := m.Rand.IntN(len(damaged))
			if m.Rand.IntN(4) > 0 {
				at %= 40 << 10 // where the metadata lies
			}
			damaged[at] = byte(m.Rand.IntN(256))
		}
		if tree, _, err := Read(t.Context(), bytes.NewReader(damaged), int64(len(damaged))); err == nil {
			walkAll(t, tree)
		}
	}
}

// sampleImage is a small file system with something of everything.
func sampleImage(t testing.TB) []byte {
	t.Helper()
	const size = 192 << 10
	m := sampletree.New(t, 3)
	m.Dir("dir")
	m.Put("dir/file", m.File(3000))
	m.Put("dir/sparse", m.Sparse(1<<20, 5))
	m.Put("link", &layers.Node{Mode: layers.TypeSymlink | 0o777, Target: strings.Repeat("far/", 30)})
	m.Put("list", &layers.Node{Mode: layers.TypeFIFO | 0o644, Xattrs: []layers.Xattr{{Name: "system.posix_acl_access", Value: sampletree.ACL(5, 6)}, {Name: "user.a", Value: strings.Repeat("b", 500)}}})
	f := format(t, 0, size, "-t", "ext4", "-b", "1024", "-O", "^has_journal,^resize_inode", "-N", "32")
	if _, err := Populate(context.Background(), f, 0, m.Edit.Tree(), Options{}); err != nil {
		t.Fatal(err)
	}
	image := make([]byte, size)
	if _, err := f.ReadAt(image, 0); err != nil {
		t.Fatal(err)
	}
	return image
}

func FuzzRead(f *testing.F) {
	if _, err := os.Stat("/sbin/mke2fs"); err == nil {
		f.Add(sampleImage(f))
	}
	f.Fuzz(func(t *testing.T, image []byte) {
		if tree, _, err := Read(t.Context(), bytes.NewReader(image), int64(len(image))); err == nil {
			walkAll(t, tree)
		}
	})
}
