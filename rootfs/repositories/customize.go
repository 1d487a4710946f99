package repositories

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/rootfs/files"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// maxCustomize bounds a script that customizes a repository, and what it makes of the file, in bytes.
const maxCustomize = 4 << 20

// customizeDir is where the script finds the file, inside.
const customizeDir = "/run/imgbuild/customize"

// CustomizeOptions are what Customize works with.
type CustomizeOptions struct {
	// Files has the script.
	Files files.Source
	// Run runs a program: in the root tree, or outside.
	Run func(ctx context.Context, spec sandbox.Spec) error
	// Workdir is an existing directory for temporary files.
	Workdir string
	// Name is the file's name, and Data what the script finds in it. It should have no secrets.
	Name string
	Data []byte
}

// Change lets a repository's customize script, if it has one, change the file that an image is to have of it. It gets the file's name without directories, and what it
// would hold, and returns what it holds then. See [Repository.Customize].
type Change func(r Repository, name string, data []byte) (changed []byte, err error)

// Customize lets the repository's customize script, if it has one, change the file that a package manager reads of the repository, and returns what
// the file then holds. As in KIWI, the script gets the file's path as its argument. It runs in a sandbox without a network and sees nothing of the host's.
func (r Repository) Customize(ctx context.Context, opts CustomizeOptions) (changed []byte, err error) {
	name := r.Description.Customize
	if name == "" {
		return opts.Data, nil
	}
	fail := func(err error) error {
		return r.Description.Errorf("customize", "", "the script %s that customizes the repository %s: %v", name, r.shown(), err)
	}
	script, err := readFile(opts.Files, name, maxCustomize)
	if err != nil {
		return nil, fail(err)
	}
	dir, err := os.MkdirTemp(opts.Workdir, ".customize-")
	if err != nil {
		return nil, fmt.Errorf("making a directory for a repository's file: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file := filepath.Join(dir, opts.Name)
	if err := os.WriteFile(file, opts.Data, 0o644); err != nil {
		return nil, fmt.Errorf("writing a repository's file: %w", err)
	}
	inside := customizeDir + "/" + opts.Name
	err = opts.Run(ctx, sandbox.Spec{
		Args: []string{"bash", "--norc", customizeDir + ".sh", inside}, Title: name + " " + opts.Name, NoNetwork: true,
		Binds: []sandbox.Bind{{Source: dir, Target: customizeDir}},
		Files: []sandbox.File{{Path: customizeDir + ".sh", Data: script, Perm: 0o755}},
	})
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return nil, err
	}
	if err != nil {
		return nil, fail(err)
	}
	root, err := os.OpenRoot(dir) // the script may have put a link there
	if err != nil {
		return nil, fail(err)
	}
	defer root.Close()
	result, err := root.OpenFile(opts.Name, os.O_RDONLY|unix.O_NONBLOCK, 0) // or a pipe
	if err != nil {
		return nil, fail(err)
	}
	defer result.Close()
	if info, err := result.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fail(errors.Join(err, errors.New("it left something else than a file")))
	}
	if changed, err = readBounded(result, maxCustomize); err != nil {
		return nil, fail(err)
	}
	return changed, nil
}
