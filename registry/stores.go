// Package registry finds, fetches, keeps and sends containers for the commands: it ties the local store, podman's storage, archives and
// registries together behind one [Client] and one [Store] interface.
package registry

import (
	"context"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"

	"github.com/imgbuild/imgbuild/registry/manifest"
	"github.com/imgbuild/imgbuild/registry/podman"
	"github.com/imgbuild/imgbuild/registry/store"
)

// Errors that callers tell apart.
var (
	// ErrNotFound says that a name, blob or index is in none of the places where it was looked for. It is [fs.ErrNotExist] too.
	ErrNotFound = store.ErrNotFound
	// ErrInvalid says that a container breaks its format or is not what its digest says.
	ErrInvalid = manifest.ErrInvalid
	// ErrNoBlob says that a store does not keep the blob of a layer as it was, so that the layer has to be read through the image.
	ErrNoBlob = errors.New("the blob is not kept as such")
)

// Entry is one name of a store.
type Entry = store.Entry

// PruneReport says what was pruned.
type PruneReport = store.PruneReport

// Blob is the bytes of a layer as they are stored, at any offset.
type Blob = manifest.Blob

// Store is where containers lie on this machine: our own layout or podman's storage.
type Store interface {
	// Place says which store it is: its directory, or "containers-storage".
	Place() string
	// List returns all names in order.
	List(ctx context.Context) ([]Entry, error)
	// Image returns the container of a name, "latest" if it has no tag; the error is [ErrNotFound] if there is none. It can be read
	// until the store is closed.
	Image(ctx context.Context, name string) (v1.Image, error)
	// Update makes a new container of a name out of the old one, which is nil if there is none; others that want to change the same
	// name wait meanwhile. If fn returns nil or old, nothing changes.
	Update(ctx context.Context, name string, fn func(ctx context.Context, old v1.Image) (v1.Image, error)) error
	// KeepsBlobs reports whether layers are kept as the blobs they came as. Where they are not, compressing a new one is a waste.
	KeepsBlobs() bool
	// NewBlob starts the blob of a layer.
	NewBlob(ctx context.Context) (BlobWriter, error)
	// Blob opens a layer's blob, as its image describes it. The error is [ErrNotFound] if the store has not this one.
	Blob(d digest.Digest) (Blob, error)
	// Index opens what PutIndex stored beside a layer; [ErrNotFound] if there is nothing.
	Index(d digest.Digest) (io.ReadCloser, error)
	// PutIndex stores what write writes beside the layer of the given digest. It goes when the layer goes.
	PutIndex(ctx context.Context, d digest.Digest, write func(io.Writer) error) error
	// Tag gives a container a further name.
	Tag(ctx context.Context, old, name string) error
	// Remove takes a name away; [ErrNotFound] if there is no such name.
	Remove(ctx context.Context, name string) error
	// Prune removes what no name leads to and nobody uses.
	Prune(ctx context.Context) (PruneReport, error)
	// Close ends the use of the store and of all images from it.
	Close() error
}

// Packed says what the blob of a layer is.
type Packed struct {
	Digest, DiffID digest.Digest // of the blob and of the uncompressed tar
	Size, TarSize  int64         // of the same, in bytes
	MediaType      string
}

// BlobWriter writes the blob of a layer into a store. Of Commit and Abort the first alone has an effect.
type BlobWriter interface {
	io.Writer
	// Commit makes what was written a layer, which images can be made of. The digests are the caller's word.
	Commit(ctx context.Context, packed Packed) (v1.Layer, error)
	// Abort throws away what was written.
	Abort()
}

// layoutStore makes a [store.Store] a [Store].
type layoutStore struct{ *store.Store }

func (s layoutStore) Place() string { return s.Dir() }

func (layoutStore) KeepsBlobs() bool { return true }

func (s layoutStore) NewBlob(ctx context.Context) (BlobWriter, error) {
	w, err := s.Store.NewBlob(ctx)
	if err != nil {
		return nil, err
	}
	return layerWriter{w, s.Store}, nil
}

func (s layoutStore) Prune(ctx context.Context) (PruneReport, error) {
	return s.Store.Prune(ctx, store.PruneOptions{})
}

type layerWriter struct {
	*store.BlobWriter
	store *store.Store
}

func (w layerWriter) Commit(_ context.Context, packed Packed) (v1.Layer, error) {
	desc, diffID, err := describe(packed)
	if err != nil {
		w.Abort()
		return nil, err
	}
	if err := w.BlobWriter.Commit(packed.Digest, packed.Size); err != nil {
		return nil, err
	}
	return w.store.Layer(desc, diffID), nil
}

// podmanStore makes a [podman.Store] a [Store].
type podmanStore struct{ *podman.Store }

func (podmanStore) KeepsBlobs() bool { return false }

func (s podmanStore) NewBlob(ctx context.Context) (BlobWriter, error) {
	w, err := s.Store.NewBlob(ctx)
	if err != nil {
		return nil, err
	}
	return &podmanWriter{BlobWriter: w}, nil
}

type podmanWriter struct {
	*podman.BlobWriter
	committed bool
}

func (w *podmanWriter) Commit(_ context.Context, packed Packed) (v1.Layer, error) {
	desc, diffID, err := describe(packed)
	if err != nil {
		w.Abort()
		return nil, err
	}
	layer, err := w.Layer(desc, diffID)
	if err != nil {
		w.Abort()
		return nil, err
	}
	w.committed = true
	return layer, nil
}

func (w *podmanWriter) Abort() {
	if !w.committed {
		w.BlobWriter.Abort()
	}
}

func describe(packed Packed) (v1.Descriptor, v1.Hash, error) {
	sum, err := v1.NewHash(packed.Digest.String())
	if err != nil {
		return v1.Descriptor{}, v1.Hash{}, fmt.Errorf("storing a layer: %w", err)
	}
	diffID, err := v1.NewHash(packed.DiffID.String())
	if err != nil {
		return v1.Descriptor{}, v1.Hash{}, fmt.Errorf("storing a layer: %w", err)
	}
	return v1.Descriptor{MediaType: types.MediaType(packed.MediaType), Digest: sum, Size: packed.Size}, diffID, nil
}
