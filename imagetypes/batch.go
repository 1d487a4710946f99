package imagetypes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/imagetypes/results"
	"github.com/imgbuild/imgbuild/rootfs/database"
)

// CheckTogether refuses image types whose images would have one and the same name.
func CheckTogether(list []*description.Image) error {
	made := map[string]*description.Image{}
	for _, d := range list {
		t, err := Lookup(d.Type.Image)
		if err != nil {
			return d.Type.Errorf("image", "", "%v", err)
		}
		name := results.BaseName(d) + "." + t.Extension
		if other := made[name]; other != nil {
			return d.Type.Errorf("image", "build one of them by itself, with --type "+t.Name+" into another directory",
				"the image types %s, at %s, and %s both make a file %s", other.Type.Image, other.Type.At("image"), t.Name, name)
		}
		made[name] = d
	}
	return nil
}

// Batch are images that are built in one pass, each of another type. Nothing appears in the target directory under its final name before all of
// them are complete.
type Batch struct {
	staging *results.Staging
	mu      sync.Mutex
	parts   []results.Part

	findings database.Findings // that the lists of the images have in common
}

// Create builds one image and puts it with its lists into the target directory of the options.
func Create(ctx context.Context, o CreateOptions) (made *Results, err error) {
	batch, err := Begin(o.TargetDir, 1)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, batch.Discard()) }()
	if err := batch.Build(ctx, 0, o); err != nil {
		return nil, err
	}
	return batch.Publish(ctx, nil)
}

// Begin begins a batch of so many images, whose results go into a directory that is made if it is missing. The caller discards it.
func Begin(target string, images int) (*Batch, error) {
	staging, err := results.Stage(target)
	if err != nil {
		return nil, err
	}
	return &Batch{staging: staging, parts: make([]results.Part, images)}, nil
}

// Discard removes what was built and not published.
func (b *Batch) Discard() error { return b.staging.Discard() }

// Build builds the image of the given rank among the results, with its lists: packages, changes and verification. It is safe for concurrent use.
func (b *Batch) Build(ctx context.Context, rank int, o CreateOptions) error {
	r, t, err := o.request()
	if err != nil {
		return err
	}
	if r, err = r.Filled(); err != nil {
		return err
	}
	if err := t.Builder.Check(ctx, r); err != nil {
		return err
	}
	r.Dir = filepath.Join(b.staging.Dir, t.Name)
	if err := os.Mkdir(r.Dir, 0o755); err != nil {
		return fmt.Errorf("making a directory for results: %w", err)
	}
	builder := t.Builder
	if preparing, ok := builder.(image.Preparing); ok {
		if r, builder, err = preparing.Prepare(ctx, r); err != nil {
			return err
		}
	}
	artifacts, err := b.build(ctx, r, builder, o.Settings)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.staging.Progress = r.Progress // one display shows all images
	b.parts[rank] = results.Part{Type: t.Name, Dir: r.Dir, Artifacts: artifacts, Naming: results.NamingOf(r.Description)}
	return nil
}

// build runs the builder, and makes the lists meanwhile.
func (b *Batch) build(ctx context.Context, r *image.Request, builder image.Builder, settings Settings) ([]image.Artifact, error) {
	lists, err := results.NewPackageLists(r.Tree, &b.findings, r.Log, settings.NoChanges)
	if err != nil {
		return nil, err
	}
	observing, ok := builder.(image.Observing)
	together := ok && observing.Observes(r)
	if together {
		r.Observe = lists.Observe
	}
	var images []image.Artifact
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		images, err = builder.Build(groupCtx, r)
		return err
	})
	if together {
		group.Go(func() error { return lists.ReadLarge(groupCtx) })
	} else {
		group.Go(func() error { return lists.Finish(groupCtx) })
	}
	err = group.Wait()
	switch {
	case err != nil && together:
		_ = lists.Finish(groupCtx) // which is done, so that it only ends
		return nil, err
	case err != nil:
		return nil, err
	case together:
		if err := lists.Finish(ctx); err != nil {
			return nil, err
		}
	}
	if err := settings.allow(r.Dir, images); err != nil {
		return nil, err
	}
	written, err := lists.Write(ctx, r.Dir, r.BaseName)
	return slices.Concat(images, written), err
}

// allow refuses files that are too large.
func (s Settings) allow(dir string, files []image.Artifact) error {
	for _, f := range files {
		if s.MaxSize == 0 || f.File == "" {
			continue
		}
		info, err := os.Stat(filepath.Join(dir, f.File))
		if err != nil {
			return fmt.Errorf("completing a result: %w", err)
		}
		if info.Size() > s.MaxSize {
			return &TooLargeError{f.File, info.Size(), s.MaxSize}
		}
	}
	return nil
}

// Container returns the container that was built, nil if there is none: [image.ContainerOptions] ask for it. Its layers lie in the batch.
func (b *Batch) Container() *image.Container {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.parts {
		for _, a := range p.Artifacts {
			if a.Container != nil {
				return a.Container
			}
		}
	}
	return nil
}

// Publish puts all images into the target directory, with their lists, the results' list and digests, and further files. It ends the batch.
func (b *Batch) Publish(ctx context.Context, extra []Extra) (*Results, error) {
	further := results.Part{Dir: b.staging.Dir}
	for _, e := range extra {
		if err := os.WriteFile(filepath.Join(further.Dir, e.Name), e.Data, 0o644); err != nil {
			return nil, err
		}
		further.Artifacts = append(further.Artifacts, image.Artifact{File: e.Name})
	}
	for i, p := range b.parts { // a container may be for a registry alone
		b.parts[i].Artifacts = slices.DeleteFunc(p.Artifacts, func(a image.Artifact) bool { return a.File == "" })
	}
	files, err := b.staging.Publish(ctx, append(b.parts, further)...)
	if err != nil {
		return nil, err
	}
	return &Results{Files: files}, nil
}
