package podman

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	"go.podman.io/storage"

	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/internal/spool"
	"github.com/imgbuild/imgbuild/registry/manifest"
	"github.com/imgbuild/imgbuild/registry/store"
)

// ownKey marks the images that imgbuild made, for Prune.
const ownKey = "imgbuild"

// PutImage stores an image and gives it a name, in the place of what had it before.
func (s *Store) PutImage(ctx context.Context, name string, img v1.Image) error {
	return s.Update(ctx, name, func(context.Context, v1.Image) (v1.Image, error) { return img, nil })
}

// Update makes a new container of a name out of the old one, which is nil if there is none. Other imgbuilds that want to change the same name wait
// meanwhile. If fn returns nil or old, nothing changes.
func (s *Store) Update(ctx context.Context, name string, fn func(ctx context.Context, old v1.Image) (v1.Image, error)) error {
	full := fullName(name)
	unlock, err := s.lockName(ctx, full)
	if err != nil {
		return err
	}
	defer unlock()
	var old v1.Image
	switch was, err := s.find(full); {
	case err == nil:
		if old, err = s.view(was); err != nil {
			return fmt.Errorf("reading the container %s: %w", name, err)
		}
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	img, err := fn(ctx, old)
	if err != nil || img == nil || img == old {
		return err
	}
	if err := s.putImage(ctx, full, img); err != nil {
		return fmt.Errorf("storing the container %s in podman's storage: %w", name, err)
	}
	return nil
}

// lockName takes the lock of a name. The library's locks can't be told to stop waiting, so a goroutine waits.
func (s *Store) lockName(ctx context.Context, name string) (unlock func(), err error) {
	locker, err := s.store.GetDigestLock(digest.FromString("imgbuild " + name))
	if err != nil {
		return nil, fmt.Errorf("locking %s in podman's storage: %w", name, err)
	}
	locked := make(chan struct{})
	go func() {
		locker.Lock()
		close(locked)
	}()
	select {
	case <-locked:
		return locker.Unlock, nil
	case <-ctx.Done():
		go func() {
			<-locked
			locker.Unlock()
		}()
		return nil, fmt.Errorf("waiting for another imgbuild that works on %s: %w", name, context.Cause(ctx))
	}
}

func (s *Store) putImage(ctx context.Context, name string, img v1.Image) error {
	raw, err := img.RawManifest()
	if err != nil {
		return err
	}
	m, err := manifest.Parse(raw)
	if err != nil {
		return err
	}
	rawConfig, err := img.RawConfigFile()
	if err != nil {
		return err
	}
	config, err := manifest.ParseConfig(rawConfig)
	if err != nil {
		return err
	}
	top, descs, err := s.putLayers(ctx, img, config)
	if err != nil {
		return err
	}
	if raw, err = plainManifest(m, descs); err != nil {
		return err
	}
	if m, err = manifest.Parse(raw); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	id, err := s.createImage(m, raw, rawConfig, config, top)
	if err != nil {
		return err
	}
	return s.store.AddNames(id, []string{name})
}

// createImage makes the image's record as podman does: its id is the digest of its config. One that is there has the same content.
func (s *Store) createImage(m *v1.Manifest, raw, rawConfig []byte, config *v1.ConfigFile, top string) (string, error) {
	id := m.Config.Digest.Hex
	sum := digest.FromBytes(raw)
	_, err := s.store.CreateImage(id, nil, top, "{}", &storage.ImageOptions{
		CreationDate: config.Created.Time,
		Digest:       sum,
		BigData: []storage.ImageBigDataOption{
			{Key: m.Config.Digest.String(), Data: rawConfig, Digest: digest.FromBytes(rawConfig)},
			{Key: storage.ImageDigestManifestBigDataNamePrefix + "-" + sum.String(), Data: raw, Digest: sum},
			{Key: storage.ImageDigestBigDataKey, Data: raw, Digest: sum},
			{Key: ownKey, Data: []byte("1"), Digest: digest.FromString("1")},
		},
	})
	if err != nil && !errors.Is(err, storage.ErrDuplicateID) {
		return "", err
	}
	return id, nil
}

// putLayers stores the layers that are not there yet, and returns the id of the top one and what each is as a plain tar.
func (s *Store) putLayers(ctx context.Context, img v1.Image, config *v1.ConfigFile) (top string, descs []v1.Descriptor, err error) {
	list, err := img.Layers()
	if err != nil {
		return "", nil, err
	}
	if len(list) != len(config.RootFS.DiffIDs) {
		return "", nil, fmt.Errorf("%w: it has %d layers and its config %d", manifest.ErrInvalid, len(list), len(config.RootFS.DiffIDs))
	}
	for i, l := range list {
		diffID := config.RootFS.DiffIDs[i]
		if err := manifest.CheckDigest(diffID); err != nil {
			return "", nil, err
		}
		stored, err := s.putLayer(ctx, l, top, diffID)
		if err != nil {
			return "", nil, fmt.Errorf("storing layer %s: %w", diffID, err)
		}
		top = stored.ID
		size := stored.UncompressedSize
		if size <= 0 {
			if size, err = s.measure(stored.ID); err != nil {
				return "", nil, err
			}
		}
		descs = append(descs, v1.Descriptor{MediaType: types.OCIUncompressedLayer, Digest: diffID, Size: size})
	}
	return top, descs, nil
}

// layerID names a layer as podman does, so that both share layers: the first by its diff id, the others by a digest of the chain.
func layerID(parent string, diffID v1.Hash) string {
	if parent == "" {
		return diffID.Hex
	}
	return digest.FromString(parent + "+" + diffID.Hex).Encoded()
}

func (s *Store) putLayer(ctx context.Context, l v1.Layer, parent string, diffID v1.Hash) (stored *storage.Layer, err error) {
	id := layerID(parent, diffID)
	if stored, err := s.store.Layer(id); err == nil {
		return stored, nil
	}
	r, err := openPlain(l)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	d := digest.Digest(diffID.String())
	task := s.progress.Start("unpacking layer "+diffID.Hex[:12]+" into podman's storage", 0, progress.Bytes)
	defer func() { task.Done(err) }()
	checked := &checkedReader{ctx: ctx, r: progress.Reader(r, task), verifier: d.Verifier()}
	stored, _, err = s.store.PutLayer(id, parent, nil, "", false, &storage.LayerOptions{UncompressedDigest: d}, checked)
	if errors.Is(err, storage.ErrDuplicateID) { // another process was quicker
		stored, err = s.store.Layer(id)
		return stored, err
	}
	if checked.err != nil { // says more than the library does
		err = checked.err
	}
	return stored, err
}

// openPlain opens a layer's tar. One that lies in a storage of podman's itself, on other layers, is copied first: while the library gives a
// layer's tar it holds a lock that it needs for writing.
func openPlain(l v1.Layer) (io.ReadCloser, error) {
	direct, ok := l.(manifest.BlobLayer)
	if !ok {
		return l.Uncompressed()
	}
	blob, err := direct.OpenBlob()
	if err != nil {
		return nil, err
	}
	ours, ok := blob.(*layerBlob)
	if !ok {
		if err := blob.Close(); err != nil {
			return nil, err
		}
		return l.Uncompressed()
	}
	if _, err := ours.keep(); err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(blob, 0, blob.Size()), blob}, nil
}

