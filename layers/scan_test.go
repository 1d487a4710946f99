package layers

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

func namesOf(tree *Tree) []string {
	var names []string
	_ = tree.Walk(func(name string, _ *Node) error {
		names = append(names, name)
		return nil
	})
	return names
}

func mkdirs(t testing.TB, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(full, 0o755); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(full, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestScanLeavesOutWhatIsVolatile(t *testing.T) {
	dir := t.TempDir()
	mkdirs(t, dir, "dev/null", "proc/1/", "sys/x", "run/lock/", "tmp/x", "var/tmp/kept", "etc/run/kept", "tmpx/kept")
	tree, _, err := ScanDir(t.Context(), dir, ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{".", "dev", "etc", "etc/run", "etc/run/kept", "proc", "run", "sys", "tmp", "tmpx", "tmpx/kept", "var", "var/tmp", "var/tmp/kept"}
	if diff := cmp.Diff(want, namesOf(tree)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if tree, _, err = ScanDir(t.Context(), dir, ScanOptions{KeepVolatile: true}); err != nil {
		t.Fatal(err)
	}
	if names := namesOf(tree); !slices.Contains(names, "dev/null") || !slices.Contains(names, "proc/1") {
		t.Errorf("with KeepVolatile: %v", names)
	}
}

func TestScanNotesSockets(t *testing.T) {
	dir := t.TempDir()
	mkdirs(t, dir, "a/file")
	l, err := net.Listen("unix", filepath.Join(dir, "a", "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tree, notes, err := ScanDir(t.Context(), dir, ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(notes) != 1 || notes[0].Path != "/a/socket" {
		t.Errorf("notes: %v", notes)
	}
	if diff := cmp.Diff([]string{".", "a", "a/file"}, namesOf(tree)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestScanExcludes(t *testing.T) {
	dir := t.TempDir()
	mkdirs(t, dir, "a.log", "var/log/b.log", "var/log/keep", "var/cache/apt/x", "var/cache/y", "src/cache/z", "deep/one/two/three.o", "exact", "sub/exact", "q1", "q22")
	for pattern, gone := range map[string]string{
		"*.log":        "a.log,var/log/b.log",
		"/*.log":       "a.log",
		"./*.log":      "a.log",
		"/var/cache/*": "var/cache/apt,var/cache/apt/x,var/cache/y",
		"cache":        "src/cache,src/cache/z,var/cache,var/cache/apt,var/cache/apt/x,var/cache/y",
		"cache/":       "src/cache,src/cache/z,var/cache,var/cache/apt,var/cache/apt/x,var/cache/y",
		"exact/":       "",
		"/exact":       "exact",
		"deep/**/*.o":  "deep/one/two/three.o",
		"**.o":         "deep/one/two/three.o",
		"q?":           "q1",
		"q[0-9][0-9]":  "q22",
	} {
		all, _, err := ScanDir(t.Context(), dir, ScanOptions{})
		if err != nil {
			t.Fatal(err)
		}
		tree, _, err := ScanDir(t.Context(), dir, ScanOptions{Exclude: []string{pattern}})
		if err != nil {
			t.Fatal(err)
		}
		left := namesOf(tree)
		var missing []string
		for _, name := range namesOf(all) {
			if !slices.Contains(left, name) {
				missing = append(missing, name)
			}
		}
		if got := strings.Join(missing, ","); got != gone {
			t.Errorf("%s leaves out %s, not %s", pattern, got, gone)
		}
	}
	for _, pattern := range []string{"", "/", "[", "a[b"} {
		if _, _, err := ScanDir(t.Context(), dir, ScanOptions{Exclude: []string{pattern}}); err == nil {
			t.Errorf("the pattern %q was taken", pattern)
		}
	}
}

func TestScanStaysOnOneFileSystem(t *testing.T) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, "/dev/pts", 0, unix.STATX_BASIC_STATS, &st); err != nil || st.Attributes&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		testenv.Missing(t, "nothing is mounted on /dev/pts")
	}
	tree, _, err := ScanDir(t.Context(), "/dev", ScanOptions{OneFileSystem: true, KeepVolatile: true})
	if err != nil {
		t.Fatal(err)
	}
	pts, err := tree.Lookup("pts")
	if err != nil || !pts.IsDir() || pts.Len() > 0 {
		t.Errorf("/dev/pts is %v with %d entries, %v", pts, pts.Len(), err)
	}
	if tree, _, err = ScanDir(t.Context(), "/dev", ScanOptions{KeepVolatile: true, Exclude: []string{"/shm", "/mqueue", "/hugepages"}}); err != nil {
		t.Fatal(err)
	}
	if pts := tree.Root().Child("pts"); pts.Len() == 0 {
		t.Error("without OneFileSystem, /dev/pts is empty")
	}
}

func TestScanKeepsEverything(t *testing.T) {
	testenv.NeedRealRoot(t)
	want := awkward(t)
	dir, _ := written(t, want, DirOptions{})
	sameTree(t, "scanned", want, scanned(t, dir))
	sameTree(t, "scanned without openat2", want, scannedStepwise(t, dir))
}

// scannedStepwise is what ScanDir finds on a kernel without openat2.
func scannedStepwise(t testing.TB, dir string) *Tree {
	t.Helper()
	root, err := openHostRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	root.noOpen2.Store(true)
	s := newScanner(root, ScanOptions{KeepVolatile: true}, nil)
	tree, err := s.scan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// An entry that becomes a symbolic link after the scan must not lead out of the directory.
func TestScannedContentsStayInside(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, stepwise := range []bool{false, true} {
		dir := t.TempDir()
		mkdirs(t, dir, "file", "sub/secret")
		tree := scanned(t, dir)
		if stepwise {
			tree = scannedStepwise(t, dir)
		}
		for _, name := range []string{"file", "sub"} {
			if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(os.Symlink(secret, filepath.Join(dir, "file")), os.Symlink(filepath.Dir(secret), filepath.Join(dir, "sub"))); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"file", "sub/secret"} {
			data, err := tree.ReadFile(name, 100)
			var changed *ChangedError
			if !errors.As(err, &changed) {
				t.Errorf("%s gives %q, %v", name, data, err)
			}
		}
	}
}

func TestScannedContentsThatChangeAreErrors(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"shorter": func(path string) error { return os.Truncate(path, 3) },
		"longer":  func(path string) error { return os.Truncate(path, 300) },
		"touched": func(path string) error { return os.Chtimes(path, time.Unix(5, 0), time.Unix(5, 0)) },
		"gone":    os.Remove,
		"replaced": func(path string) error {
			return errors.Join(os.WriteFile(path+"x", []byte("content"), 0o644), os.Rename(path+"x", path))
		},
	} {
		dir := t.TempDir()
		mkdirs(t, dir, "content")
		tree := scanned(t, dir)
		if err := change(filepath.Join(dir, "content")); err != nil {
			t.Fatal(err)
		}
		var changed *ChangedError
		if _, err := tree.ReadFile("content", 1000); !errors.As(err, &changed) || !strings.Contains(err.Error(), dir+"/content") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// While it is read.
	dir := t.TempDir()
	mkdirs(t, dir, "content")
	r, err := scanned(t, dir).Root().Child("content").Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadFull(r, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "content"), []byte("CONTENT"), 0o644); err != nil {
		t.Fatal(err)
	}
	var changed *ChangedError
	if _, err := io.ReadAll(r); !errors.As(err, &changed) {
		t.Errorf("changed while it was read: %v", err)
	}
}

func TestScanErrors(t *testing.T) {
	if _, _, err := ScanDir(t.Context(), filepath.Join(t.TempDir(), "none"), ScanOptions{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing directory gives %v", err)
	}
	dir := t.TempDir()
	mkdirs(t, dir, "file")
	if _, _, err := ScanDir(t.Context(), filepath.Join(dir, "file"), ScanOptions{}); err == nil {
		t.Error("a file was scanned as a directory")
	}
}
