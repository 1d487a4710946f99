// Package container turns a container's image into a tree: it reads each layer once, keeps what it learnt as the index beside the layer, and
// applies the layers in order.
package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/imgbuild/imgbuild/internal/spool"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/registry/manifest"
)

// Indexes keeps the index beside each layer. The stores do.
type Indexes interface {
	// Index opens the index of a layer; any error means that there is none of use.
	Index(d digest.Digest) (io.ReadCloser, error)
	// PutIndex keeps the index of a layer.
	PutIndex(ctx context.Context, d digest.Digest, write func(io.Writer) error) error
}

// DeltaLabel is the label of a container whose layers are only what it differs in from another one: that one's digest.
const DeltaLabel = "io.imgbuild.delta.base"

// Options says how layers are read. The zero value is fine.
type Options struct {
	Base  *layers.Tree       // that the layers change; nil is an empty one
	Read  layers.ReadOptions // bounds; digests are filled in
	Early *Early             // has layers that were just pulled; may be nil
	Log   *slog.Logger       // told of indexes that could not be kept; nil for nowhere
}

// Tree is an image's root tree, with the blobs that its contents lie in.
type Tree struct {
	*layers.Tree
	mu    sync.Mutex
	blobs []io.Closer
}

// Close closes the blobs. The tree's contents can't be opened any longer.
func (t *Tree) Close() error {
	var errs []error
	for _, b := range t.blobs {
		errs = append(errs, b.Close())
	}
	t.blobs = nil
	return errors.Join(errs...)
}

// Open returns the root tree of an image. Indexes may be nil: then every layer is read. The caller closes the tree.
func Open(ctx context.Context, img v1.Image, indexes Indexes, opts Options) (*Tree, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	all, err := img.Layers()
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	if len(config.RootFS.DiffIDs) != len(all) {
		return nil, fmt.Errorf("reading the container: %w: its config names %d layers and its manifest %d", manifest.ErrInvalid, len(config.RootFS.DiffIDs), len(all))
	}
	tree := &Tree{}
	changes := make([]*layers.Layer, len(all))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, layer := range all {
		group.Go(func() (err error) {
			changes[i], err = tree.readLayer(groupCtx, layer, digest.Digest(config.RootFS.DiffIDs[i].String()), indexes, opts)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, errors.Join(err, tree.Close())
	}
	if opts.Base == nil {
		opts.Base = layers.NewTree()
	}
	if tree.Tree, err = layers.Apply(opts.Base, changes...); err != nil {
		return nil, errors.Join(err, tree.Close())
	}
	return tree, nil
}

// readLayer returns one layer by its index, or by reading it.
func (t *Tree) readLayer(ctx context.Context, layer v1.Layer, diffID digest.Digest, indexes Indexes, opts Options) (*layers.Layer, error) {
	hash, err := layer.Digest()
	if err != nil {
		return nil, err
	}
	sum := digest.Digest(hash.String())
	if change, blob := opts.Early.take(sum, diffID); change != nil {
		t.keep(blob)
		t.putIndex(ctx, change, indexes, opts.Log)
		return change, nil
	}
	var blob manifest.Blob
	if stored, ok := layer.(manifest.BlobLayer); ok {
		blob, err = stored.OpenBlob()
	} else { // its bytes as they are stored can't be had: the tar has no index
		indexes, sum = nil, ""
		blob, err = keepTar(ctx, layer)
	}
	if err != nil {
		return nil, fmt.Errorf("reading layer %s: %w", hash, err)
	}
	t.keep(blob)
	if indexes != nil {
		if change := fromIndex(sum, diffID, blob, indexes, opts.Log); change != nil {
			return change, nil
		}
	}
	read := opts.Read
	read.Digest, read.DiffID, read.Spool = sum, diffID, true
	change, err := layers.ReadLayer(ctx, blob, read)
	if err != nil {
		return nil, err
	}
	if indexes != nil {
		t.putIndex(ctx, change, indexes, opts.Log)
	}
	return change, nil
}

// keep leaves a blob open until Close.
func (t *Tree) keep(blob io.Closer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.blobs = append(t.blobs, blob)
}

// putIndex keeps what was learnt of a layer.
func (t *Tree) putIndex(ctx context.Context, l *layers.Layer, indexes Indexes, log *slog.Logger) {
	err := indexes.PutIndex(ctx, l.Digest, func(w io.Writer) error { return layers.EncodeIndex(w, l) })
	if err != nil && ctx.Err() == nil {
		log.Warn("the index of a layer could not be kept; the layer will be read again next time", "layer", l.Digest, "error", err)
	}
}

// fromIndex returns a layer by its index, or nil if there is none of use.
func fromIndex(sum, diffID digest.Digest, blob manifest.Blob, indexes Indexes, log *slog.Logger) *layers.Layer {
	index, err := indexes.Index(sum)
	if err != nil {
		return nil
	}
	defer index.Close()
	change, err := layers.DecodeIndex(index, blob)
	if err != nil || change.Digest != sum || change.DiffID != diffID {
		log.Info("the index of a layer is of no use; reading the layer again", "layer", sum, "error", err)
		return nil
	}
	return change
}

// keepTar writes a layer's tar into a file without a name.
func keepTar(ctx context.Context, layer v1.Layer) (manifest.Blob, error) {
	r, err := layer.Uncompressed()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	f, err := spool.Copy(ctx, "", r)
	if err != nil { // and not a nil pointer in an interface
		return nil, err
	}
	return f, nil
}
