package system

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/imgbuild/imgbuild/rootfs"
)

// CreateOptions says which root tree to make an image of.
type CreateOptions struct {
	Options
	// Root is a root tree that was prepared. It is not changed: where programs must run in it, they run in a copy.
	Root string
	// TargetDir is where the results appear.
	TargetDir string
}

// Create makes an image of a root tree that was prepared.
func Create(ctx context.Context, opts CreateOptions) (*Built, error) {
	opts.Description = "" // it is the root tree's own
	j, err := newJob(opts.Options, true)
	if err != nil {
		return nil, err
	}
	built, err := j.create(ctx, opts)
	return built, errors.Join(err, j.close())
}

func (j *job) create(ctx context.Context, opts CreateOptions) (*Built, error) {
	if err := j.openTree(ctx, opts.Root); err != nil {
		return nil, err
	}
	if err := j.check(ctx, opts.TargetDir); err != nil {
		return nil, err
	}
	if err := j.openBase(ctx); err != nil {
		return nil, err
	}
	work, err := workplaceOf(filepath.Join(opts.TargetDir, filepath.Dir(RootDir), "create-"+j.image.Type.Image)) // nothing ever has this name
	if err != nil {
		return nil, err
	}
	var built *Built
	err = j.inWorkplace(ctx, work, func() (err error) {
		built, err = j.createIn(ctx, work, opts.TargetDir)
		return err
	})
	if err != nil {
		return nil, err
	}
	return built, nil
}

// createIn makes the image with a copy of the root tree in a workplace.
func (j *job) createIn(ctx context.Context, work *workplace, target string) (*Built, error) {
	result, err := j.overlay(ctx, rootfs.Create, work.unpackTo())
	if err != nil {
		return nil, err
	}
	made, err := j.results(ctx, result, target)
	if err != nil {
		return nil, err
	}
	return &Built{Results: made}, nil
}