// checkedReader fails at its end if what was read has another digest.
type checkedReader struct {
	ctx      context.Context
	r        io.Reader
	verifier digest.Verifier
	err      error
}

func (c *checkedReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		c.err = err
		return 0, err
	}
	n, err := c.r.Read(p)
	if n > 0 {
		_, _ = c.verifier.Write(p[:n]) // a hash never fails
	}
	if err == io.EOF && !c.verifier.Verified() {
		err = fmt.Errorf("%w: its content has another digest", manifest.ErrInvalid)
	}
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}

// BlobWriter keeps the blob of a layer until an image is made with it.
type BlobWriter struct {
	f    *os.File
	size int64
}

// NewBlob starts the blob of a layer. The storage unpacks it, so compressing it is a waste.
func (s *Store) NewBlob(context.Context) (*BlobWriter, error) {
	f, err := spool.New("")
	if err != nil {
		return nil, fmt.Errorf("starting a blob: %w", err)
	}
	return &BlobWriter{f: f}, nil
}

// Write implements [io.Writer].
func (w *BlobWriter) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	w.size += int64(n)
	return n, err
}

// Layer returns what was written as a layer, which can be read as long as the process lives.
func (w *BlobWriter) Layer(desc v1.Descriptor, diffID v1.Hash) (v1.Layer, error) {
	if w.size != desc.Size {
		return nil, fmt.Errorf("storing blob %s: %d bytes were written where it should have %d", desc.Digest, w.size, desc.Size)
	}
	f := w.f
	return manifest.NewLayer(desc, diffID, func(v1.Descriptor) (manifest.Blob, error) { return keptBlob{f, desc.Size}, nil }), nil
}

