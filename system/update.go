package system

import (
	"context"
	"errors"

	"github.com/imgbuild/imgbuild/rootfs"
)

// UpdateOptions says which root tree to bring up to date. The packages that the overrides of its options add and delete are added and deleted.
type UpdateOptions struct {
	Options
	// Root is a root tree that was prepared; an error leaves it as it was.
	Root string
}

// Update adds and deletes packages of a root tree, or, if there are none to add or delete, brings all up to what the repositories of its description have.
func Update(ctx context.Context, opts UpdateOptions) (*Prepared, error) {
	opts.Description = "" // it is the root tree's own
	j, err := newJob(opts.Options, true)
	if err != nil {
		return nil, err
	}
	prepared, err := j.update(ctx, opts)
	return prepared, errors.Join(err, j.close())
}

func (j *job) update(ctx context.Context, opts UpdateOptions) (*Prepared, error) {
	work, err := workplaceOf(opts.Root)
	if err != nil {
		return nil, err
	}
	if err := j.openTree(ctx, opts.Root); err != nil {
		return nil, err
	}
	return j.makeTree(ctx, opts.Root, work, func() (*rootfs.Result, error) {
		result, err := rootfs.Update(ctx, j.request(rootfs.Prepare, work.unpackTo()))
		if err != nil {
			return nil, err
		}
		j.used.add(result.Installed)
		j.redescribe = true // what was added and deleted belongs to the description from now on: the next update leaves it so
		return result, nil
	})
}
