package rootfs

import (
	"context"
	"fmt"
	"slices"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/database"
	"github.com/imgbuild/imgbuild/rootfs/initrd"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
	"github.com/imgbuild/imgbuild/rootfs/scripts"
)

// InstalledPackages returns the packages of a tree, sorted by name; none if it has no package database that is known here.
func InstalledPackages(tree *layers.Tree) ([]database.Package, error) {
	db, err := database.Open(tree)
	if err != nil || db == nil {
		return nil, err
	}
	return db.Installed(), nil
}

// FindKernels returns the kernels of a tree, the newest version last.
func FindKernels(tree *layers.Tree) []initrd.Kernel { return initrd.FindKernels(tree) }

// bootstrapPackages gives a tree that has no packages its first ones. To another one it adds the bootstrap packages by themselves if a script is to run before
// all others.
func (o *overlay) bootstrapPackages(ctx context.Context) error {
	tree, err := o.work.current(ctx)
	if err != nil {
		return err
	}
	set := o.Description.Packages.Bootstrap
	db, err := database.Open(tree)
	if err != nil {
		return err
	}
	if db != nil {
		if !scripts.Has(tree, scripts.PostBootstrap) {
			return nil
		}
		return o.install(ctx, set)
	}
	if empty(allPackages(o.Description)) && o.Description.Packages.BootstrapPackage == "" {
		return nil
	}
	if err := checkDatabase(o.Description, tree, db); err != nil {
		return err
	}
	session, err := o.packages(ctx)
	if err != nil {
		return err
	}
	o.ran = append(o.ran, "installation of the first packages")
	o.installed = true
	return session.Bootstrap(ctx, set)
}

// systemPackages installs all packages that are not there yet.
func (o *overlay) systemPackages(ctx context.Context) error {
	return o.install(ctx, allPackages(o.Description))
}

// allPackages is the bootstrap packages and the system's as one set.
func allPackages(image *description.Image) description.PackageSet {
	first, all := image.Packages.Bootstrap, image.Packages.System
	all.Packages = slices.Concat(first.Packages, all.Packages)
	all.Collections = slices.Concat(first.Collections, all.Collections)
	all.Products = slices.Concat(first.Products, all.Products)
	return all
}

// empty reports whether a set has nothing to install.
func empty(set description.PackageSet) bool {
	return len(set.Packages)+len(set.Collections)+len(set.Products) == 0
}

// missing returns what of a set the tree lacks. Whether it has the packages of a collection, only the package manager knows.
func missing(tree *layers.Tree, set description.PackageSet) (description.PackageSet, error) {
	db, err := database.Open(tree)
	if err != nil {
		return set, err
	}
	names := description.Names(set.Packages)
	if db != nil {
		names = db.Missing(names)
	}
	ignored := description.Names(set.Ignore)
	var wanted []description.Package
	for _, p := range set.Packages {
		if i := slices.Index(names, p.Name); i >= 0 && !slices.Contains(ignored, p.Name) {
			wanted = append(wanted, p)
			names = slices.Delete(names, i, i+1)
		}
	}
	set.Packages = wanted
	return set, nil
}

// install installs the packages of a set that are missing.
func (o *overlay) install(ctx context.Context, set description.PackageSet) error {
	tree, err := o.work.current(ctx)
	if err != nil {
		return err
	}
	wanted, err := missing(tree, set)
	if err != nil || empty(wanted) {
		return err
	}
	if err := o.checkTree(tree); err != nil {
		return err
	}
	session, err := o.packages(ctx)
	if err != nil {
		return err
	}
	o.ran = append(o.ran, "installation of "+packages.SomeNames(description.Names(slices.Concat(wanted.Packages, wanted.Collections, wanted.Products))))
	o.installed = true
	return session.Install(ctx, wanted)
}

func (o *overlay) checkTree(tree *layers.Tree) error {
	db, err := database.Open(tree)
	if err != nil {
		return err
	}
	return checkDatabase(o.Description, tree, db)
}

// removePackages removes what the description wants away, if it is there.
func (o *overlay) removePackages(ctx context.Context) error {
	for _, removal := range []struct {
		what     string
		packages []description.Package
		remove   func(packages.Session, context.Context, []description.Package) error
	}{
		{"removal", o.Description.Packages.Uninstall, packages.Session.Uninstall},
		{"deletion", o.Description.Packages.Delete, packages.Session.Delete},
	} {
		tree, err := o.work.current(ctx)
		if err != nil {
			return err
		}
		there, err := present(tree, removal.packages)
		if err != nil {
			return err
		}
		if len(there) == 0 {
			continue
		}
		if err := o.checkTree(tree); err != nil {
			return err
		}
		session, err := o.packages(ctx)
		if err != nil {
			return err
		}
		o.ran = append(o.ran, removal.what+" of "+packages.SomeNames(description.Names(there)))
		o.installed = true
		if err := removal.remove(session, ctx, there); err != nil {
			return err
		}
	}
	return nil
}

// present returns the packages of a list that the tree has.
func present(tree *layers.Tree, list []description.Package) ([]description.Package, error) {
	installed, err := InstalledPackages(tree)
	if err != nil {
		return nil, err
	}
	there := map[string]bool{}
	for _, i := range installed {
		there[i.Name] = true
		there[i.Name+":"+i.Arch] = true
		there[i.Name+"."+i.Arch] = true
	}
	var found []description.Package
	for _, p := range list {
		if there[p.Name] {
			found = append(found, p)
		}
	}
	return found, nil
}

// programRun runs a program that is to be reproducible where that was asked for.
func (o *overlay) programRun(ctx context.Context, spec sandbox.Spec) error {
	spec.Env = append(spec.Env, o.epoch()...)
	return o.work.run(ctx, spec)
}

// program runs a single program of the tree and shows it.
func (o *overlay) program(ctx context.Context, what string, args ...string) (err error) {
	task := o.Progress.Start(what, 0, progress.Items)
	defer func() { task.Done(err) }()
	o.ran = append(o.ran, args[0])
	if err := o.programRun(ctx, sandbox.Spec{Args: args, NoNetwork: true, Log: o.Log}); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
