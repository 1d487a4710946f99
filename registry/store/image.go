package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/registry/manifest"
)

// FullName returns the name under which the store keeps a container: with the tag "latest" if it has neither a tag nor a digest.
func FullName(name string) string {
	if _, tag := SplitName(name); tag == "" {
		return name + ":latest"
	}
	return name
}

// SplitName splits a name as the store keeps it into what is before the tag or digest, and the tag or digest. The tag is empty if there is none.
func SplitName(name string) (base, tag string) {
	if at := strings.IndexByte(name, '@'); at >= 0 {
		return name[:at], name[at+1:]
	}
	if colon := strings.LastIndexByte(name, ':'); colon > strings.LastIndexByte(name, '/') {
		return name[:colon], name[colon+1:]
	}
	return name, ""
}

func checkName(name string) error {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return fmt.Errorf("%q is no name for a container", name)
	}
	return nil
}

// find returns the index entry of a name.
func (s *Store) find(ctx context.Context, name string) (ispec.Descriptor, error) {
	cas, err := s.reader()
	if err != nil {
		return ispec.Descriptor{}, err
	}
	index, err := cas.GetIndex(ctx)
	if err != nil {
		return ispec.Descriptor{}, err
	}
	for _, desc := range index.Manifests {
		if desc.Annotations[ispec.AnnotationRefName] == name {
			return desc, nil
		}
	}
	return ispec.Descriptor{}, ErrNotFound
}

// Image returns the container of a name; without a tag it is the one tagged "latest". The error is [ErrNotFound] if there is none. Its blobs
// stay until the store is closed, also if the name is removed or changed meanwhile. Its layers are [manifest.BlobLayer]s.
func (s *Store) Image(ctx context.Context, name string) (v1.Image, error) {
	img, err := s.image(ctx, FullName(name))
	if err != nil {
		return nil, fmt.Errorf("reading the container %s in %s: %w", name, s.dir, err)
	}
	return img, nil
}

func (s *Store) image(ctx context.Context, name string) (*manifest.Image, error) {
	// Someone may replace the name and prune between the look into the index and the lease; then the second look finds another.
	var last digest.Digest
	for {
		desc, err := s.find(ctx, name)
		if err != nil {
			return nil, err
		}
		img, err := s.imageOf(ctx, desc)
		if err == nil || desc.Digest == last || !errors.Is(err, ErrNotFound) {
			if errors.Is(err, ErrNotFound) { // the name is there, so this is damage
				err = fmt.Errorf("%w: %s; pull or stash it again", manifest.ErrInvalid, err)
			}
			return img, err
		}
		last = desc.Digest
	}
}

// imageOf reads the image of a manifest that is in the store and takes a lease on its blobs.
func (s *Store) imageOf(ctx context.Context, desc ispec.Descriptor) (*manifest.Image, error) {
	if t := types.MediaType(desc.MediaType); t.IsIndex() {
		return nil, fmt.Errorf("%w: %s is an index of several images, which another tool put here; take one of them", manifest.ErrInvalid, desc.Digest)
	}
	if err := s.holdForReading(ctx, desc.Digest); err != nil {
		return nil, err
	}
	raw, err := s.readMeta(ctx, desc.Digest, desc.Size, manifest.MaxManifestSize)
	if err != nil {
		return nil, err
	}
	m, err := manifest.Parse(raw)
	if err != nil {
		return nil, err
	}
	var blobs []digest.Digest
	for _, d := range append([]v1.Descriptor{m.Config}, m.Layers...) {
		blobs = append(blobs, digest.Digest(d.Digest.String()))
	}
	if err := s.holdForReading(ctx, blobs...); err != nil {
		return nil, err
	}
	config, err := s.readMeta(ctx, blobs[0], m.Config.Size, manifest.MaxConfigSize)
	if err != nil {
		return nil, err
	}
	return manifest.New(raw, config, s.openBlob)
}

// readMeta reads a small blob and checks its digest.
func (s *Store) readMeta(ctx context.Context, d digest.Digest, size, limit int64) ([]byte, error) {
	if err := checkDigest(d); err != nil {
		return nil, err
	}
	if size > limit {
		return nil, fmt.Errorf("reading blob %s: %w: it has %d bytes, more than the %d allowed", d, manifest.ErrInvalid, size, limit)
	}
	blob, err := s.Blob(d)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	if blob.Size() != size {
		return nil, fmt.Errorf("reading blob %s in %s: %w: it has %d bytes where %d are expected", d, s.dir, manifest.ErrInvalid, blob.Size(), size)
	}
	data, err := io.ReadAll(io.NewSectionReader(blob, 0, size))
	if err != nil {
		return nil, fmt.Errorf("reading blob %s: %w", d, err)
	}
	if digest.FromBytes(data) != d {
		return nil, fmt.Errorf("reading blob %s in %s: %w: its content has another digest", d, s.dir, manifest.ErrInvalid)
	}
	return data, ctx.Err()
}