// Abort throws away what was written.
func (w *BlobWriter) Abort() { w.f.Close() }

type keptBlob struct {
	io.ReaderAt
	size int64
}

func (b keptBlob) Size() int64  { return b.size }
func (b keptBlob) Close() error { return nil }

// Tag gives a container a further name, in the place of what had that name before.
func (s *Store) Tag(ctx context.Context, old, name string) error {
	unlock, err := s.lockName(ctx, fullName(name))
	if err != nil {
		return err
	}
	defer unlock()
	img, err := s.find(old)
	if err == nil {
		err = s.store.AddNames(img.ID, []string{fullName(name)})
	}
	if err != nil {
		return fmt.Errorf("tagging %s as %s in podman's storage: %w", old, name, err)
	}
	return nil
}

// Remove takes a name away, and the container with it if it has no other; that fails if a container of podman's runs on it.
func (s *Store) Remove(ctx context.Context, name string) error {
	unlock, err := s.lockName(ctx, fullName(name))
	if err != nil {
		return err
	}
	defer unlock()
	img, err := s.find(name)
	if err != nil {
		return fmt.Errorf("removing %s from podman's storage: %w", name, err)
	}
	if len(img.Names) > 1 {
		err = s.store.RemoveNames(img.ID, []string{fullName(name)})
	} else {
		_, err = s.store.DeleteImage(img.ID, true)
	}
	if err != nil {
		return fmt.Errorf("removing %s from podman's storage: %w", name, err)
	}
	return nil
}

// Prune removes the images that imgbuild made and that have lost their name to a newer one. What podman made is podman's to prune.
func (s *Store) Prune(ctx context.Context) (store.PruneReport, error) {
	var report store.PruneReport
	images, err := s.store.Images()
	if err != nil {
		return report, fmt.Errorf("reading podman's storage: %w", err)
	}
	for i := range images {
		img := &images[i]
		if err := ctx.Err(); err != nil {
			return report, err
		}
		if len(img.Names) > 0 || img.ReadOnly {
			continue
		}
		if mark, err := s.store.ImageBigData(img.ID, ownKey); err != nil || !bytes.Equal(mark, []byte("1")) {
			continue
		}
		gone, err := s.prune(img)
		if errors.Is(err, storage.ErrImageUsedByContainer) {
			s.log.Info("an image without a name is in use by a container of podman's", "image", img.ID)
			continue
		}
		if err != nil {
			return report, fmt.Errorf("pruning podman's storage: %w", err)
		}
		report.Blobs += gone.Blobs
		report.Bytes += gone.Bytes
	}
	return report, nil
}

func (s *Store) prune(img *storage.Image) (store.PruneReport, error) {
	var report store.PruneReport
	layers, err := s.store.DeleteImage(img.ID, false)
	if err != nil {
		return report, err
	}
	for _, id := range layers {
		if l, err := s.store.Layer(id); err == nil {
			report.Bytes += max(l.UncompressedSize, 0)
			report.Blobs++
		}
	}
	if _, err := s.store.DeleteImage(img.ID, true); err != nil {
		return store.PruneReport{}, err
	}
	return report, nil
}
