package rootfs

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/apt"
	"github.com/imgbuild/imgbuild/rootfs/dpkg"
	"github.com/imgbuild/imgbuild/rootfs/initrd"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
	"github.com/imgbuild/imgbuild/rootfs/scripts"
)

// InstalledPackages returns the packages of a tree, sorted by name; none if it has no package database that is known here.
func InstalledPackages(tree *layers.Tree) ([]dpkg.Package, error) { return dpkg.Installed(tree) }

// FindKernels returns the kernels of a tree, the newest version last.
func FindKernels(tree *layers.Tree) []initrd.Kernel { return initrd.FindKernels(tree) }

// bootstrapPackages installs the bootstrap packages by themselves, if a script is to run before all others.
func (o *overlay) bootstrapPackages(ctx context.Context) error {
	tree, err := o.work.current(ctx)
	if err != nil {
		return err
	}
	if !scripts.Has(tree, scripts.PostBootstrap) {
		return nil
	}
	return o.install(ctx, o.Description.Packages.Bootstrap)
}

// systemPackages installs all packages that are not there yet.
func (o *overlay) systemPackages(ctx context.Context) error {
	if list := o.Description.Packages.System.Collections; len(list) > 0 && o.Description.PackageManager == "apt" {
		o.note("apt has no collections; these were left out: " + strings.Join(description.Names(list), ", "))
	}
	return o.install(ctx, allPackages(o.Description))
}

// allPackages is the bootstrap packages and the system's as one set.
func allPackages(image *description.Image) description.PackageSet {
	all := image.Packages.System
	all.Packages = append(slices.Clone(image.Packages.Bootstrap.Packages), all.Packages...)
	return all
}

// missing returns the packages of a set that the tree lacks.
func missing(tree *layers.Tree, set description.PackageSet) ([]description.Package, error) {
	installed, err := dpkg.Installed(tree)
	if err != nil {
		return nil, err
	}
	names := dpkg.Missing(installed, description.Names(set.Packages))
	ignored := description.Names(set.Ignore)
	var wanted []description.Package
	for _, p := range set.Packages {
		if i := slices.Index(names, p.Name); i >= 0 && !slices.Contains(ignored, p.Name) {
			wanted = append(wanted, p)
			names = slices.Delete(names, i, i+1)
		}
	}
	return wanted, nil
}

// checkManager refuses packages that nothing here can install.
func checkManager(image *description.Image, tree *layers.Tree, packages []description.Package) error {
	if image.PackageManager != "apt" {
		return image.Errorf("packagemanager", "add a container that has them to the stack, or use apt",
			"packages (%s) are to be installed with %s, which is not supported yet", someNames(packages), image.PackageManager)
	}
	there, writable := dpkg.HasDatabase(tree)
	switch {
	case there && !writable:
		return packages[0].Errorf("", "start from a container with dpkg and apt, such as debian:12",
			"the root tree has no package manager (it is a distroless container), so %s can't be installed", someNames(packages))
	case !there:
		return packages[0].Errorf("", "start from a container with dpkg and apt, such as debian:12",
			"the root tree has no dpkg database, so %s can't be installed", someNames(packages))
	}
	return nil
}

// someNames lists a few packages.
func someNames(packages []description.Package) string {
	const most = 5
	names := description.Names(packages)
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// install installs the packages of a set that are missing.
func (o *overlay) install(ctx context.Context, set description.PackageSet) error {
	tree, err := o.work.current(ctx)
	if err != nil {
		return err
	}
	wanted, err := missing(tree, set)
	if err != nil || len(wanted) == 0 {
		return err
	}
	session, err := o.packages(ctx, tree, wanted)
	if err != nil {
		return err
	}
	o.ran = append(o.ran, "installation of "+someNames(wanted))
	o.installed = true
	return session.Install(ctx, wanted, set.PlusRecommended)
}

// packages returns the session that packages are installed and removed with.
func (o *overlay) packages(ctx context.Context, tree *layers.Tree, wanted []description.Package) (*apt.Session, error) {
	if o.session != nil {
		return o.session, nil
	}
	if err := checkManager(o.Description, tree, wanted); err != nil {
		return nil, err
	}
	scratch, err := o.scratchDir()
	if err != nil {
		return nil, err
	}
	o.session, err = apt.Open(ctx, apt.Options{
		Image: o.Description, Files: o.source, Tree: tree, Run: o.programRun, Workdir: scratch, Cache: o.PackageCache, Progress: o.Progress, Log: o.Log,
	})
	return o.session, err
}

// removePackages removes what the description wants away, if it is there.
func (o *overlay) removePackages(ctx context.Context) error {
	for _, removal := range []struct {
		what     string
		packages []description.Package
		remove   func(*apt.Session, context.Context, []description.Package) error
	}{
		{"removal", o.Description.Packages.Uninstall, (*apt.Session).Uninstall},
		{"deletion", o.Description.Packages.Delete, (*apt.Session).Delete},
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
		session, err := o.packages(ctx, tree, there)
		if err != nil {
			return err
		}
		o.ran = append(o.ran, removal.what+" of "+someNames(there))
		o.installed = true
		if err := removal.remove(session, ctx, there); err != nil {
			return err
		}
	}
	return nil
}

// present returns the packages of a list that the tree has.
func present(tree *layers.Tree, list []description.Package) ([]description.Package, error) {
	installed, err := dpkg.Installed(tree)
	if err != nil {
		return nil, err
	}
	var there []description.Package
	for _, p := range list {
		if slices.ContainsFunc(installed, func(i dpkg.Package) bool { return i.Name == p.Name || i.Name+":"+i.Architecture == p.Name }) {
			there = append(there, p)
		}
	}
	return there, nil
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
