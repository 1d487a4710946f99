package system

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/imgbuild/imgbuild/rootfs"
)

// PrepareOptions says which root tree to make.
type PrepareOptions struct {
	Options
	// Root is the directory that the root tree becomes.
	Root string
	// AllowExistingRoot starts from the root tree in Root, if there is one. An error leaves it as it was.
	AllowExistingRoot bool
}

// Prepared is what [Prepare] and [Update] made.
type Prepared struct {
	// Root is the root tree.
	Root string `json:"root"`
	// Packages is how many packages were installed.
	Packages int `json:"packages"`
}

// Prepare makes a root tree as the description wants it, up to and with config.sh, for [Create].
func Prepare(ctx context.Context, opts PrepareOptions) (*Prepared, error) {
	j, err := newJob(opts.Options, opts.AllowExistingRoot)
	if err != nil {
		return nil, err
	}
	prepared, err := j.prepare(ctx, opts)
	return prepared, errors.Join(err, j.close())
}

func (j *job) prepare(ctx context.Context, opts PrepareOptions) (*Prepared, error) {
	if j.image == nil {
		return nil, errors.New("preparing a root tree: no description given")
	}
	work, err := workplaceOf(opts.Root)
	if err != nil {
		return nil, err
	}
	existing, err := work.occupied()
	switch {
	case err != nil:
		return nil, err
	case existing && !opts.AllowExistingRoot:
		return nil, fmt.Errorf("preparing %s: %w: there is something in it; give another directory, or --allow-existing-root to go on from it", opts.Root, ErrInUse)
	}
	from := ""
	if existing {
		from = opts.Root
	}
	if err := j.start(ctx, from); err != nil {
		return nil, err
	}
	return j.makeTree(ctx, opts.Root, work, func() (*rootfs.Result, error) { return j.overlay(ctx, nil, rootfs.Prepare, work.unpackTo()) })
}

// makeTree makes a root tree, by this name, in a workplace.
func (j *job) makeTree(ctx context.Context, root string, work *workplace, change func() (*rootfs.Result, error)) (*Prepared, error) {
	err := inWorkplace(ctx, work, []*job{j}, func() error {
		result, err := change()
		if err != nil {
			return err
		}
		return j.leaveTree(ctx, result, work)
	})
	if err != nil {
		return nil, err
	}
	return &Prepared{Root: root, Packages: len(j.used.Packages)}, nil
}

// openTree starts from a root tree that was prepared, and from its description, for the profiles and the type that it was prepared for unless
// others are chosen.
func (j *job) openTree(ctx context.Context, root string) error {
	if err := j.scan(ctx, root); err != nil {
		return err
	}
	if made := j.known.Image; made.Name != "" {
		if len(j.Selection.Profiles) == 0 {
			j.Selection.Profiles = made.Profiles
		}
		if j.Selection.Type == "" && len(j.Types) == 0 {
			j.Selection.Type = made.Type
		}
		if j.Selection.Arch == "" {
			j.Selection.Arch = made.Arch
		}
	}
	return j.loadFromTree(j.tree, filepath.Clean(root), "give a root tree that 'imgbuild prepare' has made")
}
