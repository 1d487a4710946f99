package ext4

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/imagetypes/filesystem/internal/sampletree"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/layers/layerstest"
)

// plain returns a tree as debugfs shows it: without extended attributes, and with times as inodes of 128 bytes hold them if small is set.
func plain(t testing.TB, tree *layers.Tree, small bool) *layers.Tree {
	t.Helper()
	return layerstest.Changed(t, tree, func(n *layers.Node) {
		n.Xattrs = nil
		if small {
			n.MTime = layers.Timespec{Sec: min(n.MTime.Sec, maxTimeSmall)}
		}
	})
}

// TestRandomTrees writes random trees into file systems made with random options; e2fsck finds nothing wrong and debugfs reads the same tree.
func TestRandomTrees(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs", "e2fsck", "debugfs")
	for name, options := range variants() {
		for seed := range uint64(2) {
			t.Run(fmt.Sprintf("%s/%d", name, seed), func(t *testing.T) {
				t.Parallel()
				m := sampletree.New(t, seed+uint64(len(name))*100)
				m.Random(".", 150, true)
				tree := m.Edit.Tree()
				offset := int64(seed) << 20
				f := format(t, offset, 128<<20, options...)
				populate(t, f, offset, tree)
				fsck(t, f, offset)
				got := readWithDebugfs(t, f, offset)
				edit := got.Edit(layers.Timespec{})
				if err := edit.Remove("lost+found"); err != nil {
					t.Fatal(err)
				}
				layerstest.Same(t, plain(t, tree, strings.Contains(name, "inode128")), edit.Tree())
			})
		}
	}
}

// TestOddNames writes names of any bytes, and many of them.
func TestOddNames(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs", "e2fsck")
	for _, name := range []string{"ext2", "ext3", "ext4", "ext4-1k", "ext4-no-csum"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := sampletree.New(t, 3)
			m.Random(".", 1000, false)
			m.Dir("flat")
			for i := range 5000 {
				m.Put(fmt.Sprintf("flat/%d", i), layers.NewFile(nil, 0o644, m.Time()))
			}
			f := format(t, 0, 256<<20, variants()[name]...)
			populate(t, f, 0, m.Edit.Tree())
			fsck(t, f, 0)
		})
	}
}

// TestManyFiles writes 100,000 files into one directory and into many.
func TestManyFiles(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs", "e2fsck")
	edit := layers.NewTree().Edit(layers.Timespec{Sec: 1})
	put := func(name string, n *layers.Node) {
		if err := edit.Put(name, n); err != nil {
			t.Fatal(err)
		}
	}
	put("flat", &layers.Node{Mode: layers.TypeDir | 0o755})
	for i := range 50000 {
		put(fmt.Sprintf("flat/a rather long name for a file %d", i), layers.NewFile(nil, 0o644, edit.ModTime))
	}
	for d := range 500 {
		dir := fmt.Sprintf("dir%d", d)
		put(dir, &layers.Node{Mode: layers.TypeDir | 0o755})
		for i := range 100 {
			put(fmt.Sprintf("%s/%d", dir, i), layers.NewFile(nil, 0o644, edit.ModTime))
		}
	}
	tree := edit.Tree()
	for _, name := range []string{"ext2", "ext4", "ext4-1k"} {
		t.Run(name, func(t *testing.T) {
			f := format(t, 0, 128<<20, append(variants()[name], "-N", "110000")...)
			populate(t, f, 0, tree)
			fsck(t, f, 0)
		})
	}
}

// TestLargeFiles writes files above 4 GiB, sparse ones, and one with so many pieces that its extent tree is deep.
func TestLargeFiles(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs", "e2fsck")
	edit := layers.NewTree().Edit(layers.Timespec{Sec: 1})
	put := func(name string, size int64, every int64) {
		n := &layers.Node{Mode: layers.TypeRegular | 0o644, Size: size, Data: []layers.Extent{}}
		var data []byte
		for at := int64(0); at < size; at += every {
			n.Data = append(n.Data, layers.Extent{Offset: at, Length: 1})
			data = append(data, 'x')
		}
		n.Content = layers.Bytes(data)
		if err := edit.Put(name, n); err != nil {
			t.Fatal(err)
		}
	}
	put("sparse 10 GiB", 10<<30, 100<<20)
	put("many pieces", 60<<20, 12<<10) // 5,120 extents: two levels of 4 KiB blocks
	tree := edit.Tree()
	for _, name := range []string{"ext2", "ext3", "ext4", "ext4-1k", "ext4-no-csum"} {
		t.Run(name, func(t *testing.T) {
			f := format(t, 0, 128<<20, variants()[name]...)
			populate(t, f, 0, tree)
			fsck(t, f, 0)
		})
	}
}

func TestNoSpace(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs")
	m := sampletree.New(t, 1)
	m.Put("large", m.File(20<<20))
	f := format(t, 0, 16<<20, "-t", "ext4", "-b", "4096")
	before, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	_, err = Populate(t.Context(), f, 0, m.Edit.Tree(), Options{})
	if err == nil || !strings.Contains(err.Error(), "too small") {
		t.Fatalf("%v", err)
	}
	after, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if string(before) != string(after) {
		t.Error("a tree that does not fit was written in part")
	}
}

// TestHash compares the hash of names with debugfs, which knows the default hash version.
func TestHash(t *testing.T) {
	testenv.NeedProgram(t, "debugfs")
	f := format(t, 0, 16<<20, "-t", "ext4")
	sb, err := readSuperblock(f, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "abcd", "some-name", strings.Repeat("0123456789", 25), "\xc3\xa4\xc3\xb6"} {
		hash, minor := sb.nameHash(name)
		want := fmt.Sprintf("Hash of %s is 0x%0x (minor 0x%0x)", name, hash, minor)
		out := testenv.Run(t, "debugfs", "-R", fmt.Sprintf("dx_hash -h half_md4 -s %s %s", testUUID, name), f.Name())
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in %q", want, out)
		}
	}
}
