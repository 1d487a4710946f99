// Package toolbox runs programs that are not the root tree's own: those of this machine, or where it lacks one, those of a builder container.
//
// Such a program finds the root tree under construction at sandbox.TargetDir. The rest of what it sees is this machine or the container, which it can't change,
// and whose configuration of package managers is hidden from it: only what the description says counts, on whichever machine it is built.
package toolbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"

	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// Options are what a toolbox works with.
type Options struct {
	// Builder returns the tree of the builder container. It is called when a program is needed that this machine lacks, and at most once. nil is no container.
	Builder func(ctx context.Context) (*layers.Tree, error)
	// Workdir is an existing directory in which the container is unpacked, once.
	Workdir string
	// Find looks for a program of this machine and returns its path or a *command.MissingError; nil is [command.Find].
	Find func(name string) (string, error)
	// Progress shows the unpacking; Log is told where a program runs. nil is nobody.
	Progress progress.Reporter
	Log      *slog.Logger
}

// Toolbox is the place of programs that are not the root tree's own. Its methods may be called by several goroutines at once.
type Toolbox struct {
	opts Options

	mu    sync.Mutex
	tree  *layers.Tree // of the builder container, once it is known
	dir   string       // where it is unpacked, "" if it is not
	empty string       // a directory with an empty directory and an empty file, "" if it is not made yet
}

// Open returns a toolbox. Nothing is unpacked before it is needed.
func Open(opts Options) *Toolbox {
	if opts.Find == nil {
		opts.Find = command.Find
	}
	if opts.Progress == nil {
		opts.Progress = progress.Discard
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return &Toolbox{opts: opts}
}

// Close removes the unpacked container.
func (t *Toolbox) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	for _, dir := range []string{t.dir, t.empty} {
		if dir != "" {
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	t.dir, t.empty = "", ""
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("removing the unpacked builder container: %w", err)
	}
	return nil
}

// Run runs a program of this machine or of the builder container. spec.Root is filled in here; spec.Target, if the program is to change a root tree, by the caller.
// The error wraps a *[command.MissingError] if neither has the program.
func (t *Toolbox) Run(ctx context.Context, spec sandbox.Spec) error {
	if len(spec.Args) == 0 {
		return errors.New("running a program: none is named")
	}
	name := spec.Args[0]
	found, err := t.opts.Find(name)
	var missing *command.MissingError
	switch {
	case err == nil && visible(found):
		spec.Root, spec.ReadOnlyRoot = "/", true
		spec.Args = append([]string{found}, spec.Args[1:]...)
		t.opts.Log.Debug("running a program of this machine", "program", found)
	case err != nil && !errors.As(err, &missing):
		return err
	default:
		if spec.Root, err = t.builder(ctx, name); err != nil {
			return err
		}
		t.opts.Log.Debug("running a program of the builder container", "program", name)
	}
	binds, err := t.hidden(spec.Root)
	if err != nil {
		return err
	}
	spec.Binds = append(binds, spec.Binds...)
	// The home directory of this machine's root has configuration in it, and an ordinary user can't look into it.
	spec.Env = append([]string{"HOME=/tmp"}, spec.Env...)
	return sandbox.Run(ctx, spec)
}

// visible reports whether a program of this machine can be seen in a sandbox, which has directories of its own for what is temporary.
func visible(program string) bool {
	return !strings.HasPrefix(program, "/tmp/") && !strings.HasPrefix(program, "/run/")
}

// builder returns the directory of the builder container, which has the program.
func (t *Toolbox) builder(ctx context.Context, program string) (string, error) {
	missing := &command.MissingError{Program: program}
	if t.opts.Builder == nil {
		return "", fmt.Errorf("%w, or give a container that has it with --builder NAME", missing)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.tree == nil {
		tree, err := t.opts.Builder(ctx)
		if err != nil {
			return "", fmt.Errorf("opening the builder container for %s: %w", program, err)
		}
		t.tree = tree
	}
	if !has(t.tree, program) {
		return "", fmt.Errorf("%w; the builder container doesn't have it either", missing)
	}
	if t.dir != "" {
		return t.dir, nil
	}
	dir, err := os.MkdirTemp(t.opts.Workdir, "builder-")
	if err != nil {
		return "", fmt.Errorf("making a directory for the builder container: %w", err)
	}
	task := t.opts.Progress.Start("unpacking the builder container", t.tree.Stats().Data, progress.Bytes)
	_, err = layers.WriteDir(ctx, dir, t.tree, layers.DirOptions{Progress: task.Add, Overwrite: true})
	task.Done(err)
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		return "", errors.Join(fmt.Errorf("unpacking the builder container: %w", err), os.RemoveAll(dir))
	}
	t.dir = dir
	return dir, nil
}

// has reports whether a tree has a program in one of the directories that sandboxes look in.
func has(tree *layers.Tree, program string) bool {
	dirs := []string{"usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin"}
	if strings.Contains(program, "/") {
		dirs = []string{"."}
	}
	for _, dir := range dirs {
		if _, node, err := tree.Resolve(path.Join(dir, program)); err == nil && node.IsRegular() && node.Mode&0o111 != 0 {
			return true
		}
	}
	return false
}

// configuration is where package managers and rpm, dpkg and the like have their settings: hooks, repositories, what not to install.
func configuration() []string {
	return []string{
		"/etc/apt", "/etc/dpkg", "/etc/zypp", "/etc/dnf", "/etc/yum", "/etc/yum.repos.d", "/etc/libdnf", "/etc/rpm", "/etc/pacman.d", "/etc/pacman.conf", "/etc/apk",
	}
}

// hidden are the mounts that put nothing in the place of the configuration in a root directory.
func (t *Toolbox) hidden(root string) ([]sandbox.Bind, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.empty == "" {
		empty, err := os.MkdirTemp(t.opts.Workdir, "nothing-")
		if err != nil {
			return nil, fmt.Errorf("making an empty directory: %w", err)
		}
		t.empty = empty
		if err := errors.Join(os.Mkdir(filepath.Join(empty, "directory"), 0o755), os.WriteFile(filepath.Join(empty, "file"), nil, 0o644)); err != nil {
			return nil, fmt.Errorf("making an empty directory: %w", err)
		}
	}
	var binds []sandbox.Bind
	for _, name := range configuration() {
		target, isDir, there := t.resolve(root, name)
		switch {
		case !there:
		case isDir:
			binds = append(binds, sandbox.Bind{Source: filepath.Join(t.empty, "directory"), Target: target, ReadOnly: true})
		default:
			binds = append(binds, sandbox.Bind{Source: filepath.Join(t.empty, "file"), Target: target, ReadOnly: true})
		}
	}
	return binds, nil
}

// resolve follows the symbolic links of a name in this machine's root directory or in that of the builder container.
func (t *Toolbox) resolve(root, name string) (target string, isDir, there bool) {
	if root != "/" {
		target, node, err := t.tree.Resolve(name[1:])
		return "/" + target, err == nil && node.IsDir(), err == nil
	}
	target, err := filepath.EvalSymlinks(name)
	if err != nil {
		return "", false, false
	}
	info, err := os.Stat(target)
	return target, err == nil && info.IsDir(), err == nil
}
