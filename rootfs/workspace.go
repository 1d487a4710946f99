package rootfs

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/emulation"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// workspace is a root tree under change. Edits are made on the value. Only when a program must run is the tree written out as a directory, and from then on
// each side is brought up to date when the other needs it.
type workspace struct {
	dir      string // where the tree is written out
	arch     string // of the tree, as uname -m names it
	modTime  layers.Timespec
	progress progress.Reporter
	log      *slog.Logger

	tree    *layers.Tree      // the tree as a value, unless stale
	onDisk  *layers.Tree      // what dir holds; nil if it was not written
	lacking *layers.DirReport // what dir could not hold of onDisk
	stale   bool              // programs have run since dir was read
}

// current returns the tree as it is now.
func (w *workspace) current(ctx context.Context) (*layers.Tree, error) {
	if !w.stale {
		return w.tree, nil
	}
	tree, notes, err := layers.Rescan(ctx, w.dir, w.onDisk, w.lacking)
	if err != nil {
		return nil, err
	}
	for _, note := range notes {
		w.log.Debug("not kept in the root tree", "path", note.Path, "reason", note.Text)
	}
	w.tree, w.onDisk, w.stale = tree, tree, false
	return tree, nil
}

// edit changes the tree.
func (w *workspace) edit(ctx context.Context, change func(*layers.Editor) error) error {
	tree, err := w.current(ctx)
	if err != nil {
		return err
	}
	edit := tree.Edit(w.modTime)
	if err := change(edit); err != nil {
		return err
	}
	w.tree = edit.Tree()
	return nil
}

// run runs a program in the tree.
func (w *workspace) run(ctx context.Context, spec sandbox.Spec) error {
	if err := w.sync(ctx); err != nil {
		return err
	}
	w.stale = true
	spec.Root = w.dir
	return w.emulated(ctx, sandbox.Run, spec)
}

// emulated runs a program by a function, where those of the tree's architecture run.
func (w *workspace) emulated(ctx context.Context, run func(context.Context, sandbox.Spec) error, spec sandbox.Spec) (err error) {
	if spec.Emulator, err = (emulation.Machine{}).Emulator(w.arch); err != nil {
		return err
	}
	return emulation.Explain(run(ctx, spec), w.arch)
}

// runWith runs a program of elsewhere, with the tree in view as its target, by a function that knows where.
func (w *workspace) runWith(ctx context.Context, run func(context.Context, sandbox.Spec) error, spec sandbox.Spec) error {
	if err := w.sync(ctx); err != nil {
		return err
	}
	w.stale = true
	spec.Target = w.dir
	return w.emulated(ctx, run, spec)
}

// unpacked returns the directory that holds the tree, for one who changes it there.
func (w *workspace) unpacked(ctx context.Context) (string, error) {
	if err := w.sync(ctx); err != nil {
		return "", err
	}
	w.stale = true
	return w.dir, nil
}

// sync makes the directory hold the tree.
func (w *workspace) sync(ctx context.Context) error {
	switch {
	case w.stale || w.onDisk == w.tree:
		return nil
	case w.onDisk == nil:
		task := w.progress.Start("unpacking the root tree", w.tree.Stats().Data, progress.Bytes)
		report, err := layers.WriteDir(ctx, w.dir, w.tree, layers.DirOptions{Progress: task.Add})
		task.Done(err)
		if err != nil {
			return fmt.Errorf("unpacking the root tree: %w", err)
		}
		w.lacking = report
	default:
		report, err := layers.UpdateDir(ctx, w.dir, w.onDisk, w.tree, w.lacking)
		if err != nil {
			return fmt.Errorf("updating the unpacked root tree: %w", err)
		}
		w.lacking = report
	}
	w.onDisk = w.tree
	return nil
}
