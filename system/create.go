package system

import (
	"context"
	"errors"

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

// Create makes an image of a root tree that was prepared, or one of each type that is wanted.
func Create(ctx context.Context, opts CreateOptions) (*Built, error) {
	opts.Description = "" // it is the root tree's own
	p, err := newPass(opts.Options, true)
	if err != nil {
		return nil, err
	}
	built, err := p.create(ctx, opts)
	return built, errors.Join(err, p.close())
}

func (p *pass) create(ctx context.Context, opts CreateOptions) (*Built, error) {
	lead := p.lead()
	if err := checkOutside(opts.Root, opts.TargetDir); err != nil {
		return nil, err
	}
	if err := lead.openTree(ctx, opts.Root); err != nil {
		return nil, err
	}
	if err := p.spread(); err != nil {
		return nil, err
	}
	if err := p.check(ctx, opts.TargetDir); err != nil {
		return nil, err
	}
	if err := p.openBases(ctx); err != nil {
		return nil, err
	}
	work, err := workplaceOf(p.createPlace(opts.TargetDir))
	if err != nil {
		return nil, err
	}
	var built *Built
	err = inWorkplace(ctx, work, p.jobs, func() (err error) {
		built, _, err = p.images(ctx, rootfs.Create, work, opts.TargetDir)
		return err
	})
	if err != nil {
		return nil, err
	}
	return built, nil
}
