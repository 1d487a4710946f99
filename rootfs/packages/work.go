package packages

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// Work is what the sessions of package managers have in common: what they were opened with, a directory of their own, and what they have installed.
type Work struct {
	Options
	// Dir is the session's directory on this machine.
	Dir string

	manager   string
	installed map[string]Package
}

// Begin makes the directory of a session of a package manager, and directories in it.
func Begin(manager string, opts Options, dirs ...string) (*Work, error) {
	dir, err := os.MkdirTemp(opts.Workdir, "."+manager+"-")
	if err != nil {
		return nil, fmt.Errorf("making a directory for %s: %w", manager, err)
	}
	w := &Work{Options: opts, Dir: dir, manager: manager, installed: map[string]Package{}}
	err = os.Chmod(dir, 0o755)
	for _, name := range dirs {
		err = errors.Join(err, os.MkdirAll(filepath.Join(dir, name), 0o755))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("preparing %s: %w", manager, err), w.Close())
	}
	return w, nil
}

// Close removes what the session has on this machine.
func (w *Work) Close() error {
	if err := os.RemoveAll(w.Dir); err != nil {
		return fmt.Errorf("removing the files of %s: %w", w.manager, err)
	}
	return nil
}

// Installed are the packages that the session has installed, in order of their names.
func (w *Work) Installed() []Package {
	return slices.SortedFunc(maps.Values(w.installed), func(a, b Package) int { return strings.Compare(a.String(), b.String()) })
}

// Record takes down packages that were installed. Where a tree can't have two versions of one, a newer one takes an older one's place.
func (w *Work) Record(list []Package, severalVersions bool) {
	for _, p := range list {
		key := p.Name
		if severalVersions {
			key = p.String()
		}
		p.Listed = p.Listed || w.installed[key].Listed
		w.installed[key] = p
	}
}

// Own reports whether packages come from the repositories that the root tree is set up with, because the description has none.
func (w *Work) Own() bool { return w.Repositories == nil || len(w.Repositories.List) == 0 }

// Secrets are what the output of programs must not show.
func (w *Work) Secrets() []string {
	if w.Repositories == nil {
		return nil
	}
	return w.Repositories.Secrets
}

// Output makes an output for a program; see [NewOutput].
func (w *Work) Output(title string, line func(string)) *Output {
	return NewOutput(w.Log, title, w.Secrets(), line)
}

// Show lets a program see the session's directory as inside, and the repositories with their keys.
func (w *Work) Show(spec *sandbox.Spec, inside string) {
	spec.Redact, spec.Log = w.Secrets(), w.Log
	spec.Binds = append(spec.Binds, sandbox.Bind{Source: w.Dir, Target: inside})
	if w.Repositories != nil {
		spec.Binds = append(spec.Binds, w.Repositories.Binds...)
		spec.Files = append(spec.Files, w.Repositories.Files...)
	}
}

// Place is where a package manager runs.
type Place struct {
	Run  func(ctx context.Context, spec sandbox.Spec) error
	Root string // the root tree there, "" for /
}

// Elsewhere is the place outside of the root tree.
func (w *Work) Elsewhere() Place { return Place{w.Outside, TargetDir} }

// Find returns the root tree as it is now, and the place where a program runs that has one of these paths in it: there, if the tree has it.
func (w *Work) Find(ctx context.Context, paths ...string) (Place, *layers.Tree, error) {
	tree, err := w.Tree(ctx)
	if err != nil {
		return Place{}, nil, err
	}
	for _, path := range paths {
		if _, node, err := tree.Resolve(path); err == nil && node.IsRegular() {
			return Place{Run: w.Inside}, tree, nil
		}
	}
	return w.Elsewhere(), tree, nil
}

// LeaveOut says what of a description a package manager has no use for.
func (w *Work) LeaveOut(what string, list []description.Package) {
	for _, p := range list {
		w.Log.Warn(w.manager+" knows no "+what+"s: it is left out", "at", p.Pos.String(), what, p.Name)
	}
}

// SomeNames lists the first few names.
func SomeNames(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
