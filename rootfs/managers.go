package rootfs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/apk"
	"github.com/imgbuild/imgbuild/rootfs/apt"
	"github.com/imgbuild/imgbuild/rootfs/database"
	"github.com/imgbuild/imgbuild/rootfs/dnf"
	"github.com/imgbuild/imgbuild/rootfs/dpkg"
	"github.com/imgbuild/imgbuild/rootfs/emulation"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/pacman"
	"github.com/imgbuild/imgbuild/rootfs/repositories"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
	"github.com/imgbuild/imgbuild/rootfs/toolbox"
	"github.com/imgbuild/imgbuild/rootfs/zypper"
)

// kind is a kind of package manager.
type kind struct {
	// database is what the manager keeps in a root tree.
	database database.Kind
	// open starts a session.
	open func(context.Context, packages.Options) (packages.Session, error)
	// write writes into a tree the repositories that the image itself is to have, and says what could not be written.
	write func(*layers.Editor, *repositories.Set, repositories.Change) (notes []string, err error)
	// from is a container to start from that has the manager.
	from string
}

// kinds are the package managers by the name that descriptions give them.
func kinds() map[string]kind {
	return map[string]kind{
		"apk":      {database.APK, apk.Open, apk.WriteRepositories, "alpine"},
		"apt":      {database.DPKG, apt.Open, apt.WriteRepositories, "debian:12"},
		"dnf4":     {database.RPM, dnf.Open, dnf.WriteRepositories, "quay.io/centos/centos:stream9"},
		"dnf5":     {database.RPM, dnf.Open, dnf.WriteRepositories, "fedora:42"},
		"microdnf": {database.RPM, dnf.Open, dnf.WriteRepositories, "registry.access.redhat.com/ubi9/ubi-minimal"},
		"pacman":   {database.Pacman, pacman.Open, pacman.WriteRepositories, "archlinux"},
		"zypper":   {database.RPM, zypper.Open, zypper.WriteRepositories, "opensuse/leap"},
	}
}

// findKind returns the description's package manager.
func findKind(image *description.Image) (kind, error) {
	k, ok := kinds()[image.PackageManager]
	if !ok {
		return kind{}, image.Errorf("packagemanager", "use one of "+strings.Join(slices.Sorted(maps.Keys(kinds())), ", "), "the package manager %s is not known here", image.PackageManager)
	}
	return k, nil
}

// manager is a package manager at work on the tree.
type manager struct {
	packages.Session
	toolbox *toolbox.Toolbox
}

func (m *manager) close() error {
	if m == nil {
		return nil
	}
	return errors.Join(m.Session.Close(), m.toolbox.Close())
}

// packages returns the session that packages are installed and removed with.
func (o *overlay) packages(ctx context.Context) (packages.Session, error) {
	if o.manager == nil {
		scratch, err := o.scratchDir()
		if err != nil {
			return nil, err
		}
		if o.manager, err = o.openManager(ctx, o.work, scratch); err != nil {
			return nil, err
		}
	}
	return o.manager, nil
}

// openManager opens the description's package manager for the tree in a workspace. dir is for temporary files.
func (o *overlay) openManager(ctx context.Context, work *workspace, dir string) (*manager, error) {
	k, err := findKind(o.Description)
	if err != nil {
		return nil, err
	}
	set, err := o.repositories(ctx, dir)
	if err != nil {
		return nil, err
	}
	box := toolbox.Open(toolbox.Options{Builder: o.Builder, Workdir: dir, Progress: o.Progress, Log: o.Log})
	session, err := k.open(ctx, packages.Options{
		Image: o.Description, Repositories: set, Files: o.source, Tree: work.current,
		Inside: func(ctx context.Context, spec sandbox.Spec) error {
			spec.Env = append(spec.Env, o.epoch()...)
			return o.shell(ctx, spec, work.run(ctx, spec))
		},
		Outside: func(ctx context.Context, spec sandbox.Spec) error {
			spec.Env = append(spec.Env, o.epoch()...)
			return work.runWith(ctx, box.Run, spec)
		},
		Unpacked: work.unpacked, Workdir: dir, Cache: o.PackageCache, Offline: o.Offline, Locked: o.Locked, Arch: o.Description.Arch,
		Emulated: o.Description.Arch != "" && !emulation.Native(o.Description.Arch),
		Progress: o.Progress, Log: o.Log,
	})
	if err != nil {
		return nil, errors.Join(err, box.Close())
	}
	return &manager{session, box}, nil
}

// repositories returns the description's repositories, which are looked at once.
func (o *overlay) repositories(ctx context.Context, dir string) (*repositories.Set, error) {
	if o.repos != nil {
		return o.repos, nil
	}
	var err error
	o.repos, err = repositories.Open(ctx, repositories.Options{
		Image: o.Description, Files: o.source, Workdir: dir, Cache: o.PackageCache, OpenBuildService: o.OpenBuildService, Offline: o.Offline,
	})
	return o.repos, err
}

// imageRepositories writes the repositories that the image is to have.
func (o *overlay) imageRepositories(ctx context.Context) (err error) {
	if !slices.ContainsFunc(o.Description.Repositories, func(r description.Repository) bool { return r.ImageInclude || r.ImageOnly }) {
		return nil
	}
	k, err := findKind(o.Description)
	if err != nil {
		return err
	}
	scratch, err := o.scratchDir()
	if err != nil {
		return err
	}
	set, err := o.repositories(ctx, scratch)
	if err != nil {
		return err
	}
	box := toolbox.Open(toolbox.Options{Builder: o.Builder, Workdir: scratch, Progress: o.Progress, Log: o.Log})
	defer func() { err = errors.Join(err, box.Close()) }()
	change := func(r repositories.Repository, name string, data []byte) ([]byte, error) {
		return r.Customize(ctx, repositories.CustomizeOptions{Files: o.source, Run: box.Run, Workdir: scratch, Name: name, Data: data})
	}
	return o.work.edit(ctx, func(edit *layers.Editor) error {
		notes, err := k.write(edit, set, change)
		for _, note := range notes {
			o.note(note)
		}
		return err
	})
}

// checkDatabase refuses a tree whose packages are not those of the description's package manager. A tree without packages must be empty: then it is made from nothing.
func checkDatabase(image *description.Image, tree *layers.Tree, db *database.Database) error {
	k, err := findKind(image)
	if err != nil {
		return err
	}
	switch {
	case db != nil && db.Kind() != k.database:
		return image.Errorf("packagemanager", "name the package manager of the root tree", "the root tree has packages of %s, which %s can't add to", db.Kind(), image.PackageManager)
	case db != nil && k.database == database.DPKG && !writable(tree):
		return fmt.Errorf("installing packages: the root tree has packages of dpkg and no database that could be added to (it is a distroless container); start from a container with apt, such as %s", k.from)
	case db == nil && !bare(tree):
		return fmt.Errorf("installing packages: the root tree is no empty one and has no %s database; start from a container with %s, such as %s", k.database, image.PackageManager, k.from)
	}
	return nil
}

// writable reports whether dpkg can add to a tree's database.
func writable(tree *layers.Tree) bool {
	_, yes := dpkg.HasDatabase(tree)
	return yes
}

// bare reports whether a tree has no system in it yet.
func bare(tree *layers.Tree) bool {
	for _, name := range []string{"usr/bin", "bin", "usr/lib", "lib", "etc/os-release"} {
		if _, _, err := tree.Resolve(name); err == nil {
			return false
		}
	}
	return true
}
