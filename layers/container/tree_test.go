package container

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"

	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/registry/manifest"
)

// storedLayer is a layer whose blob can be read at any offset, as those of a store.
type storedLayer struct {
	desc   v1.Descriptor
	diffID v1.Hash
	blob   []byte
	opened *atomic.Int32
}

func (l *storedLayer) Digest() (v1.Hash, error)            { return l.desc.Digest, nil }
func (l *storedLayer) DiffID() (v1.Hash, error)            { return l.diffID, nil }
func (l *storedLayer) Size() (int64, error)                { return int64(len(l.blob)), nil }
func (l *storedLayer) MediaType() (types.MediaType, error) { return l.desc.MediaType, nil }
func (l *storedLayer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.blob)), nil
}
func (l *storedLayer) Uncompressed() (io.ReadCloser, error) { return nil, errors.New("not asked for") }
func (l *storedLayer) OpenBlob() (manifest.Blob, error) {
	l.opened.Add(1)
	return &memoryBlob{bytes.NewReader(l.blob), l.opened}, nil
}

type memoryBlob struct {
	*bytes.Reader
	opened *atomic.Int32
}

func (b *memoryBlob) Close() error { b.opened.Add(-1); return nil }

// memoryIndexes keeps indexes in memory.
type memoryIndexes struct {
	mu   sync.Mutex
	kept map[digest.Digest][]byte
}

func newIndexes() *memoryIndexes { return &memoryIndexes{kept: map[digest.Digest][]byte{}} }

func (m *memoryIndexes) Index(d digest.Digest) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.kept[d]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func (m *memoryIndexes) PutIndex(_ context.Context, d digest.Digest, write func(io.Writer) error) error {
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept[d] = b.Bytes()
	return nil
}

// imageOf packs trees as the layers of an image: each holds what changed since the one before.
func imageOf(t *testing.T, opened *atomic.Int32, trees ...*layers.Tree) v1.Image {
	t.Helper()
	image := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	before := layers.NewTree()
	for _, tree := range trees {
		change, err := layers.Changes(t.Context(), before, tree)
		if err != nil {
			t.Fatal(err)
		}
		var blob bytes.Buffer
		packed, err := layers.Pack(t.Context(), &blob, change, layers.PackOptions{Compression: layers.DefaultCompression()})
		if err != nil {
			t.Fatal(err)
		}
		sum, err := v1.NewHash(packed.Digest.String())
		if err != nil {
			t.Fatal(err)
		}
		diffID, err := v1.NewHash(packed.DiffID.String())
		if err != nil {
			t.Fatal(err)
		}
		layer := &storedLayer{v1.Descriptor{Digest: sum, MediaType: types.MediaType(packed.MediaType)}, diffID, blob.Bytes(), opened}
		if image, err = mutate.AppendLayers(image, layer); err != nil {
			t.Fatal(err)
		}
		before = tree
	}
	return image
}

func twoTrees(t *testing.T) (first, second *layers.Tree) {
	t.Helper()
	e := layers.NewTree().Edit(layers.Timespec{Sec: 1})
	if err := errors.Join(e.WriteFile("etc/old", []byte("old"), 0o644), e.WriteFile("etc/kept", []byte("kept"), 0o600), e.Link("etc/kept", "link")); err != nil {
		t.Fatal(err)
	}
	first = e.Tree()
	if err := errors.Join(e.Remove("etc/old"), e.WriteFile("etc/new", []byte("new"), 0o644)); err != nil {
		t.Fatal(err)
	}
	return first, e.Tree()
}

func TestOpenAppliesLayersAndKeepsIndexes(t *testing.T) {
	first, second := twoTrees(t)
	var opened atomic.Int32
	image, indexes := imageOf(t, &opened, first, second), newIndexes()
	for _, round := range []string{"without indexes", "with indexes"} {
		tree, err := Open(t.Context(), image, indexes, Options{})
		if err != nil {
			t.Fatal(round, err)
		}
		differences, err := layers.Diff(t.Context(), second, tree.Tree)
		if err != nil || len(differences) > 0 {
			t.Errorf("%s: %v, %v", round, differences, err)
		}
		if len(indexes.kept) != 2 {
			t.Errorf("%s: %d indexes are kept", round, len(indexes.kept))
		}
		if err := tree.Close(); err != nil || opened.Load() != 0 {
			t.Errorf("%s: %d blobs stay open, %v", round, opened.Load(), err)
		}
	}
}

func TestABrokenIndexIsMadeAgain(t *testing.T) {
	first, second := twoTrees(t)
	var opened atomic.Int32
	image, indexes := imageOf(t, &opened, first, second), newIndexes()
	open := func() *Tree {
		tree, err := Open(t.Context(), image, indexes, Options{})
		if err != nil {
			t.Fatal(err)
		}
		return tree
	}
	open().Close()
	var good []byte
	for d, data := range indexes.kept {
		good = data
		indexes.kept[d] = data[:len(data)/2]
	}
	tree := open()
	defer tree.Close()
	if data, err := tree.ReadFile("etc/new", 100); string(data) != "new" {
		t.Errorf("read %q, %v", data, err)
	}
	for d, data := range indexes.kept {
		if len(data) < len(good)/2 {
			t.Errorf("the index of %s stayed broken", d)
		}
	}
}

func TestALayerThatIsNotWhatItsDigestSaysIsRefused(t *testing.T) {
	first, second := twoTrees(t)
	var opened atomic.Int32
	image := imageOf(t, &opened, first, second)
	all, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	blob := all[0].(*storedLayer).blob
	blob[len(blob)/2] ^= 1
	if _, err := Open(t.Context(), image, newIndexes(), Options{}); err == nil || !strings.Contains(err.Error(), "sha256:") {
		t.Errorf("error is %v", err)
	}
	if opened.Load() != 0 {
		t.Errorf("%d blobs stay open", opened.Load())
	}
}

func TestLayersWithoutABlobAreSpooled(t *testing.T) {
	first, second := twoTrees(t)
	var opened atomic.Int32
	inner := imageOf(t, &opened, first, second)
	all, err := inner.Layers()
	if err != nil {
		t.Fatal(err)
	}
	image := empty.Image
	for _, l := range all {
		stored := l.(*storedLayer)
		tar, err := layers.ReadLayer(t.Context(), &memoryBlob{bytes.NewReader(stored.blob), new(atomic.Int32)}, layers.ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if image, err = mutate.AppendLayers(image, &plainLayer{stored, tar}); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := Open(t.Context(), image, nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if data, err := tree.ReadFile("etc/new", 100); string(data) != "new" {
		t.Errorf("read %q, %v", data, err)
	}
}

// plainLayer is a layer that gives only its tar, as podman's storage does.
type plainLayer struct {
	stored *storedLayer
	layer  *layers.Layer
}

func (l *plainLayer) Digest() (v1.Hash, error)            { return l.stored.Digest() }
func (l *plainLayer) DiffID() (v1.Hash, error)            { return l.stored.DiffID() }
func (l *plainLayer) Size() (int64, error)                { return l.stored.Size() }
func (l *plainLayer) MediaType() (types.MediaType, error) { return l.stored.MediaType() }
func (l *plainLayer) Compressed() (io.ReadCloser, error)  { return nil, errors.New("not kept") }
func (l *plainLayer) Uncompressed() (io.ReadCloser, error) {
	var b bytes.Buffer
	_, err := layers.Pack(context.Background(), &b, l.layer, layers.PackOptions{Compression: layers.Compression{Algorithm: layers.None}})
	return io.NopCloser(&b), err
}
