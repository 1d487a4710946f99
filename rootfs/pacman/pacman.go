// Package pacman installs and removes packages of a root tree with pacman.
//
// pacman runs in the root tree if it is there, and else outside, with the tree as its root. Its configuration, its lists of packages, its keyring and its
// downloads lie outside of the tree; what stays in the tree is its database of installed packages. Packages are downloaded first, compared with the lock, and
// installed without a network. Passwords reach pacman in a configuration that exists in the sandbox's memory only.
package pacman

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// Where things lie inside of the sandbox.
const (
	insideDir  = "/run/imgbuild/pacman"           // the session's directory
	insideConf = "/run/imgbuild/pacman-auth.conf" // in memory
	standInDir = "/run/imgbuild/bin"              // comes first in the sandbox's PATH
)

// hookDir is where a tree's own hooks are, besides those of packages.
const hookDir = "/etc/pacman.d/hooks"

// databaseDir is where pacman keeps what it knows, below the root directory: local has the installed packages, sync the lists of the repositories.
const databaseDir = "/var/lib/pacman"

// Session is pacman at work on one root tree.
type Session struct {
	*packages.Work
	sections  []section
	own       string // the tree's own configuration, where the description has no repositories
	lists     []list // of the packages, once they are there
	refreshed bool
	hooks     bool                 // the tree has hooks of its own
	native    description.Tristate // whether there is a pacman outside, once that matters
}

var _ packages.Session = (*Session)(nil)

