package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imgbuild/imgbuild/internal/ctxio"
	"github.com/imgbuild/imgbuild/registry/manifest"
)

// PruneOptions says what Prune removes.
type PruneOptions struct {
	PartialAge time.Duration // parts of blobs that have not grown for this long are removed; 0 means all that nobody is working on
}

// PruneReport says what Prune removed.
type PruneReport struct {
	Blobs    int   // blobs that no name led to
	Indexes  int   // indexes of layers that are gone
	Partials int   // parts of blobs
	Bytes    int64 // how many bytes all that and the leftovers of dead processes had
}

// Prune removes the blobs that no name leads to and no running imgbuild relies on, the indexes of layers that are gone, parts of blobs and
// what dead processes left over. It may run beside others at any time. A damaged container does not stop it; what can still be
// reached of it is kept.
func (s *Store) Prune(ctx context.Context, opts PruneOptions) (PruneReport, error) {
	var report PruneReport
	cas, err := s.reader()
	if errors.Is(err, ErrNotFound) {
		return report, nil
	}
	if err != nil {
		return report, err
	}
	if err := s.prepare(ctx); err != nil {
		return report, err
	}
	l, err := s.lockStore(ctx, exclusive)
	if err != nil {
		return report, err
	}
	defer l.unlock()
	report.Bytes = s.cleanTemp()
	if err := cas.Clean(ctx); err != nil { // what umoci left over
		return report, fmt.Errorf("pruning %s: %w", s.dir, err)
	}
	report.Bytes += s.removeStale(s.path("names"), nil) // locks that nobody holds; who waits for one makes it anew
	s.prunePartials(opts, &report)
	index, err := cas.GetIndex(ctx)
	if err != nil {
		return report, err
	}
	keep, err := s.held()
	if err != nil {
		return report, fmt.Errorf("pruning %s: %w", s.dir, err)
	}
	if err := s.mark(ctx, index.Manifests, keep, 0); err != nil {
		return report, fmt.Errorf("pruning %s: %w", s.dir, err)
	}
	blobs, err := cas.ListBlobs(ctx)
	if err != nil {
		return report, fmt.Errorf("pruning %s: %w", s.dir, err)
	}
	for _, d := range blobs {
		if keep[d] || d.Validate() != nil {
			continue
		}
		if info, err := os.Stat(s.blobPath(d)); err == nil {
			report.Bytes += info.Size()
		}
		if err := cas.DeleteBlob(ctx, d); err != nil {
			return report, fmt.Errorf("pruning %s: %w", s.dir, err)
		}
		report.Blobs++
	}
	s.pruneIndexes(&report)
	s.makeReserve()
	return report, ctx.Err()
}

func (s *Store) prunePartials(opts PruneOptions, report *PruneReport) {
	oldest := time.Now().Add(-opts.PartialAge)
	report.Bytes += s.removeStale(s.path("partial"), func(info os.FileInfo) bool {
		old := !info.ModTime().After(oldest)
		if old {
			report.Partials++
		}
		return old
	})
}

func (s *Store) pruneIndexes(report *PruneReport) {
	entries, err := os.ReadDir(s.path("index"))
	if err != nil {
		return
	}
	for _, e := range entries {
		d := digest.NewDigestFromEncoded(digest.SHA256, e.Name())
		if _, err := os.Stat(s.blobPath(d)); !errors.Is(err, os.ErrNotExist) {
			continue
		}
		if info, err := e.Info(); err == nil && os.Remove(s.path("index", e.Name())) == nil {
			report.Indexes++
			report.Bytes += info.Size()
		}
	}
}

// maxDepth is how deep indexes may lie in each other.
const maxDepth = 8

// mark adds to keep what the descriptors lead to. casext has the same as Walk, which however logs each layer on the standard error, stops at
// the first damage, and knows no manifests in Docker's form.
func (s *Store) mark(ctx context.Context, descs []ispec.Descriptor, keep map[digest.Digest]bool, depth int) error {
	for _, desc := range descs {
		if err := ctx.Err(); err != nil {
			return err
		}
		keep[desc.Digest] = true
		media := types.MediaType(desc.MediaType)
		if !media.IsImage() && !media.IsIndex() {
			continue
		}
		raw, err := s.readMeta(ctx, desc.Digest, desc.Size, manifest.MaxManifestSize)
		if err != nil {
			if errors.Is(err, ErrNotFound) || errors.Is(err, manifest.ErrInvalid) {
				s.log.Warn("a container is damaged", "name", desc.Annotations[ispec.AnnotationRefName], "error", err)
				continue
			}
			return err
		}
		if depth == maxDepth {
			return fmt.Errorf("reading manifest %s: %w: indexes lie in each other more than %d deep", desc.Digest, manifest.ErrInvalid, maxDepth)
		}
		children, err := childrenOf(raw)
		if err != nil {
			s.log.Warn("a container is damaged", "manifest", desc.Digest, "error", err)
			continue
		}
		if err := s.mark(ctx, children, keep, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// childrenOf returns the descriptors that an index or a manifest of either form holds.
func childrenOf(raw []byte) ([]ispec.Descriptor, error) {
	var m struct {
		Config    *ispec.Descriptor  `json:"config"`
		Layers    []ispec.Descriptor `json:"layers"`
		Manifests []ispec.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	children := append(m.Layers, m.Manifests...)
	if m.Config != nil {
		children = append(children, *m.Config)
	}
	return children, nil
}

// Damage is a name of the store that does not lead to a whole container.
type Damage struct {
	Name string
	Err  error
}

// Verify reads every blob that a name leads to and checks its digest. It returns what is damaged.
func (s *Store) Verify(ctx context.Context) ([]Damage, error) {
	entries, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	good := map[digest.Digest]bool{}
	var damage []Damage
	for _, e := range entries {
		if err := s.verifyName(ctx, e.FullName(), good); err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			damage = append(damage, Damage{e.FullName(), err})
		}
	}
	return damage, nil
}

func (s *Store) verifyName(ctx context.Context, name string, good map[digest.Digest]bool) error {
	img, err := s.image(ctx, name)
	if err != nil {
		return err
	}
	m, err := img.Manifest()
	if err != nil {
		return err
	}
	for _, desc := range m.Layers {
		d := digest.Digest(desc.Digest.String())
		if good[d] {
			continue
		}
		blob, err := s.openBlob(desc)
		if err != nil {
			return err
		}
		verifier := d.Verifier()
		_, err = io.Copy(verifier, ctxio.Reader(ctx, io.NewSectionReader(blob, 0, blob.Size())))
		blob.Close()
		if err != nil {
			return fmt.Errorf("reading blob %s: %w", d, err)
		}
		if !verifier.Verified() {
			return fmt.Errorf("reading blob %s: %w: its content has another digest; remove what uses it, prune, and pull or stash it again", d, manifest.ErrInvalid)
		}
		good[d] = true
	}
	return nil
}
