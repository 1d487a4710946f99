package rpm

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"path"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
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
	if dir == "" || !hasProgram(opts.Tree, "rpm") || !hasProgram(opts.Tree, "rpmdb") || !hasProgram(opts.Tree, "sh") {
		return nil
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

// hasProgram reports whether a tree has a program.
func hasProgram(tree *layers.Tree, name string) bool {
	for _, dir := range []string{"usr/bin", "bin", "usr/sbin", "sbin"} {
		if _, node, err := tree.Resolve(dir + "/" + name); err == nil && node.IsRegular() && node.Mode&0o111 != 0 {
			return true
		}
	}
	return false
}
