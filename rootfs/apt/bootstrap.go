package apt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/rootfs/deb"
	"github.com/imgbuild/imgbuild/rootfs/repositories"
)

// base is what every Debian system begins with, as debootstrap's minbase: the packages that all others may take for granted, those of the priority
// required, and apt. Those of the priority important, which debootstrap adds otherwise, come with the packages that are recommended.
func base(set description.PackageSet) []string {
	names := []string{"?essential", "?priority(required)", "apt"}
	if set.PlusRecommended {
		names = append(names, "?priority(important)")
	}
	return names
}

// notInBase is what must not be installed in an empty tree: what the description ignores, and the package that converts an old system to
// one with a merged /usr, which a new one has from the start. apt prefers it to the empty package that says so.
func notInBase(set description.PackageSet) []description.Package {
	const converter = "usrmerge"
	if slices.Contains(description.Names(set.Packages), converter) {
		return set.Ignore
	}
	return append(slices.Clone(set.Ignore), description.Package{Name: converter})
}

// Bootstrap installs packages into an empty tree: first the base, whose packages are unpacked by this program because nothing can run in the tree yet,
// and then with the tree's own apt the packages of the set.
func (s *session) Bootstrap(ctx context.Context, set description.PackageSet) error {
	p, err := s.place(ctx)
	if err != nil {
		return err
	}
	if p == bare {
		if err := s.refresh(ctx, p); err != nil {
			return err
		}
		if s.Image.Packages.BootstrapPackage != "" {
			err = s.unpackRoot(ctx)
		} else {
			err = s.baseSystem(ctx, set)
		}
		if err != nil {
			return err
		}
		if p, err = s.place(ctx); err != nil {
			return err
		}
		if p == bare {
			return errors.New("installing the first packages: the root tree still has no dpkg")
		}
		set.Packages = slices.DeleteFunc(slices.Clone(set.Packages), func(p description.Package) bool {
			_, there := s.installed[p.Name+":"+Architecture(s.Arch)]
			_, forAll := s.installed[p.Name+":all"]
			return there || forAll
		})
	}
	return s.Install(ctx, set)
}

// baseSystem makes a tree in which dpkg and apt run.
func (s *session) baseSystem(ctx context.Context, set description.PackageSet) error {
	t := task{place: bare, list: set.Packages, ignore: notInBase(set), bootstrap: true}
	args := append([]string{"install", recommends(set.PlusRecommended), "--"}, base(set)...)
	downloads, _, err := s.resolve(ctx, t, args...)
	if err != nil {
		return err
	}
	if err := s.fetch(ctx, t, downloads, args...); err != nil {
		return err
	}
	quick, err := s.quicken(ctx, downloads)
	if err != nil {
		return fmt.Errorf("using the package cache %s: %w", s.Cache, err)
	}
	names := make([]string, 0, len(downloads))
	for _, d := range downloads {
		if name := quick[d.File]; name != "" {
			names = append(names, name)
			continue
		}
		name := s.path(d)
		if d.sum() == "" {
			return fmt.Errorf("unpacking %s: its repository tells no SHA-256 of it", d.Package)
		}
		if err := verify(name, d); err != nil {
			return fmt.Errorf("checking %s: %w", d.Package, err)
		}
		names = append(names, name)
	}
	dir, err := s.Unpacked(ctx)
	if err != nil {
		return err
	}
	steps := s.Progress.Start("unpacking the base system", int64(len(names)), progress.Items)
	controls, err := deb.Unpack(ctx, dir, names, deb.Options{MergedUsr: s.mergedUsr(), Paths: s.dpkgOptions(), Unpacked: func() { steps.Add(1) }})
	steps.Done(err)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w (is the directory on a file system that keeps owners and modes?)", err)
		}
		return fmt.Errorf("unpacking the base system: %w", err)
	}
	s.remember(downloads)
	return s.configure(ctx, controls)
}

// mergedUsr reports whether /bin and its like are links in the tree, as in all distributions but old ones.
func (s *session) mergedUsr() bool {
	old := []string{"wheezy", "jessie", "stretch", "precise", "trusty", "xenial", "bionic"}
	return !slices.ContainsFunc(s.Repositories.List, func(r repositories.Repository) bool {
		name, _, _ := strings.Cut(r.Description.Distribution, "-")
		return slices.Contains(old, name)
	})
}

// configure sets up all packages that are unpacked. What they want to run before they are unpacked runs now.
func (s *session) configure(ctx context.Context, controls []*deb.Control) error {
	var script strings.Builder
	script.WriteString("export DPKG_ADMINDIR=/var/lib/dpkg DPKG_ROOT= DPKG_MAINTSCRIPT_NAME=preinst\n")
	for _, c := range controls {
		if _, ok := c.Files["preinst"]; ok {
			fmt.Fprintf(&script, "DPKG_MAINTSCRIPT_PACKAGE=%s DPKG_MAINTSCRIPT_ARCH=%s /var/lib/dpkg/info/%s.preinst install\n", c.Name(), c.Fields["Architecture"], c.InfoName())
		}
	}
	call := func(args ...string) string {
		return command.Cmd{Name: "dpkg", Args: append(s.dpkgOptions(), args...)}.Line() + "\n"
	}
	if slices.ContainsFunc(controls, func(c *deb.Control) bool { return c.Name() == "base-passwd" }) {
		// It makes the users that the other packages' scripts name.
		script.WriteString(call("--force-depends", "--configure", "base-passwd"))
	}
	script.WriteString(call("--configure", "--pending"))
	t := task{title: "setting up the base system", steps: int64(len(controls)), noNetwork: true}
	if err := s.dpkg(ctx, t, s.spec(t, "/bin/sh", "-ec", script.String())); err != nil {
		return fmt.Errorf("setting up the base system: %w", err)
	}
	return nil
}
