package layers

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// sample is a tree with a merged /usr, a sparse file, hard links and symbolic links that try to leave.
func sample(t *testing.T) *Tree {
	t.Helper()
	e := NewTree().Edit(Timespec{Sec: 1700000000, Nsec: 7})
	for _, step := range []error{
		e.WriteFile("usr/bin/sh", []byte("#!shell"), 0o755),
		e.Symlink("usr/bin", "bin"),
		e.Symlink("../../../../etc", "usr/loop"),
		e.Symlink("b", "a"), e.Symlink("a", "b"),
		e.WriteFile("etc/passwd", []byte("root:x:0:0::/root:/bin/sh\n"), 0o644),
		e.Link("bin/sh", "usr/bin/dash"),
		e.Put("holes", &Node{Mode: TypeRegular | 0o600, Size: 10, Data: []Extent{{2, 3}, {7, 1}}, Content: Bytes("abcd")}),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	return e.Tree()
}

func TestResolveStaysInsideAndFollowsLinks(t *testing.T) {
	tree := sample(t)
	for name, want := range map[string]string{"/bin/sh": "usr/bin/sh", "usr/loop/passwd": "etc/passwd", "../../etc//passwd": "etc/passwd",
		"bin": "usr/bin", "/": ".", "bin/..": "usr"} {
		if got, _, err := tree.Resolve(name); err != nil || got != want {
			t.Errorf("Resolve(%q) = %q, %v; want %q", name, got, err, want)
		}
	}
	if got, _, err := tree.ResolveParent("bin"); err != nil || got != "bin" {
		t.Errorf("ResolveParent followed the last link: %q, %v", got, err)
	}
	if _, _, err := tree.Resolve("a"); err == nil || !strings.Contains(err.Error(), "too many symbolic links") {
		t.Errorf("a loop of links gave %v", err)
	}
	if _, _, err := tree.Resolve("bin/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file gave %v", err)
	}
	if _, _, err := tree.Resolve("etc/passwd/x"); err == nil {
		t.Error("a file was taken for a directory")
	}
}

func TestEditLeavesTheOldTreeAlone(t *testing.T) {
	old := sample(t)
	before := old.Stats()
	e := old.Edit(Timespec{})
	if err := e.WriteFile("bin/sh", []byte("other"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := e.Remove("etc"); err != nil {
		t.Fatal(err)
	}
	first := e.Tree()
	if err := e.WriteFile("later", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, old.Stats()); diff != "" {
		t.Error("the old tree changed: ", diff)
	}
	if data, _ := old.ReadFile("bin/sh", 100); string(data) != "#!shell" {
		t.Errorf("the old tree's file holds %q", data)
	}
	if data, _ := first.ReadFile("usr/bin/sh", 100); string(data) != "other" {
		t.Errorf("the edit through a symbolic link is not where it leads: %q", data)
	}
	if _, err := first.Lookup("later"); err == nil {
		t.Error("a tree saw an edit made after it was taken")
	}
	if data, _ := first.ReadFile("usr/bin/dash", 100); string(data) != "#!shell" {
		t.Errorf("the other hard link changed too: %q", data)
	}
}

func TestPutKeepsADirectorysEntries(t *testing.T) {
	e := sample(t).Edit(Timespec{})
	if err := e.Put("usr", &Node{Mode: TypeDir | 0o700}); err != nil {
		t.Fatal(err)
	}
	n, err := e.Tree().Lookup("usr")
	if err != nil || n.Perm() != 0o700 || n.Child("bin") == nil {
		t.Errorf("got %+v, %v", n, err)
	}
	if err := e.MkdirAll("etc/passwd/x", 0o755); err == nil {
		t.Error("a directory was made below a file")
	}
}

func TestSparseFileReadsWithHoles(t *testing.T) {
	data, err := sample(t).ReadFile("holes", 10)
	if err != nil || string(data) != "\x00\x00abc\x00\x00d\x00\x00" {
		t.Errorf("read %q, %v", data, err)
	}
	short := &Node{Mode: TypeRegular, Size: 10, Data: []Extent{{2, 3}}, Content: Bytes("ab")}
	r, _ := short.Open()
	if _, err := io.ReadAll(r); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("missing data gave %v", err)
	}
	if _, err := sample(t).ReadFile("holes", 9); err == nil {
		t.Error("the limit was ignored")
	}
}

func TestWalkIsSortedAndSkips(t *testing.T) {
	var names []string
	err := sample(t).Walk(func(name string, n *Node) error {
		names = append(names, name)
		if name == "usr/bin" {
			return fs.SkipDir
		}
		return nil
	})
	want := []string{".", "a", "b", "bin", "etc", "etc/passwd", "holes", "usr", "usr/bin", "usr/loop"}
	if diff := cmp.Diff(want, names); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

func TestTreeAsFileSystem(t *testing.T) {
	e := NewTree().Edit(Timespec{Sec: 1})
	for _, step := range []error{
		e.WriteFile("image/config.xml", []byte("<image/>"), 0o644),
		e.WriteFile("image/root/etc/motd", []byte("hello"), 0o644),
		e.WriteFile("etc/shadow", []byte("secret"), 0o600),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	if err := fstest.TestFS(e.Tree().FS("image"), "config.xml", "root/etc/motd"); err != nil {
		t.Error(err)
	}
	if err := e.Symlink("../etc/shadow", "image/out"); err != nil {
		t.Fatal(err)
	}
	if _, err := fs.ReadFile(e.Tree().FS("image"), "out"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a link led out of the directory: %v", err)
	}
	if _, err := fs.ReadFile(e.Tree().FS("none"), "config.xml"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing directory gave %v", err)
	}
}
