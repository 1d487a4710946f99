// Package zypper installs and removes packages of a root tree with zypper.
//
// It runs in the root tree if that has it, and else outside, with the tree as its install root. Its configuration, repositories, lists and downloads lie outside
// of the tree; what stays in the tree is what belongs there: the rpm database, and libzypp's note of which packages came for others. Packages are
// downloaded first, compared with the lock, and installed without a network. Secrets reach zypper through files that exist in the sandbox's memory only.
package zypper

import (
	"context"
	"fmt"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/rpm"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// Session is zypper at work on one root tree.
type Session struct {
	*packages.Work
	repoFiles []sandbox.File  // made when they are first needed
	ready     bool            // the lists of packages are there
	keyed     map[string]bool // root directories whose rpm knows the keys
}

var _ packages.Session = (*Session)(nil)

// Open prepares a session.
func Open(_ context.Context, opts packages.Options) (packages.Session, error) {
	work, err := packages.Begin("zypper", opts, rawDir, solvDir, packagesDir, logDir)
	if err != nil {
		return nil, err
	}
	return &Session{Work: work, keyed: map[string]bool{}}, nil
}

// Bootstrap installs packages from outside.
func (s *Session) Bootstrap(ctx context.Context, set description.PackageSet) error {
	p, err := s.outside(ctx)
	if err == nil {
		err = s.transact(ctx, p, install(set), set)
	}
	if err == nil {
		err = s.settle(ctx)
	}
	if err != nil {
		return fmt.Errorf("installing the first packages: %w", err)
	}
	return nil
}

// settle brings the database to where the new tree's own rpm looks for it.
func (s *Session) settle(ctx context.Context) error {
	tree, err := s.Tree(ctx)
	if err != nil {
		return err
	}
	return rpm.Settle(ctx, rpm.SettleOptions{Tree: tree, Inside: s.Inside, Log: s.Log})
}

// Install installs packages with the root tree's own zypper, or from outside if it has none.
func (s *Session) Install(ctx context.Context, set description.PackageSet) error {
	p, err := s.place(ctx)
	if err == nil {
		err = s.transact(ctx, p, install(set), set)
	}
	if err != nil {
		return fmt.Errorf("installing packages: %w", err)
	}
	return nil
}

// Update brings all packages up to what the repositories have.
func (s *Session) Update(ctx context.Context) error {
	p, err := s.place(ctx)
	if err == nil {
		err = s.transact(ctx, p, job{verb: "update", doing: "updating packages"}, description.PackageSet{})
	}
	if err != nil {
		return fmt.Errorf("updating packages: %w", err)
	}
	return nil
}

// job is what zypper is asked to do.
type job struct {
	verb  string
	specs []string
	doing string // for people
}

// install is the job of installing a set. Patterns and products are asked for by what their packages provide: every zypper knows that, and not
// only one that makes patterns of packages.
func install(set description.PackageSet) job {
	j := job{verb: "install", specs: description.Names(set.Packages), doing: "installing packages"}
	for _, p := range set.Collections {
		j.specs = append(j.specs, patternSpec(p.Name))
	}
	for _, p := range set.Products {
		j.specs = append(j.specs, productSpec(p.Name))
	}
	return j
}

func patternSpec(name string) string {
	return "pattern() = " + strings.TrimPrefix(name, "pattern:")
}

func productSpec(name string) string {
	return "product() = " + strings.TrimPrefix(name, "product:")
}

// transact downloads what a transaction needs, checks it, and executes it without a network.
func (s *Session) transact(ctx context.Context, p place, j job, set description.PackageSet) error {
	if j.verb == "install" && len(j.specs) == 0 {
		return nil
	}
	if err := s.refresh(ctx, p); err != nil {
		return err
	}
	plan, err := s.download(ctx, p, j, set)
	if err != nil || len(plan.Packages) == 0 {
		return err
	}
	task := s.Progress.Start(fmt.Sprintf("%s: %d packages", j.doing, len(plan.Packages)), int64(len(plan.Packages)), progress.Items)
	_, err = s.run(ctx, p, request{globals: []string{"--no-refresh"}, command: s.command(j, set), set: set, noNetwork: true, line: func(line string) {
		if step().MatchString(line) {
			task.Add(1)
		}
		if strings.Contains(line, "scriptlet failed") {
			s.Log.Warn("a package's script failed", "line", line)
		}
	}})
	task.Done(err)
	if err != nil {
		return err
	}
	s.Record(plan.Packages, true)
	return nil
}

// command is zypper's command for a job.
func (s *Session) command(j job, set description.PackageSet, options ...string) []string {
	args := append([]string{j.verb, "--auto-agree-with-licenses"}, options...)
	if j.verb == "install" {
		weak := "--no-recommends"
		if set.PlusRecommended {
			weak = "--recommends"
		}
		args = append(args, weak)
	}
	return append(append(args, "--"), j.specs...)
}
