package podman

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	"go.podman.io/storage"
	"go.podman.io/storage/pkg/archive"

	"github.com/imgbuild/imgbuild/internal/spool"
	"github.com/imgbuild/imgbuild/registry/manifest"
	"github.com/imgbuild/imgbuild/registry/store"
)

// List returns all names in order, without the "localhost/" of those that came from no registry.
func (s *Store) List(ctx context.Context) ([]store.Entry, error) {
	images, err := s.store.Images()
	if err != nil {
		return nil, fmt.Errorf("reading podman's storage: %w", err)
	}
	var entries []store.Entry
	for i := range images {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if len(images[i].Names) == 0 {
			continue
		}
		entry := store.Entry{Digest: images[i].Digest}
		entry.Problem = s.fillEntry(&entry, &images[i])
		for _, name := range images[i].Names {
			e := entry
			e.Name, e.Tag = store.SplitName(shortName(name))
			entries = append(entries, e)
		}
	}
	slices.SortStableFunc(entries, func(a, b store.Entry) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Tag, b.Tag))
	})
	return entries, nil
}

func (s *Store) fillEntry(e *store.Entry, img *storage.Image) error {
	p, err := s.parts(img)
	if err != nil {
		return err
	}
	e.Layers = len(p.layers)
	for _, l := range p.layers {
		e.Size += max(l.UncompressedSize, 0)
	}
	e.Created = p.config.Created.Time
	e.Labels = p.config.Config.Labels
	return nil
}

// parts is what the storage has of an image.
type parts struct {
	manifest  *v1.Manifest
	rawConfig []byte
	config    *v1.ConfigFile
	layers    []*storage.Layer // lowest first
}

func (s *Store) parts(img *storage.Image) (*parts, error) {
	raw, err := s.bigData(img.ID, storage.ImageDigestBigDataKey, manifest.MaxManifestSize)
	if err != nil {
		return nil, err
	}
	var p parts
	if p.manifest, err = manifest.Parse(raw); err != nil {
		return nil, err
	}
	if p.rawConfig, err = s.bigData(img.ID, p.manifest.Config.Digest.String(), manifest.MaxConfigSize); err != nil {
		return nil, err
	}
	if p.config, err = manifest.ParseConfig(p.rawConfig); err != nil {
		return nil, err
	}
	for id := img.TopLayer; id != ""; {
		l, err := s.store.Layer(id)
		if err != nil {
			return nil, fmt.Errorf("reading layer %s in podman's storage: %w", id, err)
		}
		if len(p.layers) == manifest.MaxLayers {
			return nil, fmt.Errorf("reading podman's storage: %w: an image has more than %d layers", manifest.ErrInvalid, manifest.MaxLayers)
		}
		p.layers = append(p.layers, l)
		id = l.Parent
	}
	slices.Reverse(p.layers)
	if n := len(p.config.RootFS.DiffIDs); n != len(p.layers) {
		return nil, fmt.Errorf("reading podman's storage: %w: an image has %d layers and its config %d", manifest.ErrInvalid, len(p.layers), n)
	}
	return &p, nil
}

func (s *Store) bigData(id, key string, limit int64) ([]byte, error) {
	size, err := s.store.ImageBigDataSize(id, key)
	if err == nil && size > limit {
		err = fmt.Errorf("%w: it has %d bytes, more than the %d allowed", manifest.ErrInvalid, size, limit)
	}
	var data []byte
	if err == nil {
		data, err = s.store.ImageBigData(id, key)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s of image %s in podman's storage: %w", key, id, err)
	}
	return data, nil
}

// Image returns the container of a name, "latest" if it has no tag, or of an id if the name is "@ID". Its layers are uncompressed
// [manifest.BlobLayer]s. The error is [store.ErrNotFound] if there is none.
func (s *Store) Image(_ context.Context, name string) (v1.Image, error) {
	img, err := s.find(name)
	if err != nil {
		return nil, fmt.Errorf("reading the container %s in podman's storage: %w", name, err)
	}
	view, err := s.view(img)
	if err != nil {
		return nil, fmt.Errorf("reading the container %s: %w", name, err)
	}
	return view, nil
}

// view makes an image whose layers are the uncompressed tars.
func (s *Store) view(img *storage.Image) (*manifest.Image, error) {
	p, err := s.parts(img)
	if err != nil {
		return nil, err
	}
	ids := map[v1.Hash]string{}
	descs := make([]v1.Descriptor, len(p.layers))
	for i, l := range p.layers {
		diffID := p.config.RootFS.DiffIDs[i]
		if l.UncompressedDigest != "" && l.UncompressedDigest.String() != diffID.String() {
			return nil, fmt.Errorf("reading podman's storage: %w: layer %s is not what the config says", manifest.ErrInvalid, l.ID)
		}
		size := l.UncompressedSize
		if size <= 0 {
			if size, err = s.measure(l.ID); err != nil {
				return nil, err
			}
		}
		descs[i] = v1.Descriptor{MediaType: types.OCIUncompressedLayer, Digest: diffID, Size: size}
		ids[diffID] = l.ID
	}
	raw, err := plainManifest(p.manifest, descs)
	if err != nil {
		return nil, err
	}
	return manifest.New(raw, p.rawConfig, func(desc v1.Descriptor) (manifest.Blob, error) {
		return &layerBlob{store: s, id: ids[desc.Digest], size: desc.Size}, nil
	})
}

