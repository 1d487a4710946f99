package rootfs

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
	"github.com/imgbuild/imgbuild/rootfs/scripts"
)

// Run runs a program in tree, which is Result.Tree or one that was made of it, and returns the tree as the program leaves it. The directory of the request
// is made where it was not needed before, and holds that tree then: what it held of others can't be read any more. It is safe for concurrent use.
func (r *Result) Run(ctx context.Context, tree *layers.Tree, spec sandbox.Spec) (*layers.Tree, error) {
	return r.on(ctx, tree, spec, r.overlay.work.run)
}

// RunOutside is as [Result.Run] for a program of this machine. It finds the tree, which it can change, as [sandbox.TargetDir], and
// can't change anything else.
func (r *Result) RunOutside(ctx context.Context, tree *layers.Tree, spec sandbox.Spec) (*layers.Tree, error) {
	return r.on(ctx, tree, spec, r.overlay.work.runOutside)
}

func (r *Result) on(ctx context.Context, tree *layers.Tree, spec sandbox.Spec, run func(context.Context, sandbox.Spec) error) (*layers.Tree, error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	// What a program that failed has done to the directory must be known before it can hold another tree.
	if _, err := r.overlay.work.current(ctx); err != nil {
		return nil, err
	}
	r.overlay.work.tree = tree
	if err := r.overlay.shell(ctx, spec, run(ctx, spec)); err != nil {
		return nil, err
	}
	return r.overlay.work.current(ctx)
}

// Sync makes the directory of the request hold the tree or, where programs have run since, the one that the last of them has left.
func (r *Result) Sync(ctx context.Context) error {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return r.overlay.work.sync(ctx)
}

// runOutside runs a program of this machine, with the tree in view.
func (w *workspace) runOutside(ctx context.Context, spec sandbox.Spec) error {
	spec.Root, spec.ReadOnlyRoot = "/", true
	return w.runWith(ctx, sandbox.Run, spec)
}

// shell opens a shell where a program of the tree has failed with err, if the user wants one, and returns err.
func (o *overlay) shell(ctx context.Context, failed sandbox.Spec, err error) error {
	var exit *command.ExitError
	if !o.ShellOnError || !errors.As(err, &exit) || ctx.Err() != nil {
		return err
	}
	tree, treeErr := o.work.current(ctx)
	if treeErr != nil {
		return errors.Join(err, treeErr)
	}
	spec, ok := scripts.Shell(tree, fmt.Sprintf("%v\nThis is a shell in the root tree as it is now; it is thrown away when you leave the shell with exit.", err))
	if !ok {
		o.note("no shell is opened: the root tree has none")
		return err
	}
	spec.Env = failed.Env
	if term := os.Getenv("TERM"); term != "" {
		spec.Env = append(spec.Env, "TERM="+term)
	}
	spec.Binds, spec.NoNetwork, spec.Log = failed.Binds, failed.NoNetwork, o.Log
	if shellErr := o.work.run(ctx, spec); shellErr != nil && !errors.As(shellErr, &exit) {
		return errors.Join(err, fmt.Errorf("opening a shell: %w", shellErr))
	}
	return err
}

// script runs one of the description's scripts, if it has it.
func (o *overlay) script(ctx context.Context, name string) error {
	return o.runScript(ctx, name, false)
}

// outsideScript runs one of the description's scripts on this machine, if it has it.
func (o *overlay) outsideScript(ctx context.Context, name string) error {
	return o.runScript(ctx, name, true)
}

func (o *overlay) runScript(ctx context.Context, name string, outside bool) error {
	tree, err := o.work.current(ctx)
	if err != nil {
		return err
	}
	if !scripts.Has(tree, name) {
		if o.imported[name] {
			o.note(name + " does not run: something has removed it from /image in the root tree")
		}
		return nil
	}
	scratch, err := o.scratchDir()
	if err != nil {
		return err
	}
	run := o.work.run
	if outside {
		run = o.work.runOutside
	}
	o.ran = append(o.ran, name)
	return scripts.Run(ctx, name, scripts.Options{
		Tree: tree, Outside: outside, Variables: o.Description.ProfileVariables(), Env: o.epoch(), Workdir: scratch, Progress: o.Progress, Log: o.Log,
		Run: func(ctx context.Context, spec sandbox.Spec) error {
			spec.NoNetwork = o.Offline
			return run(ctx, spec)
		},
		Failed: o.shell,
	})
}
