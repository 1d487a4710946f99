package rpm

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"path"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
	"github.com/imgbuild/imgbuild/rootfs/scripts"
)

// SettleOptions are what Settle works with.
type SettleOptions struct {
	// Tree is the root tree as it is now.
	Tree *layers.Tree
	// Inside runs a program of the root tree in it.
	Inside func(ctx context.Context, spec sandbox.Spec) error
	Log    *slog.Logger
}

// Settle brings a database that another system's rpm has written to the place and the form that the tree's own rpm wants. A tree without rpm
// stays as it is.
func Settle(ctx context.Context, opts SettleOptions) error {
	dir, file := Find(opts.Tree)
	if dir == "" {
		return nil
	}
	for _, program := range []string{"rpm", "rpmdb", "sh"} {
		if scripts.FindProgram(opts.Tree, program) == "" {
			return nil
		}
	}
	var answer bytes.Buffer
	spec := sandbox.Spec{Args: []string{"rpm", "--eval", "%{_dbpath}\n%{?_db_backend}"}, Stdout: &answer, NoNetwork: true, Log: opts.Log}
	if err := opts.Inside(ctx, spec); err != nil {
		return fmt.Errorf("asking the root tree's rpm for its database: %w", err)
	}
	lines := strings.Split(answer.String()+"\n", "\n")
	wanted, backend := lines[0], strings.TrimSpace(lines[1])
	if !path.IsAbs(wanted) {
		return fmt.Errorf("asking the root tree's rpm for its database: it answers %q", wanted)
	}
	here, _, err := opts.Tree.Resolve(dir)
	if err != nil {
		return fmt.Errorf("finding the package database: %w", err)
	}
	there, _, err := opts.Tree.Resolve(wanted)
	moves := err != nil || there != here
	if moves {
		opts.Log.Debug("the package database moves", "from", "/"+here, "to", wanted)
		const move = `set -e; mkdir -p "$2"; cp -a "$1/." "$2/"; rm -rf "$1"`
		spec := sandbox.Spec{Args: []string{"sh", "-c", move, "sh", "/" + here, wanted}, NoNetwork: true, Log: opts.Log, Title: "moving the package database"}
		if err := opts.Inside(ctx, spec); err != nil {
			return fmt.Errorf("moving the package database to %s: %w", wanted, err)
		}
	}
	forms := map[string]string{"sqlite": "rpmdb.sqlite", "ndb": "Packages.db", "bdb": "Packages"}
	if want, known := forms[backend]; known && want != file {
		opts.Log.Debug("the package database is written anew", "form", backend)
		if err := opts.Inside(ctx, sandbox.Spec{Args: []string{"rpmdb", "--rebuilddb"}, NoNetwork: true, Log: opts.Log}); err != nil {
			return fmt.Errorf("writing the package database anew: %w", err)
		}
	}
	return nil
}

// ReadableOptions are what CheckReadable works with.
type ReadableOptions struct {
	Tree *layers.Tree
	// Run runs a program elsewhere, which finds the root tree in the directory Root.
	Run  func(ctx context.Context, spec sandbox.Spec) error
	Root string
	Log  *slog.Logger
}

// CheckReadable makes sure that the rpm of another system can read the tree's database: one that can't would take the tree for empty and begin a
// second database. SQLite's form is known to every rpm since 2020, and not looked at.
func CheckReadable(ctx context.Context, opts ReadableOptions) error {
	dir, file := Find(opts.Tree)
	if dir == "" || file == "rpmdb.sqlite" {
		return nil
	}
	packages, err := Installed(opts.Tree)
	if err != nil {
		return err
	}
	var answer bytes.Buffer
	spec := sandbox.Spec{Args: []string{"rpm", "--root", opts.Root, "-qa", "--qf", ".\n"}, Stdout: &answer, NoNetwork: true, Log: opts.Log}
	Configure(&spec, Macros("/"+dir, description.RPMSettings{}, nil))
	if err := opts.Run(ctx, spec); err != nil {
		return fmt.Errorf("asking rpm for the packages of the root tree: %w", err)
	}
	if found := strings.Count(answer.String(), ".\n"); found != len(packages) {
		return fmt.Errorf("the root tree's package database /%s/%s has %d packages, and the rpm that works on it from outside finds %d: it does not know this form; give a builder container of the tree's own distribution (--builder NAME)",
			dir, file, len(packages), found)
	}
	return nil
}
