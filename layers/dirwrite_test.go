package layers

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"golang.org/x/sys/unix"
)

func written(t testing.TB, tree *Tree, opts DirOptions) (string, *DirReport) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	report, err := WriteDir(t.Context(), dir, tree, opts)
	if err != nil {
		t.Fatal(err)
	}
	return dir, report
}

// sameTree compares two trees with holes and hard links.
func sameTree(t testing.TB, what string, want, got *Tree) {
	t.Helper()
	texts := [2][]string{}
	for i, tree := range []*Tree{want, got} {
		texts[i] = treeText(t, tree)
		_ = tree.Walk(func(name string, n *Node) error {
			if n.IsRegular() && n.Data != nil {
				texts[i] = append(texts[i], name+extentText(n.Data))
			}
			return nil
		})
	}
	if diff := cmp.Diff(texts[0], texts[1]); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func extentText(list []Extent) string {
	text, _ := dataMap(list)
	return " data at " + text
}

func TestWriteDirKeepsEverything(t *testing.T) {
	testenv.NeedRealRoot(t)
	for name, tree := range map[string]*Tree{"awkward": awkward(t), "random 1": randomTree(t, 20, 300), "random 2": randomTree(t, 21, 1000)} {
		var progress int64
		dir, report := written(t, tree, DirOptions{Progress: func(n int64) { progress += n }})
		if len(report.Unheld) > 0 {
			t.Errorf("%s: not everything was written: %v", name, report.Unheld)
		}
		if want := tree.Stats().Data; progress != want {
			t.Errorf("%s: progress counts %d of %d bytes", name, progress, want)
		}
		sameTree(t, name, tree, scanned(t, dir))
	}
}

func TestWriteDirFromLayers(t *testing.T) {
	testenv.NeedRealRoot(t)
	tree := awkward(t)
	for _, c := range everyCompression {
		p, blob := packed(t, layerOf(t, tree), PackOptions{Compression: c})
		p.Layer.Source.Blob = memoryBlob(blob)
		applied, err := Apply(NewTree(), p.Layer)
		if err != nil {
			t.Fatal(err)
		}
		dir, _ := written(t, applied, DirOptions{})
		sameTree(t, c.String(), tree, scanned(t, dir))
	}
}

func TestWriteDirIntoSomething(t *testing.T) {
	testenv.NeedRealRoot(t)
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "precious"), []byte("p"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := hostDir(t)
	// A link in place of a directory, a directory in place of a file, and a file that may stay.
	for _, err := range []error{
		os.Symlink(outside, filepath.Join(dir, "etc")),
		os.MkdirAll(filepath.Join(dir, "bin/su/deep"), 0o755),
		os.WriteFile(filepath.Join(dir, "bin/stays"), []byte("s"), 0o644),
		os.Symlink(filepath.Join(outside, "precious"), filepath.Join(dir, "bin/ping")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	tree := awkward(t)
	var notEmpty *NotEmptyError
	if _, err := WriteDir(t.Context(), dir, tree, DirOptions{}); !errors.As(err, &notEmpty) {
		t.Fatalf("writing into a directory with something in it gave %v", err)
	}
	if _, err := WriteDir(t.Context(), dir, tree, DirOptions{Overwrite: true}); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(outside, "precious")); err != nil || string(data) != "p" {
		t.Errorf("a file outside of the tree was changed: %q, %v", data, err)
	}
	if names, err := os.ReadDir(outside); err != nil || len(names) != 1 {
		t.Errorf("something was written outside of the tree: %v, %v", names, err)
	}
	e := tree.Edit(Timespec{})
	stays, err := scanned(t, dir).Lookup("bin/stays")
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Put("bin/stays", stays); err != nil {
		t.Fatal(err)
	}
	sameTree(t, "overwritten", e.Tree(), scanned(t, dir))
}

func TestWriteDirLeavesNothingAfterAnError(t *testing.T) {
	e := NewTree().Edit(Timespec{})
	for _, name := range []string{"a/b/c/file", "a/file", "z/file"} {
		if err := e.WriteFile(name, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Put("a/broken", &Node{Mode: TypeRegular | 0o644, Size: 1, Content: brokenContent{}}); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(t.TempDir(), "new/tree")
	empty := t.TempDir()
	if err := os.Chmod(empty, 0o751); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{missing, empty} {
		if _, err := WriteDir(t.Context(), dir, e.Tree(), DirOptions{}); !errors.Is(err, errDisk) {
			t.Errorf("a content's error became %v", err)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("enough")
	if _, err := WriteDir(ctx, empty, randomTree(t, 22, 200), DirOptions{Progress: func(int64) { cancel(stop) }}); !errors.Is(err, stop) {
		t.Errorf("a cancelled write gave %v", err)
	}
	if _, err := os.Lstat(missing); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory made was left: %v", err)
	}
	if info, err := os.Stat(empty); err != nil || info.Mode().Perm() != 0o751 {
		t.Errorf("the directory that was there has become %v, %v", info.Mode(), err)
	}
	if names, err := os.ReadDir(empty); err != nil || len(names) > 0 {
		t.Errorf("left in the directory: %v, %v", names, err)
	}
}

func TestWriteDirOnAFullDisk(t *testing.T) {
	testenv.NeedRealRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("not possible here: mounting a tmpfs: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	tree := randomTree(t, 23, 600)
	_, err := WriteDir(t.Context(), dir, tree, DirOptions{})
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "its files need") {
		t.Errorf("a full disk gave %v", err)
	}
}

func TestOpenBeneathFollowsNoLinks(t *testing.T) {
	dir := t.TempDir()
	for _, err := range []error{
		os.MkdirAll(filepath.Join(dir, "a/b/c"), 0o755),
		os.Symlink("b", filepath.Join(dir, "a/link")),
		os.Symlink("/etc", filepath.Join(dir, "out")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	fds, err := openDirFDs(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer fds.close()
	for how, open := range map[string]func(int, string) (int, error){"openat2": openBeneath, "step by step": openStepwise} {
		fd, err := open(fds.root, "a/b/c")
		if err != nil {
			t.Errorf("%s: %v", how, err)
		} else {
			unix.Close(fd)
		}
		for _, name := range []string{"a/link", "a/link/c", "out", "missing/b"} {
			if fd, err := open(fds.root, name); err == nil {
				t.Errorf("%s opened %s", how, name)
				unix.Close(fd)
			}
		}
	}
}
