package rootfs

import (
	"context"
	"fmt"
	"slices"

	"github.com/imgbuild/imgbuild/description"
)

// Update changes the packages of a tree that was prepared before, with its initial RAM disks. If the description asks for packages that the tree lacks, or to remove some
// that it has, that is done; else all packages are brought up to what the repositories have. No script of the description runs.
func Update(ctx context.Context, request Request) (*Result, error) {
	o := newOverlay(request)
	return o.do(ctx, []func(context.Context) error{o.updatePackages, o.initrds, o.cleanUp, o.labels})
}

// updatePackages adds and removes packages or, where there is nothing to add or remove, updates all.
func (o *overlay) updatePackages(ctx context.Context) error {
	tree, err := o.work.current(ctx)
	if err != nil {
		return err
	}
	if err := o.checkTree(tree); err != nil {
		return err
	}
	// What was removed at the end of the preparation is not wanted back.
	removed := slices.Concat(o.Description.Packages.Uninstall, o.Description.Packages.Delete)
	set := allPackages(o.Description)
	set.Packages = slices.DeleteFunc(set.Packages, func(p description.Package) bool { return slices.Contains(description.Names(removed), p.Name) })
	set.Collections, set.Products = nil, nil
	wanted, err := missing(tree, set)
	if err != nil {
		return err
	}
	unwanted, err := present(tree, removed)
	if err != nil {
		return err
	}
	if len(wanted.Packages)+len(unwanted) > 0 {
		if err := o.install(ctx, wanted); err != nil {
			return err
		}
		return o.removePackages(ctx)
	}
	session, err := o.packages(ctx)
	if err != nil {
		return err
	}
	o.ran = append(o.ran, "update of all packages")
	o.installed = true
	if err := session.Update(ctx); err != nil {
		return fmt.Errorf("updating packages: %w", err)
	}
	return nil
}
