package filesystem

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/imagetypes/filesystem/internal/sampletree"
	"github.com/imgbuild/imgbuild/internal/helperkernel"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/userns"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/layers/layerstest"
)

// TestMain brings an ordinary user into a user namespace, as the commands do.
func TestMain(m *testing.M) {
	userns.MustEnter()
	os.Exit(m.Run())
}

// TestOrdinaryUser runs other tests as an ordinary user.
func TestOrdinaryUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("the other tests run as an ordinary user already")
	}
	needKernel(t)
	user := testenv.OrdinaryUser(t)
	user.RunAgain(t, "TestKernelReadsEverything/ext4")
	user.RunAgain(t, "TestKernelReadsEverything/xfs")
	user.RunAgain(t, "TestErofs")
	user.RunAgain(t, "TestCramfs")
}

// needKernel asks for a helper kernel.
func needKernel(t testing.TB) {
	t.Helper()
	if _, err := helperkernel.Available(nil); err != nil {
		testenv.Missing(t, "%v", err)
	}
}

// readBack mounts a file system in a helper kernel and reads all of it.
func readBack(t testing.TB, f *os.File, offset, size int64, kind string) *layers.Tree {
	t.Helper()
	tar := newFile(t)
	if err := tar.Truncate(128 << 20); err != nil {
		t.Fatal(err)
	}
	options := "ro"
	if kind == "reiserfs" {
		options += ",user_xattr,acl"
	}
	_, err := helperkernel.Run(t.Context(), helperkernel.Spec{
		Name: "reading a file system",
		Script: fmt.Sprintf(`mkdir /tmp/root
mount -t %s -o %s $disk1 /tmp/root
tar -c --format=posix --numeric-owner --sparse --xattrs '--xattrs-include=*' --no-acls -C /tmp/root -f $disk2 . 2>&1 | grep -v 'socket ignored' || true
umount /tmp/root
`, kind, options),
		Disks:    []helperkernel.Disk{{File: f, Offset: offset, Size: size, ReadOnly: true}, {File: tar}},
		Programs: []string{"tar", "mkdir", "mount", "umount", "grep"},
		Modules:  []string{kind},
	})
	if err != nil {
		t.Fatal(err)
	}
	layer, err := layers.ReadLayer(context.Background(), io.NewSectionReader(tar, 0, 128<<20), layers.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	tree, err := layers.Apply(layers.NewTree(), layer)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// without returns the tree without some entries.
func without(t testing.TB, tree *layers.Tree, names ...string) *layers.Tree {
	t.Helper()
	edit := tree.Edit(layers.Timespec{})
	for _, name := range names {
		if err := edit.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	return edit.Tree()
}

func varietyTree(t testing.TB) *layers.Tree {
	m := sampletree.New(t, 7)
	m.Variety("one")
	m.Dir("many")
	for i := range 700 {
		m.Put(fmt.Sprintf("many/entry number %d", i), m.File(m.Rand.IntN(300)))
	}
	root := *m.Edit.Tree().Root()
	root.Mode, root.UID, root.MTime = layers.TypeDir|0o751, 12, m.Time()
	m.Put(".", &root)
	return m.Edit.Tree()
}

func TestKernelReadsEverything(t *testing.T) {
	needKernel(t)
	tree := varietyTree(t)
	check := map[string][]string{
		"ext2": {"e2fsck", "-fn"}, "ext3": {"e2fsck", "-fn"}, "ext4": {"e2fsck", "-fn"}, "xfs": {"xfs_repair", "-n", "-f"}, "btrfs": {"btrfs", "check"},
		"reiserfs": {"reiserfsck", "--check", "-y", "-q"},
	}
	for _, kind := range []string{"ext2", "ext3", "ext4", "xfs", "btrfs", "reiserfs"} {
		t.Run(kind, func(t *testing.T) {
			testenv.NeedProgram(t, check[kind][0])
			spec := Spec{Type: kind, Label: "label"}
			if kind == "btrfs" {
				spec.Btrfs.Root = "@/sub volume"
			}
			size, err := Size(t.Context(), testEnv(), tree, spec)
			if err != nil {
				t.Fatal(err)
			}
			f := newFile(t)
			if err := Write(t.Context(), testEnv(), f, 0, size, tree, spec); err != nil {
				t.Fatal(err)
			}
			args := append(slices.Clone(check[kind][1:]), f.Name())
			if out, err := exec.Command(testenv.NeedProgram(t, check[kind][0]), args...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %v\n%s", args, err, out)
			}
			driver := kind
			if kind == "ext2" {
				driver = "ext4" // the old driver ext2 shows no nanoseconds
			}
			got := readBack(t, f, 0, size, driver)
			if kind == "xfs" { // it shows access control lists a second time
				got = layerstest.Changed(t, got, func(n *layers.Node) {
					n.Xattrs = slices.DeleteFunc(slices.Clone(n.Xattrs), func(x layers.Xattr) bool { return strings.HasPrefix(x.Name, "trusted.SGI_ACL") })
				})
			}
			if strings.HasPrefix(kind, "ext") {
				got = without(t, got, "lost+found")
			}
			want := tree
			if kind == "reiserfs" { // it has whole seconds in 32 bits
				want = layerstest.Changed(t, want, func(n *layers.Node) { n.MTime = layers.Timespec{Sec: min(max(n.MTime.Sec, 0), 1<<32-1)} })
			}
			layerstest.Same(t, want, got)
		})
	}
}
