package squashfs

import (
	"bytes"
	"crypto/sha256"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

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

// write writes a tree into a new file.
func write(t testing.TB, tree *layers.Tree, o Options) (*os.File, *Report) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "squashfs"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	report, err := Write(t.Context(), f, tree, o)
	if err != nil {
		t.Fatal(err)
	}
	return f, report
}

// read reads a file system by squashfs-tools-ng.
func read(t testing.TB, name string) *layers.Tree {
	t.Helper()
	cmd := exec.Command(testenv.NeedProgram(t, "sqfs2tar"), "-r", ".", name)
	var errors bytes.Buffer
	cmd.Stderr = &errors
	tar, err := cmd.Output()
	if err != nil || errors.Len() > 0 {
		t.Fatalf("sqfs2tar: %v\n%s", err, &errors)
	}
	layer, err := layers.ReadLayer(t.Context(), bytes.NewReader(tar), layers.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	tree, err := layers.Apply(layers.NewTree(), layer)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// unpack reads a file system by unsquashfs, whose directory is dropped when the test ends.
func unpack(t testing.TB, name string) *layers.Tree {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "unpacked")
	testenv.Run(t, "unsquashfs", "-no-progress", "-quiet", "-dest", dir, name)
	tree, notes, err := layers.ScanDir(t.Context(), dir, layers.ScanOptions{KeepVolatile: true})
	if err != nil || notes != nil {
		t.Fatal(notes, err)
	}
	return tree
}

// held returns a tree as a file system holds it.
func held(t testing.TB, tree *layers.Tree) *layers.Tree {
	t.Helper()
	return layerstest.Changed(t, tree, func(n *layers.Node) {
		fit, _ := Fit(n)
		*n = *fit
		n.MTime.Nsec = 0
	})
}

// sum returns the digest of a whole file.
func sum(t testing.TB, f *os.File) [sha256.Size]byte {
	t.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, 1<<40)); err != nil {
		t.Fatal(err)
	}
	return [sha256.Size]byte(h.Sum(nil))
}
