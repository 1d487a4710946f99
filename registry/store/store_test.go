package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
)

// testImage returns an image in the OCI's form on top of base (nil: none) with one more layer of pseudo-random bytes, which depend on seed alone.
func testImage(t testing.TB, base v1.Image, seed uint64, size int) v1.Image {
	t.Helper()
	if base == nil {
		base = mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	}
	img, err := mutate.Append(base, mutate.Addendum{
		Layer:   static.NewLayer(randomBytes(seed, size), types.OCIUncompressedLayer),
		History: v1.History{Comment: fmt.Sprintf("seed %d", seed)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func randomBytes(seed uint64, size int) []byte {
	data := make([]byte, size)
	src := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	_, _ = src.Read(data)
	return data
}

func openTest(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// checkWhole fails the test if a name of the store is damaged.
func checkWhole(t testing.TB, s *Store) {
	t.Helper()
	damage, err := s.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range damage {
		t.Errorf("%s is damaged: %v", d.Name, d.Err)
	}
}

func names(t testing.TB, s *Store) []string {
	t.Helper()
	entries, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.Problem != nil {
			t.Errorf("%s: %v", e.FullName(), e.Problem)
		}
		names = append(names, e.FullName())
	}
	return names
}

func TestPutAndRead(t *testing.T) {
	ctx := t.Context()
	dir := filepath.Join(t.TempDir(), "a", "store")
	s := openTest(t, dir)
	if got := names(t, s); got != nil {
		t.Errorf("a new store lists %v", got)
	}
	if _, err := s.Image(ctx, "leap:15.3"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Image on a new store: %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("reading made the store's directory")
	}
	img := testImage(t, testImage(t, nil, 1, 100_000), 2, 50)
	for _, name := range []string{"leap:15.3", "leap", "registry.example.org:5000/a/b:1.2"} {
		if err := s.PutImage(ctx, name, img); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"leap:15.3", "leap:latest", "registry.example.org:5000/a/b:1.2"}
	if diff := cmp.Diff(want, names(t, s)); diff != "" {
		t.Error(diff)
	}
	again := openTest(t, dir)
	got, err := again.Image(ctx, "leap")
	if err != nil {
		t.Fatal(err)
	}
	sameImage(t, img, got)
	checkWhole(t, again)
	entries, err := again.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if e := entries[0]; e.Layers != 2 || e.Size != 100_050 {
		t.Errorf("entry %+v", e)
	}
}

func sameImage(t *testing.T, want, got v1.Image) {
	t.Helper()
	wantDigest, err := want.Digest()
	if err != nil {
		t.Fatal(err)
	}
	gotDigest, err := got.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if wantDigest != gotDigest {
		t.Errorf("digest %s, want %s", gotDigest, wantDigest)
	}
	wantLayers, err := want.Layers()
	if err != nil {
		t.Fatal(err)
	}
	gotLayers, err := got.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range wantLayers {
		if a, b := readLayer(t, l), readLayer(t, gotLayers[i]); !bytes.Equal(a, b) {
			t.Errorf("layer %d has %d bytes that differ from the %d expected", i, len(b), len(a))
		}
	}
}

func readLayer(t *testing.T, l v1.Layer) []byte {
	t.Helper()
	r, err := l.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestUpdate(t *testing.T) {
	ctx := t.Context()
	s := openTest(t, t.TempDir())
	grow := func(_ context.Context, old v1.Image) (v1.Image, error) { return testImage(t, old, 3, 10), nil }
	for want := 1; want <= 3; want++ {
		if err := s.Update(ctx, "a:1", grow); err != nil {
			t.Fatal(err)
		}
		img, err := s.Image(ctx, "a:1")
		if err != nil {
			t.Fatal(err)
		}
		if layers, _ := img.Layers(); len(layers) != want {
			t.Errorf("%d layers, want %d", len(layers), want)
		}
	}
	before, _ := os.ReadFile(filepath.Join(s.Dir(), "index.json"))
	if err := s.Update(ctx, "a:1", func(_ context.Context, old v1.Image) (v1.Image, error) { return old, nil }); err != nil {
		t.Error(err)
	}
	failure := errors.New("no")
	if err := s.Update(ctx, "b", func(context.Context, v1.Image) (v1.Image, error) { return nil, failure }); !errors.Is(err, failure) {
		t.Errorf("Update gave %v", err)
	}
	after, _ := os.ReadFile(filepath.Join(s.Dir(), "index.json"))
	if !bytes.Equal(before, after) {
		t.Error("the index changed without a change")
	}
}

func TestTagRemovePrune(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	base := testImage(t, nil, 1, 1000)
	for name, img := range map[string]v1.Image{"a:1": base, "a:2": testImage(t, base, 2, 2000), "b": testImage(t, nil, 3, 3000)} {
		if err := s.PutImage(ctx, name, img); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Tag(ctx, "a:2", "c:x"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a:2", "b"} {
		if err := s.Remove(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Remove(ctx, "b"); !errors.Is(err, ErrNotFound) {
		t.Errorf("removing what is gone: %v", err)
	}
	if err := s.PutIndex(ctx, digest.FromBytes(randomBytes(3, 3000)), func(w io.Writer) error { _, err := w.Write([]byte("x")); return err }); err != nil {
		t.Fatal(err)
	}
	if report, err := s.Prune(ctx, PruneOptions{}); err != nil || report.Blobs != 0 {
		t.Errorf("pruning what this process relies on: %+v, %v", report, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, dir)
	report, err := s.Prune(ctx, PruneOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if report.Blobs != 3 || report.Indexes != 1 || report.Bytes < 3000 { // b's layer, config and manifest
		t.Errorf("%+v", report)
	}
	if diff := cmp.Diff([]string{"a:1", "c:x"}, names(t, s)); diff != "" {
		t.Error(diff)
	}
	checkWhole(t, s)
}

func TestRefusesForeignDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "letter.txt"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrNotStore) {
		t.Errorf("Open gave %v", err)
	}
}

// TestWaitingEnds lets the contexts of all that waits for the store's lock end while another process has it.
func TestWaitingEnds(t *testing.T) {
	s := openTest(t, t.TempDir())
	if err := s.PutImage(t.Context(), "x", testImage(t, nil, 1, 1000)); err != nil {
		t.Fatal(err)
	}
	stop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	blob, err := s.NewBlob(ctx)
	if err != nil {
		t.Fatal(err)
	}
	data := []byte("content")
	if _, err := blob.Write(data); err != nil {
		t.Fatal(err)
	}
	sum, _, err := v1.SHA256(strings.NewReader("other"))
	if err != nil {
		t.Fatal(err)
	}
	part, err := s.Partial(ctx, v1.Descriptor{Digest: sum, Size: 5})
	if err != nil {
		t.Fatal(err)
	}
	defer part.Close()
	if _, err := part.Write([]byte("other")); err != nil {
		t.Fatal(err)
	}
	lock, err := s.lockStore(t.Context(), exclusive)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.unlock()
	time.AfterFunc(100*time.Millisecond, func() { cancel(stop) })
	for what, wait := range map[string]func() error{
		"commit":  func() error { return blob.Commit(digest.FromBytes(data), int64(len(data))) },
		"partial": part.Commit,
		"has":     func() error { _, err := s.Has(ctx, digest.FromBytes(data)); return err },
		"put":     func() error { return s.PutImage(ctx, "y", testImage(t, nil, 2, 1000)) },
		"remove":  func() error { return s.Remove(ctx, "x") },
		"prune":   func() error { _, err := s.Prune(ctx, PruneOptions{}); return err },
		"image":   func() error { _, err := s.Image(ctx, "x"); return err },
	} {
		if err := wait(); !errors.Is(err, stop) && !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
