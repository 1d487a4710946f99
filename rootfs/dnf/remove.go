package dnf

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/progress"
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
	task := s.opts.Progress.Start("removing packages", 0, progress.Items)
	// What is in the repositories doesn't matter.
	out, err := s.run(ctx, t, request{command: append([]string{"--disablerepo=*", "remove"}, gone...), noNetwork: true})
	if err != nil {
		err = fmt.Errorf("removing packages: %w", s.explain(ctx, t, err, out, description.PackageSet{Packages: list}))
	} else {
		for _, name := range missingNames(out.Lines()) {
			s.opts.Log.Warn("a package that is to be removed is not installed", "package", name)
		}
	}
	task.Done(err)
	return err
}

// Delete removes packages by force: nothing else, whatever depends on them, and without running their scripts.
func (s *Session) Delete(ctx context.Context, list []description.Package) error {
	gone, err := s.present(ctx, list)
	if err != nil || len(gone) == 0 {
		return err
	}
	task := s.opts.Progress.Start("deleting packages", int64(len(gone)), progress.Items)
	err = s.rpm(ctx, nil, append([]string{"-e", "--nodeps", "--allmatches", "--noscripts"}, gone...)...)
	if err != nil {
		err = fmt.Errorf("deleting packages: %w", err)
	}
	task.Done(err)
	return err
}

// present returns those packages of a list that are installed.
func (s *Session) present(ctx context.Context, list []description.Package) ([]string, error) {
	if len(list) == 0 {
		return nil, nil
	}
	wanted, err := names(list)
	if err != nil {
		return nil, fmt.Errorf("deleting packages: %w", err)
	}
	var absent []string
	err = s.rpm(ctx, func(line string) {
		if rest, ok := strings.CutPrefix(line, "package "); ok {
			if name, ok := strings.CutSuffix(rest, " is not installed"); ok {
				absent = append(absent, name)
			}
		}
	}, append([]string{"-q", "--queryformat", "%{NAME}\\n"}, wanted...)...)
	var exit *command.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.Code == len(absent)) {
		return nil, fmt.Errorf("looking for packages to delete: %w", err)
	}
	var found []string
	for _, p := range list {
		if slices.Contains(absent, p.Name) {
			s.opts.Log.Warn("a package that is to be deleted is not installed", "at", p.Pos.String(), "package", p.Name)
			continue
		}
		found = append(found, p.Name)
	}
	return found, nil
}

// rpm runs rpm in the root tree, or from outside if the tree has none.
func (s *Session) rpm(ctx context.Context, line func(string), args ...string) error {
	tree, err := s.opts.Tree(ctx)
	if err != nil {
		return err
	}
	run := s.opts.Inside
	if _, node, err := tree.Resolve("usr/bin/rpm"); err != nil || !node.IsRegular() {
		if err := s.readable(ctx, tree); err != nil {
			return err
		}
		run = s.opts.Outside
		args = append([]string{"--root", targetDir}, args...)
	}
	out := s.output("rpm", line)
	spec := sandbox.Spec{Args: append([]string{"rpm"}, args...), Title: "rpm", NoNetwork: true, Stdout: out, Stderr: out, Log: s.opts.Log}
	rpm.Configure(&spec, s.macros(tree))
	err = run(ctx, spec)
	out.Flush()
	return out.Failed(err)
}