// plainManifest returns a manifest in the OCI's form with other layers.
func plainManifest(m *v1.Manifest, layers []v1.Descriptor) ([]byte, error) {
	config := m.Config
	config.MediaType = types.OCIConfigJSON
	raw, err := json.Marshal(v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: config, Layers: layers, Annotations: m.Annotations})
	if err != nil {
		return nil, fmt.Errorf("making a manifest: %w", err)
	}
	return raw, nil
}

// diff opens a layer's tar.
func (s *Store) diff(id string) (io.ReadCloser, error) {
	plain := archive.Uncompressed
	r, err := s.store.Diff("", id, &storage.DiffOptions{Compression: &plain})
	if err != nil {
		return nil, fmt.Errorf("reading layer %s in podman's storage: %w", id, err)
	}
	return &diffReader{r}, nil
}

// diffReader reads on to the end when it is closed. The library's stream must not be closed before: it closes the gzip reader of its metadata
// (pgzip) while another goroutine still reads from that, and then either that goroutine never ends and keeps its 4 MB, or Close never
// returns (v1.64.0, layerStore.Diff; TestReadingEndsEarly).
type diffReader struct{ io.ReadCloser }

// Close implements [io.Closer].
func (r *diffReader) Close() error {
	_, _ = io.Copy(io.Discard, r.ReadCloser) // an error in bytes that nobody asked for; who met it before has been told
	return r.ReadCloser.Close()
}

func (s *Store) measure(id string) (int64, error) {
	r, err := s.diff(id)
	if err != nil {
		return 0, err
	}
	size, err := io.Copy(io.Discard, r)
	return size, errors.Join(err, r.Close())
}

// layerBlob is a layer's tar. It comes as a stream; the first read at an offset copies it into a file without a name.
type layerBlob struct {
	store *Store
	id    string
	size  int64

	mu   sync.Mutex
	kept *spool.File
}

func (b *layerBlob) Size() int64 { return b.size }

// Stream implements [manifest.Streamer].
func (b *layerBlob) Stream() (io.ReadCloser, error) { return b.store.diff(b.id) }

func (b *layerBlob) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("reading layer %s: negative offset", b.id)
	}
	kept, err := b.keep()
	if err != nil {
		return 0, err
	}
	return kept.ReadAt(p, off)
}

func (b *layerBlob) keep() (_ *spool.File, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.kept != nil {
		return b.kept, nil
	}
	r, err := b.store.diff(b.id)
	if err != nil {
		return nil, err
	}
	kept, err := spool.Copy(context.Background(), "", r)
	if err = errors.Join(err, r.Close()); err != nil {
		if kept != nil {
			kept.Close()
		}
		return nil, fmt.Errorf("keeping a layer: %w", err)
	}
	b.kept = kept
	return kept, nil
}

// Close implements [io.Closer].
func (b *layerBlob) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.kept == nil {
		return nil
	}
	f := b.kept
	b.kept = nil
	return f.Close()
}

// layerOf returns the id of a layer by the digest of its tar.
func (s *Store) layerOf(d digest.Digest) (*storage.Layer, error) {
	layers, err := s.store.LayersByUncompressedDigest(d)
	if err != nil && !errors.Is(err, storage.ErrLayerUnknown) {
		return nil, fmt.Errorf("looking for layer %s in podman's storage: %w", d, err)
	}
	if len(layers) == 0 {
		return nil, fmt.Errorf("looking for layer %s in podman's storage: %w", d, store.ErrNotFound)
	}
	return &layers[0], nil
}

// Blob opens the tar of a layer by its digest.
func (s *Store) Blob(d digest.Digest) (manifest.Blob, error) {
	l, err := s.layerOf(d)
	if err != nil {
		return nil, err
	}
	size := l.UncompressedSize
	if size <= 0 {
		if size, err = s.measure(l.ID); err != nil {
			return nil, err
		}
	}
	return &layerBlob{store: s, id: l.ID, size: size}, nil
}

// indexKey is under which the storage keeps a layer's index.
const indexKey = "imgbuild-index"

// Index opens what was stored beside a layer; [store.ErrNotFound] if nothing was.
func (s *Store) Index(d digest.Digest) (io.ReadCloser, error) {
	l, err := s.layerOf(d)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(l.BigDataNames, indexKey) {
		return nil, store.ErrNotFound
	}
	return s.store.LayerBigData(l.ID, indexKey)
}

// PutIndex stores what write writes beside a layer. Where the layer is not in the storage yet nothing is stored, and that is no error: the
// index will be made from the layer.
func (s *Store) PutIndex(_ context.Context, d digest.Digest, write func(io.Writer) error) error {
	l, err := s.layerOf(d)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	var buf bytes.Buffer
	if err := write(&buf); err != nil {
		return err
	}
	if err := s.store.SetLayerBigData(l.ID, indexKey, &buf); err != nil {
		return fmt.Errorf("storing the index of layer %s in podman's storage: %w", d, err)
	}
	return nil
}
