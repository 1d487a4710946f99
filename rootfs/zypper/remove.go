package zypper

import (
	"context"
	"fmt"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/rpm"
	"github.com/imgbuild/imgbuild/rootfs/scripts"
)

// Uninstall removes packages with what depends on them and with what was only installed for them.
func (s *Session) Uninstall(ctx context.Context, list []description.Package) error {
	names, err := s.present(ctx, list)
	if err != nil || len(names) == 0 {
		return err
	}
	p, err := s.removalPlace(ctx)
	if err != nil {
		return fmt.Errorf("removing packages: %w", err)
	}
	task := s.Progress.Start("removing packages", 0, progress.Items)
	_, err = s.run(ctx, p, request{
		globals: []string{"--no-refresh", "--disable-repositories"}, command: append([]string{"remove", "--clean-deps", "--force-resolution", "--"}, names...),
		set: description.PackageSet{Packages: list}, noNetwork: true,
	})
	task.Done(err)
	if err != nil {
		return fmt.Errorf("removing packages: %w", err)
	}
	return nil
}

// removalPlace is where packages are removed: as where they are installed, but no repository is needed.
func (s *Session) removalPlace(ctx context.Context) (place, error) {
	tree, err := s.Tree(ctx)
	if err != nil {
		return place{}, err
	}
	if scripts.FindProgram(tree, "zypper") != "" {
		return s.place(ctx)
	}
	return s.outsideOf(tree), nil
}

// Delete removes packages by force: nothing else, whatever depends on them, and without running their scripts.
func (s *Session) Delete(ctx context.Context, list []description.Package) error {
	names, err := s.present(ctx, list)
	if err != nil || len(names) == 0 {
		return err
	}
	tree, err := s.Tree(ctx)
	if err != nil {
		return fmt.Errorf("deleting packages: %w", err)
	}
	p, args := s.outsideOf(tree), []string{"rpm", "--root", packages.TargetDir}
	if scripts.FindProgram(tree, "rpm") != "" {
		p.run, p.root, args = s.Inside, "", []string{"rpm"}
	}
	task := s.Progress.Start("deleting packages", 0, progress.Items)
	out := s.Output("rpm", nil)
	spec := s.base(p, append(args, append([]string{"-e", "--nodeps", "--allmatches", "--noscripts", "--"}, names...)...)...)
	spec.Title, spec.NoNetwork, spec.Stdout, spec.Stderr = "rpm -e", true, out, out
	err = p.run(ctx, spec)
	out.Flush()
	task.Done(err)
	if err != nil {
		return fmt.Errorf("deleting packages: %w", out.Failed(err))
	}
	return nil
}

// outsideOf is a place outside of a root tree.
func (s *Session) outsideOf(tree *layers.Tree) place {
	p := place{run: s.Outside, root: packages.TargetDir, dbpath: rpm.DatabasePath(tree, rpm.SystemPath), kind: "outside"}
	if s.Arch != "" && s.Arch != rpm.Machine() {
		p.arch = s.Arch
	}
	return p
}

// present returns the names of those packages of a list that are installed.
func (s *Session) present(ctx context.Context, list []description.Package) ([]string, error) {
	tree, err := s.Tree(ctx)
	if err != nil {
		return nil, fmt.Errorf("looking for packages to remove: %w", err)
	}
	return rpm.Present(tree, list, s.Log)
}
