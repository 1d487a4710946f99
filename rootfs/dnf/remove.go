package dnf

import (
	"context"
	"fmt"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/rpm"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// Uninstall removes packages with what depends on them and with what was only installed for them.
func (s *Session) Uninstall(ctx context.Context, list []description.Package) error {
	if len(list) == 0 {
		return nil
	}
	t, err := s.inside(ctx)
	if err != nil {
		return fmt.Errorf("removing packages: %w", err)
	}
	gone, err := names(list)
	if err != nil {
		return fmt.Errorf("removing packages: %w", err)
	}
	before, err := s.Tree(ctx)
	if err != nil {
		return err
	}
	task := s.Progress.Start("removing packages", 0, progress.Items)
	// What is in the repositories doesn't matter.
	out, err := s.run(ctx, t, request{command: append([]string{"--disablerepo=*", "remove"}, gone...), noNetwork: true})
	if err != nil {
		err = fmt.Errorf("removing packages: %w", s.explain(ctx, t, err, out, description.PackageSet{Packages: list}))
	} else {
		for _, name := range missingNames(out.Lines()) {
			for _, p := range list {
				if p.Name == name {
					s.Log.Warn("a package that is to be removed is not installed", "at", p.Pos.String(), "package", name)
				}
			}
		}
		err = s.forget(ctx, t, before)
	}
	task.Done(err)
	return err
}

// Delete removes packages by force: nothing else, whatever depends on them, and without running their scripts.
func (s *Session) Delete(ctx context.Context, list []description.Package) error {
	tree, err := s.Tree(ctx)
	if err != nil {
		return err
	}
	gone, err := rpm.Present(tree, list, s.Log)
	if err != nil || len(gone) == 0 {
		return err
	}
	task := s.Progress.Start("deleting packages", int64(len(gone)), progress.Items)
	err = s.rpm(ctx, tree, append([]string{"-e", "--nodeps", "--allmatches", "--noscripts", "--"}, gone...)...)
	if err != nil {
		err = fmt.Errorf("deleting packages: %w", err)
	}
	task.Done(err)
	return err
}

// rpm runs rpm in the root tree, or from outside if the tree has none.
func (s *Session) rpm(ctx context.Context, tree *layers.Tree, args ...string) error {
	run := s.Inside
	if _, node, err := tree.Resolve("usr/bin/rpm"); err != nil || !node.IsRegular() {
		if err := s.readable(ctx, tree); err != nil {
			return err
		}
		run = s.Outside
		args = append([]string{"--root", targetDir}, args...)
	}
	out := s.Output("rpm", nil)
	spec := sandbox.Spec{Args: append([]string{"rpm"}, args...), Title: "rpm", NoNetwork: true, Stdout: out, Stderr: out, Log: s.Log}
	rpm.Configure(&spec, s.macros(tree))
	err := run(ctx, spec)
	out.Flush()
	return out.Failed(err)
}