// Open prepares a session.
func Open(ctx context.Context, opts packages.Options) (packages.Session, error) {
	work, err := packages.Begin("pacman", opts, "sync", "cache", "gnupg", "no-hooks")
	if err != nil {
		return nil, err
	}
	s := &Session{Work: work}
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// prepare fills the session's directory.
func (s *Session) prepare(ctx context.Context) error {
	if err := os.Chmod(filepath.Join(s.Dir, "gnupg"), 0o700); err != nil {
		return fmt.Errorf("preparing pacman: %w", err)
	}
	if s.Own() {
		return s.readOwn(ctx)
	}
	var err error
	if s.sections, err = s.findSections(ctx); err != nil {
		return err
	}
	return s.writeKeyring()
}

// find returns the place where pacman runs once there may be one in the tree.
func (s *Session) find(ctx context.Context) (packages.Place, *layers.Tree, error) {
	p, tree, err := s.Find(ctx, "usr/bin/pacman")
	if err == nil && p.Root == "" && s.elsewhere(ctx) {
		p = s.Elsewhere()
	}
	return p, tree, err
}

// elsewhere reports whether pacman had better run outside although the tree has it: programs of another architecture are slow here.
func (s *Session) elsewhere(ctx context.Context) bool {
	if s.Emulated && s.native == description.Unset {
		s.native = description.False
		if s.Outside(ctx, sandbox.Spec{Args: []string{"pacman", "--version"}, NoNetwork: true, Log: s.Log}) == nil {
			s.native = description.True
		}
	}
	return s.native == description.True
}

// job is one run of pacman.
type job struct {
	title    string                // what errors call it
	args     []string              // after the options that all runs have
	network  bool                  // whether it may use the network
	only     func(s section) bool  // which sections it gets; nil is all
	wanted   []description.Package // to point errors at
	progress progress.Task         // counts the lines that step accepts; nil is none
	step     func(line string) bool
}

// run runs pacman and returns what it printed to its standard output.
func (s *Session) run(ctx context.Context, p packages.Place, j job) (string, error) {
	args := []string{"pacman", "--config", insideConf, "--noconfirm", "--color", "never", "--root", p.Root + "/"}
	secrets := s.Repositories.Secrets
	var answer bytes.Buffer
	complaints := packages.NewOutput(s.Log, "pacman", secrets, nil)
	both := packages.NewOutput(s.Log, "pacman", secrets, func(line string) {
		answer.WriteString(line + "\n")
		if j.progress != nil && j.step(line) {
			j.progress.Add(1)
		}
	})
	err := p.Run(ctx, sandbox.Spec{
		Args: append(args, j.args...), Title: j.title, NoNetwork: !j.network, HostNames: j.network, Redact: secrets, Log: s.Log, Stdout: both, Stderr: complaints,
		Binds: append([]sandbox.Bind{
			{Source: s.Dir, Target: insideDir},
			{Source: filepath.Join(s.Dir, "gnupg"), Target: insideDir + "/gnupg", ReadOnly: true},
			{Source: filepath.Join(s.Dir, "sync"), Target: p.Root + databaseDir + "/sync"},
		}, s.Repositories.Binds...),
		Files: append([]sandbox.File{
			{Path: insideConf, Data: []byte(s.configuration(p, j.only)), Perm: 0o600},
			// The initial RAM disk is made once, at the end.
			{Path: standInDir + "/mkinitcpio", Data: []byte("#!/bin/sh\nexit 0\n"), Perm: 0o755},
		}, s.Repositories.Files...),
	})
	both.Flush()
	complaints.Flush()
	if err != nil {
		return "", s.explain(err, complaints, both.Lines(), j.wanted)
	}
	return answer.String(), nil
}

// within prepares the tree for pacman, does something, and leaves nothing in the tree but what was installed.
func (s *Session) within(ctx context.Context, do func() error) (err error) {
	tree, err := s.Tree(ctx)
	if err != nil {
		return err
	}
	// The lists are shown at a directory of the tree for as long as pacman runs.
	local, lists := packages.TargetDir+databaseDir+"/local", packages.TargetDir+databaseDir+"/sync"
	_, _, noLists := tree.Resolve(databaseDir[1:] + "/sync")
	_, _, noHooks := tree.Resolve(hookDir[1:])
	s.hooks = noHooks == nil
	if _, _, err := tree.Resolve(databaseDir[1:] + "/local"); err != nil || noLists != nil {
		if err := s.tool(ctx, "mkdir", "-p", local, lists); err != nil {
			return fmt.Errorf("preparing the root tree for pacman: %w", err)
		}
	}
	// Nobody else is at work on the tree: a lock is one that its container was made with.
	if _, _, err := tree.Resolve(databaseDir[1:] + "/db.lck"); err == nil {
		if err := s.tool(ctx, "rm", "-f", packages.TargetDir+databaseDir+"/db.lck"); err != nil {
			return fmt.Errorf("preparing the root tree for pacman: %w", err)
		}
	}
	if noLists != nil {
		defer func() {
			if err == nil { // else the tree is of no use any more
				err = s.tool(ctx, "rmdir", lists)
			}
		}()
	}
	return do()
}

// tool runs a program of this machine on the root tree.
func (s *Session) tool(ctx context.Context, args ...string) error {
	return s.Outside(ctx, sandbox.Spec{Args: args, NoNetwork: true, Log: s.Log})
}

// Bootstrap installs packages from outside.
func (s *Session) Bootstrap(ctx context.Context, set description.PackageSet) error {
	return s.install(ctx, s.Elsewhere(), set)
}

// Install installs packages that are not there yet.
func (s *Session) Install(ctx context.Context, set description.PackageSet) error {
	p, _, err := s.find(ctx)
	if err != nil {
		return err
	}
	return s.install(ctx, p, set)
}

// Uninstall removes packages with what depends on them and with what was only installed for them.
func (s *Session) Uninstall(ctx context.Context, list []description.Package) error {
	return s.remove(ctx, "removing packages", "-Rsc", list)
}

// Delete removes packages by force: nothing else, whatever depends on them.
func (s *Session) Delete(ctx context.Context, list []description.Package) error {
	return s.remove(ctx, "deleting packages", "-Rdd", list)
}

// remove removes those of the packages that are installed.
func (s *Session) remove(ctx context.Context, what, option string, wanted []description.Package) error {
	p, tree, err := s.find(ctx)
	if err != nil {
		return err
	}
	there := localVersions(tree)
	names := slices.DeleteFunc(description.Names(wanted), func(name string) bool { return there[name] == "" })
	if len(names) == 0 {
		return nil
	}
	task := s.Progress.Start(what, 0, progress.Items)
	err = s.within(ctx, func() error {
		_, err := s.run(ctx, p, job{
			title: "pacman " + option, args: append([]string{option, "--"}, names...), wanted: wanted, progress: task,
			step: func(line string) bool { return strings.HasPrefix(line, "removing ") },
		})
		return err
	})
	task.Done(err)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// Update brings all packages of the tree up to what the repositories have.
func (s *Session) Update(ctx context.Context) error {
	p, tree, err := s.find(ctx)
	if err != nil {
		return err
	}
	return s.within(ctx, func() error {
		return s.transact(ctx, p, tree, transaction{what: "updating packages", operation: "-Su"})
	})
}

// localVersions are the installed packages of a tree with their versions.
func localVersions(tree *layers.Tree) map[string]string {
	versions := map[string]string{}
	_, dir, err := tree.Resolve(databaseDir[1:] + "/local")
	if err != nil || !dir.IsDir() {
		return versions
	}
	for _, entry := range dir.Names() {
		// NAME-VERSION-RELEASE
		name, release, ok := cutLast(entry, "-")
		name, version, ok2 := cutLast(name, "-")
		if ok && ok2 && dir.Child(entry).IsDir() {
			versions[name] = version + "-" + release
		}
	}
	return versions
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// asMissing reports whether an error says that a program is not installed.
func asMissing(err error) bool {
	var missing *command.MissingError
	return errors.As(err, &missing)
}
