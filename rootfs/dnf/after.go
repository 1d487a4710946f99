package dnf

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/rpm"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// scriptsFailed decides of a transaction that dnf5 calls failed. Where all of its packages are installed and only scripts failed that run after that, it is none for
// the other programs of the family; dnf5 then has not noted which packages came for others, and is told.
func (s *Session) scriptsFailed(ctx context.Context, t tool, plan packages.Transaction, out *packages.Output) (onlyScripts bool, err error) {
	if out == nil || firstWith(out.Lines(), "Non-critical error in %") == "" {
		return false, nil
	}
	tree, err := s.Tree(ctx)
	if err != nil {
		return false, err
	}
	installed, err := rpm.Installed(tree)
	if err != nil {
		return false, err
	}
	marked := map[bool][]string{} // by whether they were asked for
	for _, p := range plan.Packages {
		if !slices.ContainsFunc(installed, func(i rpm.Package) bool { return i.Name == p.Name && i.EVR() == p.Version && i.Arch == p.Arch }) {
			return false, nil
		}
		marked[p.Listed] = append(marked[p.Listed], p.String())
	}
	for listed, names := range marked {
		reason := map[bool]string{true: "user", false: "dependency"}[listed]
		out, err := s.run(ctx, t, request{command: append([]string{"mark", reason}, names...), noNetwork: true})
		if err != nil && out != nil {
			err = out.Failed(err)
		}
		if err != nil {
			return false, fmt.Errorf("noting why packages were installed: %w", err)
		}
	}
	return true, nil
}

// history is dnf5's database of what it did and when. What it needs to know of the packages is in the text files beside it.
const history = "usr/lib/sysimage/libdnf5/transaction_history.sqlite"

// forget takes dnf5's history out of a tree that had none, where the build is to be reproducible: it has the time of the build in it.
func (s *Session) forget(ctx context.Context, t tool, before *layers.Tree) error {
	if _, _, err := before.Resolve(history); err == nil || t.name != "dnf5" {
		return nil
	}
	const script = `test -z "$SOURCE_DATE_EPOCH" || rm -f "$1" "$1-wal" "$1-shm"`
	args := []string{"sh", "-c", script, "sh", "/" + history}
	if t.outside {
		args[len(args)-1] = targetDir + args[len(args)-1]
	}
	if err := s.runner(t)(ctx, sandbox.Spec{Args: args, NoNetwork: true, Log: s.Log}); err != nil {
		return fmt.Errorf("removing dnf5's history: %w", err)
	}
	return nil
}

// addSizes fills in what the lists of the repositories say of the packages, where the program doesn't.
func (s *Session) addSizes(t tool, plan *packages.Transaction) error {
	wanted := map[[4]string]int{}
	for i, p := range plan.Packages {
		wanted[[4]string{p.Repository, p.Name, p.Version, p.Arch}] = i
	}
	return s.eachList(t, func(alias, dir string) error {
		return rpm.ReadIndex(dir, func(a rpm.Available) {
			i, ok := wanted[[4]string{alias, a.Name, strings.TrimPrefix(a.EVR(), "0:"), a.Arch}]
			if !ok {
				return
			}
			p := &plan.Packages[i]
			p.Download, p.Installed, p.Checksum = a.Download, a.Installed, a.ChecksumType+":"+a.Checksum
		})
	})
}
