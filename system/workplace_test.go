package system

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func opened(t *testing.T, root string) *workplace {
	t.Helper()
	w := place(t, root)
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	return w
}

func place(t *testing.T, root string) *workplace {
	t.Helper()
	w, err := workplaceOf(root)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// below lists the files below a directory.
func below(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil && name != "." {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestTreeAppearsComplete(t *testing.T) {
	top := t.TempDir()
	root := filepath.Join(top, "deep/down/root")
	for _, text := range []string{"new", "newer"} { // nothing is there, then a tree is
		w := opened(t, root)
		writeFile(t, filepath.Join(w.unpackTo(), "file"), text)
		if err := w.finish(); err != nil {
			t.Fatal(err)
		}
		if err := w.close(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"deep", "deep/down", "deep/down/root", "deep/down/root/file"}, below(t, top)); diff != "" {
			t.Error(diff)
		}
		if data, err := os.ReadFile(filepath.Join(root, "file")); err != nil || string(data) != text {
			t.Errorf("the tree holds %q, %v", data, err)
		}
	}
	w := opened(t, root)
	if err := errors.Join(w.vacate(), w.close()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"deep", "deep/down"}, below(t, top)); diff != "" {
		t.Error(diff)
	}
}

func TestUnfinishedTreeLeavesNothing(t *testing.T) {
	top := t.TempDir()
	w := opened(t, filepath.Join(top, "a/b/root"))
	writeFile(t, filepath.Join(w.unpackTo(), "file"), "half")
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	if left := below(t, top); left != nil {
		t.Errorf("left %v", left)
	}
}

func TestLeftoversOfAKilledRunGo(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	writeFile(t, filepath.Join(place(t, root).unpackTo(), "usr/file"), "half")
	w := opened(t, root)
	if left := below(t, w.dir); left != nil {
		t.Errorf("left %v", left)
	}
	other := place(t, root)
	if err := other.open(); !errors.Is(err, ErrInUse) {
		t.Errorf("a second run beside the first: %v", err)
	}
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(other.open(), other.close()); err != nil {
		t.Errorf("after the first: %v", err)
	}
}

// TestDirectoriesOfAKilledRunGo removes what a run has made above the root tree that was killed, and nothing that was there before it.
func TestDirectoriesOfAKilledRunGo(t *testing.T) {
	top := t.TempDir()
	root := filepath.Join(top, "before/a/b/root")
	if err := os.Mkdir(filepath.Join(top, "before"), 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 { // killed twice
		w := opened(t, root)
		writeFile(t, filepath.Join(w.unpackTo(), "file"), "half")
		w.lock.Close()
	}
	if err := opened(t, root).close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"before"}, below(t, top)); diff != "" {
		t.Error(diff)
	}
	// One whose tree is there stays.
	opened(t, root).lock.Close()
	w := opened(t, root)
	writeFile(t, filepath.Join(w.unpackTo(), "file"), "whole")
	if err := errors.Join(w.finish(), w.close()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"before", "before/a", "before/a/b", "before/a/b/root", "before/a/b/root/file"}, below(t, top)); diff != "" {
		t.Error(diff)
	}
}

func TestTreeInThePlaceOfAFile(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	writeFile(t, root, "a file")
	if _, err := place(t, root).occupied(); err == nil {
		t.Error("a file is no place for a root tree")
	}
}

func TestPlacesThatNoTreeCanTake(t *testing.T) {
	for _, root := range []string{"/", "/proc"} {
		if _, err := workplaceOf(root); err == nil {
			t.Errorf("%s is a place for a root tree", root)
		}
	}
	top := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(top, "real"), 0o755), os.Symlink("real", filepath.Join(top, "link"))); err != nil {
		t.Fatal(err)
	}
	w := opened(t, filepath.Join(top, "link"))
	writeFile(t, filepath.Join(w.unpackTo(), "file"), "new")
	if err := errors.Join(w.finish(), w.close()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"link", "real", "real/file"}, below(t, top)); diff != "" {
		t.Error(diff)
	}
}
