package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imgbuild/imgbuild/registry/manifest"
)

// Entry is one name of the store.
type Entry struct {
	Name    string            // what is before the tag
	Tag     string            // the tag, or the digest of a name that was pulled by digest
	Digest  digest.Digest     // of the manifest
	Source  digest.Digest     // of the manifest in Docker's form that this one was made of, else empty
	Created time.Time         // from the config
	Layers  int               // how many
	Size    int64             // bytes of the layers as they lie in the store
	Labels  map[string]string // from the config
	Problem error             // why the rest can't be told, nil if all is well
}

// FullName returns name and tag as one.
func (e Entry) FullName() string {
	if digest.Digest(e.Tag).Validate() == nil {
		return e.Name + "@" + e.Tag
	}
	return e.Name + ":" + e.Tag
}

// List returns all names in order.
func (s *Store) List(ctx context.Context) ([]Entry, error) {
	cas, err := s.reader()
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	index, err := cas.GetIndex(ctx)
	if err != nil {
		return nil, err
	}
	var entries []Entry
	for _, desc := range index.Manifests {
		name := desc.Annotations[ispec.AnnotationRefName]
		if name == "" {
			continue
		}
		e := Entry{Digest: desc.Digest, Source: digest.Digest(desc.Annotations[AnnotationSourceDigest])}
		e.Name, e.Tag = SplitName(name)
		e.Problem = s.fillEntry(ctx, &e, desc)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		entries = append(entries, e)
	}
	slices.SortStableFunc(entries, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Tag, b.Tag))
	})
	return entries, nil
}

func (s *Store) fillEntry(ctx context.Context, e *Entry, desc ispec.Descriptor) error {
	raw, err := s.readMeta(ctx, desc.Digest, desc.Size, manifest.MaxManifestSize)
	if err != nil {
		return err
	}
	m, err := manifest.Parse(raw)
	if err != nil {
		return err
	}
	e.Layers = len(m.Layers)
	for _, l := range m.Layers {
		e.Size += l.Size
	}
	rawConfig, err := s.readMeta(ctx, digest.Digest(m.Config.Digest.String()), m.Config.Size, manifest.MaxConfigSize)
	if err != nil {
		return err
	}
	config, err := manifest.ParseConfig(rawConfig)
	if err != nil {
		return err
	}
	e.Created = config.Created.Time
	e.Labels = config.Config.Labels
	return nil
}

// setName makes a name lead to a manifest that is in the store. The caller holds the name's lock.
func (s *Store) setName(ctx context.Context, name string, entry ispec.Descriptor) error {
	entry.Annotations = maps.Clone(entry.Annotations)
	if entry.Annotations == nil {
		entry.Annotations = map[string]string{}
	}
	entry.Annotations[ispec.AnnotationRefName] = name
	return s.changeIndex(ctx, func(index *ispec.Index) error {
		if err := s.checkComplete(ctx, entry); err != nil {
			return err
		}
		index.Manifests = slices.DeleteFunc(index.Manifests, func(d ispec.Descriptor) bool {
			return d.Annotations[ispec.AnnotationRefName] == name
		})
		index.Manifests = append(index.Manifests, entry)
		return nil
	})
}

// changeIndex reads the index, lets change work on it and puts it back, under the store's lock.
func (s *Store) changeIndex(ctx context.Context, change func(*ispec.Index) error) error {
	cas, err := s.reader()
	if err != nil {
		return err
	}
	l, err := s.lockStore(ctx, exclusive)
	if err != nil {
		return err
	}
	defer l.unlock()
	index, err := cas.GetIndex(ctx)
	if err != nil {
		return err
	}
	if err := change(&index); err != nil {
		return err
	}
	return cas.PutIndex(ctx, index)
}

// checkComplete makes sure that every blob of an image is there, so that no name ever leads to a broken one. Another tool's garbage
// collection, which knows no leases, may have come in between.
func (s *Store) checkComplete(ctx context.Context, entry ispec.Descriptor) error {
	raw, err := s.readMeta(ctx, entry.Digest, entry.Size, manifest.MaxManifestSize)
	if err != nil {
		return err
	}
	m, err := manifest.Parse(raw)
	if err != nil {
		return err
	}
	for _, desc := range append([]v1.Descriptor{m.Config}, m.Layers...) {
		info, err := os.Stat(s.blobPath(digest.Digest(desc.Digest.String())))
		if err != nil {
			return fmt.Errorf("checking blob %s: %w; did another tool collect garbage in this store? Try again", desc.Digest, err)
		}
		if info.Size() != desc.Size {
			return fmt.Errorf("checking blob %s: %w: it has %d bytes where %d are expected", desc.Digest, manifest.ErrInvalid, info.Size(), desc.Size)
		}
	}
	return nil
}

// Tag gives a container a further name, in the place of what had that name before.
func (s *Store) Tag(ctx context.Context, old, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if _, err := s.Image(ctx, old); err != nil { // a lease, and a check that it is whole
		return err
	}
	if err := s.prepare(ctx); err != nil {
		return err
	}
	l, err := s.lockName(ctx, FullName(name))
	if err != nil {
		return err
	}
	defer l.unlock()
	entry, err := s.find(ctx, FullName(old))
	if err != nil {
		return fmt.Errorf("tagging %s: %w", old, err)
	}
	if err := s.setName(ctx, FullName(name), entry); err != nil {
		return fmt.Errorf("tagging %s as %s: %w", old, name, err)
	}
	return nil
}

// Remove takes a name away. What no other name leads to stays until the next Prune. The error is [ErrNotFound] if there is no such name.
func (s *Store) Remove(ctx context.Context, name string) error {
	full := FullName(name)
	if _, err := s.find(ctx, full); err != nil {
		return fmt.Errorf("removing %s from %s: %w", name, s.dir, err)
	}
	if err := s.prepare(ctx); err != nil {
		return err
	}
	l, err := s.lockName(ctx, full)
	if err != nil {
		return err
	}
	defer l.unlock()
	err = s.changeIndex(ctx, func(index *ispec.Index) error {
		n := len(index.Manifests)
		index.Manifests = slices.DeleteFunc(index.Manifests, func(d ispec.Descriptor) bool {
			return d.Annotations[ispec.AnnotationRefName] == full
		})
		if len(index.Manifests) == n {
			return ErrNotFound
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("removing %s from %s: %w", name, s.dir, err)
	}
	return nil
}