// PutImage writes the blobs of an image that the store does not have, and then gives it the name, in the place of what had it before. A
// manifest in Docker's form is kept in the OCI's, since umoci's garbage collection would throw away the layers of others; its own digest
// stays readable in the annotation [AnnotationSourceDigest].
func (s *Store) PutImage(ctx context.Context, name string, img v1.Image) error {
	return s.Update(ctx, name, func(context.Context, v1.Image) (v1.Image, error) { return img, nil })
}

// AnnotationSourceDigest is the annotation of an index entry that tells the digest its manifest had in Docker's form.
const AnnotationSourceDigest = "org.imgbuild.source.digest"

// Update makes a new container of a name out of the old one. While fn works it has the name to itself: other processes that want to change
// it wait. It gets nil if the name is new. If it returns nil or old itself, nothing changes.
func (s *Store) Update(ctx context.Context, name string, fn func(ctx context.Context, old v1.Image) (v1.Image, error)) error {
	if err := checkName(name); err != nil {
		return err
	}
	full := FullName(name)
	if err := s.prepare(ctx); err != nil {
		return err
	}
	l, err := s.lockName(ctx, full)
	if err != nil {
		return err
	}
	defer l.unlock()
	var old v1.Image
	switch was, err := s.image(ctx, full); {
	case err == nil:
		old = was
	case errors.Is(err, manifest.ErrInvalid):
		s.log.Warn("the container is damaged and is made anew", "name", full, "error", err)
	case !errors.Is(err, ErrNotFound):
		return fmt.Errorf("reading the container %s in %s: %w", full, s.dir, err)
	}
	img, err := fn(ctx, old)
	if err != nil || img == nil || img == old {
		return err
	}
	if err := s.putImage(ctx, full, img); err != nil {
		return fmt.Errorf("storing the container %s in %s: %w", full, s.dir, err)
	}
	return nil
}

func (s *Store) putImage(ctx context.Context, name string, img v1.Image) error {
	own, err := img.RawManifest()
	if err != nil {
		return err
	}
	raw, err := manifest.ToOCI(own)
	if err != nil {
		return err
	}
	m, err := manifest.Parse(raw)
	if err != nil {
		return err
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return err
	}
	if err := s.putLayers(ctx, img, m); err != nil {
		return err
	}
	if err := s.putMeta(ctx, m.Config.Digest, config); err != nil {
		return err
	}
	sum, _, err := v1.SHA256(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	if err := s.putMeta(ctx, sum, raw); err != nil {
		return err
	}
	entry := ispec.Descriptor{MediaType: string(types.OCIManifestSchema1), Digest: digest.Digest(sum.String()), Size: int64(len(raw))}
	if !bytes.Equal(own, raw) {
		entry.Annotations = map[string]string{AnnotationSourceDigest: digest.FromBytes(own).String()}
	}
	return s.setName(ctx, name, entry)
}

func (s *Store) putMeta(ctx context.Context, sum v1.Hash, data []byte) error {
	d := digest.Digest(sum.String())
	if size, ok, err := s.has(ctx, d); err != nil || ok && size == int64(len(data)) {
		return err
	}
	return s.PutBlob(ctx, d, int64(len(data)), bytes.NewReader(data))
}

// putJobs is how many layers are copied at once.
const putJobs = 3

func (s *Store) putLayers(ctx context.Context, img v1.Image, m *v1.Manifest) error {
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	if len(layers) != len(m.Layers) {
		return fmt.Errorf("%w: the image has %d layers where its manifest names %d", manifest.ErrInvalid, len(layers), len(m.Layers))
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(putJobs)
	begun := map[v1.Hash]bool{}
	for i, desc := range m.Layers {
		if begun[desc.Digest] {
			continue
		}
		begun[desc.Digest] = true
		g.Go(func() error { return s.putLayer(ctx, layers[i], desc) })
	}
	return g.Wait()
}

func (s *Store) putLayer(ctx context.Context, layer v1.Layer, desc v1.Descriptor) error {
	d := digest.Digest(desc.Digest.String())
	if size, ok, err := s.has(ctx, d); err != nil || ok && size == desc.Size {
		return err
	}
	r, err := layer.Compressed()
	if err != nil {
		return err
	}
	defer r.Close()
	task := s.progress.Start("storing layer "+d.Encoded()[:12], desc.Size, progress.Bytes)
	err = s.PutBlob(ctx, d, desc.Size, progress.Reader(r, task))
	task.Done(err)
	return err
}
