package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/registry/manifest"
)

// blobOf returns the file of an image's first layer.
func blobOf(t *testing.T, s *Store, img v1.Image) string {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	sum, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(s.Dir(), "blobs/sha256", sum.Hex)
}

func TestDamageIsFoundAndMended(t *testing.T) {
	ctx := t.Context()
	s := openTest(t, t.TempDir())
	good, bad := testImage(t, nil, 1, 1000), testImage(t, nil, 2, 1000)
	for name, img := range map[string]v1.Image{"good": good, "bad": bad} {
		if err := s.PutImage(ctx, name, img); err != nil {
			t.Fatal(err)
		}
	}
	file := blobOf(t, s, bad)
	config, err := bad.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	for what, damage := range map[string]func() error{
		"a cut layer":      func() error { return os.Truncate(file, 10) },
		"a missing layer":  func() error { return os.Remove(file) },
		"a missing config": func() error { return os.Remove(filepath.Join(s.Dir(), "blobs/sha256", config.Hex)) },
	} {
		t.Run(what, func(t *testing.T) {
			if err := damage(); err != nil {
				t.Fatal(err)
			}
			found, err := s.Verify(ctx)
			if err != nil || len(found) != 1 || found[0].Name != "bad:latest" {
				t.Errorf("found %v, %v", found, err)
			}
			if _, err := s.Prune(ctx, PruneOptions{}); err != nil {
				t.Errorf("pruning: %v", err)
			}
			if entries, err := s.List(ctx); err != nil || len(entries) != 2 {
				t.Errorf("listing: %v, %v", entries, err)
			}
			if err := s.PutImage(ctx, "bad", bad); err != nil {
				t.Fatal(err)
			}
			checkWhole(t, s)
		})
	}
	if err := os.WriteFile(file, make([]byte, 1000), 0o644); err != nil {
		t.Fatal(err)
	}
	if found, err := s.Verify(ctx); err != nil || len(found) != 1 || !errors.Is(found[0].Err, manifest.ErrInvalid) {
		t.Errorf("other content of the same size: %v, %v", found, err)
	}
}

func TestBrokenIndexIsAnError(t *testing.T) {
	s := openTest(t, t.TempDir())
	if err := s.PutImage(t.Context(), "a", testImage(t, nil, 1, 10)); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(s.Dir(), "index.json")
	if err := os.WriteFile(name, []byte(`{"manifests":[{"digest":"sha`), 0o644); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"Remove": s.Remove(t.Context(), "a"),
		"Put":    s.PutImage(t.Context(), "b", testImage(t, nil, 2, 10)),
		"Prune":  func() error { _, err := s.Prune(t.Context(), PruneOptions{}); return err }(),
	} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if data, _ := os.ReadFile(name); len(data) != 28 {
		t.Error("the broken index was overwritten")
	}
}

// TestReaderKeepsItsImage removes and prunes what another process is reading.
func TestReaderKeepsItsImage(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	writer := openTest(t, dir)
	img := testImage(t, nil, 1, 50_000)
	if err := writer.PutImage(ctx, "a", img); err != nil {
		t.Fatal(err)
	}
	reader, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := reader.Image(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := writer.Remove(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	if report, err := writer.Prune(ctx, PruneOptions{}); err != nil || report.Blobs != 0 {
		t.Errorf("%+v, %v", report, err)
	}
	sameImage(t, img, got)
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	if report, err := writer.Prune(ctx, PruneOptions{}); err != nil || report.Blobs != 3 {
		t.Errorf("after the reader ended: %+v, %v", report, err)
	}
}

// TestReadOnly reads a store that can't be written.
func TestReadOnly(t *testing.T) {
	testenv.NeedRoot(t)
	ctx := t.Context()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		testenv.Missing(t, "mounting a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	w, err := Open(filepath.Join(dir, "store"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	img := testImage(t, nil, 1, 1000)
	if err := w.PutImage(ctx, "a", img); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	s := openTest(t, w.Dir())
	if diff := cmp.Diff([]string{"a:latest"}, names(t, s)); diff != "" {
		t.Error(diff)
	}
	got, err := s.Image(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	sameImage(t, img, got)
	if err := s.Remove(ctx, "a"); !errors.Is(err, unix.EROFS) {
		t.Errorf("removing: %v", err)
	}
}

func TestDefaultDir(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("not possible here: only root can seem to be another")
	}
	for _, test := range []struct{ inner, unshare, data, want string }{
		{"", "", "/data", "/var/lib/imgbuild/store"},
		{"1000", "", "/data", "/data/imgbuild/store"},
		{"1000", "", "", "/home/me/.local/share/imgbuild/store"},
		{"1000", "", "relative", "/home/me/.local/share/imgbuild/store"},
		{"", "1000", "", "/home/me/.local/share/imgbuild/store"},
	} {
		t.Setenv("IMGBUILD_UID", test.inner)
		t.Setenv("IMGBUILD_GID", test.inner)
		t.Setenv("IMGBUILD_HOME", "/home/me")
		t.Setenv("_CONTAINERS_ROOTLESS_UID", test.unshare)
		t.Setenv("XDG_DATA_HOME", test.data)
		t.Setenv("HOME", "/home/me")
		if got, err := DefaultDir(); err != nil || got != test.want {
			t.Errorf("%+v: %s, %v", test, got, err)
		}
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string][3]string{
		"leap":                       {"leap:latest", "leap", "latest"},
		"leap:15.3":                  {"leap:15.3", "leap", "15.3"},
		"localhost:5000/leap":        {"localhost:5000/leap:latest", "localhost:5000/leap", "latest"},
		"localhost:5000/a/leap:1":    {"localhost:5000/a/leap:1", "localhost:5000/a/leap", "1"},
		"a@sha256:0123":              {"a@sha256:0123", "a", "sha256:0123"},
		"[::1]:5000/a":               {"[::1]:5000/a:latest", "[::1]:5000/a", "latest"},
		"registry.example.org/a:1-2": {"registry.example.org/a:1-2", "registry.example.org/a", "1-2"},
	} {
		full := FullName(name)
		base, tag := SplitName(full)
		if got := [3]string{full, base, tag}; got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	s := openTest(t, t.TempDir())
	for _, name := range []string{"", "a b", "a\nb", "a\x00"} {
		if err := s.PutImage(t.Context(), name, testImage(t, nil, 1, 1)); err == nil {
			t.Errorf("%q was taken as a name", name)
		}
	}
}
