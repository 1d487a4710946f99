// Package rootfs changes root trees: it adds to a tree what a description asks for, which is its overlay: packages, files, users, settings and
// scripts.
//
// As long as no program of the tree has to run, everything is done on the tree as a value and nothing is unpacked. Otherwise the tree is written into a
// directory, programs run there in the sandbox, and what they changed becomes a part of the value again.
package rootfs

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/lockeddir"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/files"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/repositories"
	"github.com/imgbuild/imgbuild/rootfs/scripts"
)

// Phase is the part of a build that is done.
type Phase int

// The phases, as KIWI parts a build.
const (
	// Whole is all of a build: Prepare, then Create.
	Whole Phase = iota
	// Prepare makes the root tree: packages, files, users, settings and config.sh, up to the removal of packages and the clean-up.
	Prepare
	// Create does what comes with each image of a tree that has been prepared, whose description is the one in its own /image: images.sh and all after it.
	Create
)

// Request is what [Overlay] works with. It changes none of it.
type Request struct {
	// Tree is the root tree to start from; one without entries is made from nothing.
	Tree *layers.Tree
	// Description is what to add to it.
	Description *description.Image
	// Phase is what to do.
	Phase Phase
	// Dir is the directory that the tree is unpacked into if programs must run in it. It is made when it is needed, and must not hold anything then.
	Dir string
	// InPlace says that Dir holds Tree already, which was read from there: it is changed there.
	InPlace bool
	// PackageCache is a directory for downloaded packages, which later builds use again; "" is none.
	PackageCache string
	// Offline forbids the network: what is not in PackageCache is an error that names it.
	Offline bool
	// Locked, where it is not nil, are the only packages that may be installed, with their exact versions and checksums.
	Locked []packages.Package
	// Builder returns the tree of the container whose package manager works on root trees that have none; nil for none.
	Builder func(ctx context.Context) (*layers.Tree, error)
	// OpenBuildService is the address that obs://PROJECT/REPOSITORY is below; "" is the public one.
	OpenBuildService string
	// ShellOnError opens a shell on this process's terminal where a program of the root tree fails.
	ShellOnError bool
	// Repro gives the time of new files and the salts of passwords.
	Repro repro.Source
	// Progress shows long work; nil shows nothing. Log gets what a user may want to know afterwards; nil drops it.
	Progress progress.Reporter
	Log      *slog.Logger
}

// Result is a finished root tree.
type Result struct {
	// Tree is the tree. Contents of its files may lie in Dir.
	Tree *layers.Tree
	// Dir is the directory that the tree was unpacked into, "" if no program had to run. It is the caller's to remove, when Tree is not used any more.
	Dir string
	// Ran says what ran in the tree, in order.
	Ran []string
	// Installed are the packages that were installed, for a lock file.
	Installed []packages.Package

	mutex   sync.Mutex
	overlay *overlay
}

// Overlay adds to a tree what the description asks for, in KIWI's order. Where it fails, what lies in request.Dir is of no use.
func Overlay(ctx context.Context, request Request) (*Result, error) {
	o := newOverlay(request)
	return o.do(ctx, o.steps())
}

// do takes steps and returns what they make.
func (o *overlay) do(ctx context.Context, steps []stepFunc) (*Result, error) {
	if err := o.take(ctx, steps); err != nil {
		return nil, err
	}
	return o.result(ctx)
}

// take takes steps.
func (o *overlay) take(ctx context.Context, steps []stepFunc) error {
	for _, step := range steps {
		err := context.Cause(ctx)
		if err == nil {
			err = step(ctx)
		}
		if err != nil {
			return errors.Join(err, o.close())
		}
	}
	if o.manager != nil {
		o.packagesDone = append(o.packagesDone, o.manager.Installed()...)
	}
	return o.close()
}

// result is what the steps have made.
func (o *overlay) result(ctx context.Context) (*Result, error) {
	tree, err := o.work.current(ctx)
	if err != nil {
		return nil, err
	}
	result := &Result{Tree: tree, Ran: o.ran, Installed: o.packagesDone, overlay: o}
	if o.work.onDisk != nil {
		result.Dir = o.Dir
	}
	return result, nil
}

// overlay is one run of [Overlay].
type overlay struct {
	Request
	work    *workspace
	source  files.Source
	manager *manager          // nil until packages are touched
	repos   *repositories.Set // nil until repositories are needed
	scratch *lockeddir.Dir    // nil until temporary files are needed
	ran     []string
	// described is what the tree has in its /image; nil until then.
	described *description.Image
	// imported are the names of the files that the description has put into /image.
	imported map[string]bool
	// installed says that packages were added or removed, so that initial RAM disks are out of date.
	installed bool
	// packagesDone are those that were installed.
	packagesDone []packages.Package
	// initrdSettings says that the settings of initial RAM disks have changed.
	initrdSettings bool
}

func newOverlay(r Request) *overlay {
	if r.Log == nil {
		r.Log = slog.New(slog.DiscardHandler)
	}
	if r.Progress == nil {
		r.Progress = progress.Discard
	}
	o := &overlay{Request: r, source: files.Source{Dir: r.Description.Dir, FS: r.Description.FS}, imported: map[string]bool{}}
	if o.source.FS == nil {
		o.source.FS = os.DirFS(filepath.Join(os.DevNull, "nothing"))
	}
	o.work = &workspace{dir: r.Dir, arch: r.Description.Arch, modTime: layers.TimespecOf(r.Repro.Epoch), progress: r.Progress, log: r.Log, tree: r.Tree}
	if r.InPlace {
		o.work.onDisk = r.Tree
	}
	return o
}

// steps is what is to be done.
func (o *overlay) steps() []stepFunc {
	switch o.Phase {
	case Prepare:
		return slices.Concat(o.commonSteps(), o.typeSteps(), o.configSteps(), o.lastSteps())
	case Create:
		return slices.Concat([]stepFunc{o.profile}, o.createSteps(), o.lastSteps())
	}
	return slices.Concat(o.commonSteps(), o.typeSteps(), o.configSteps(), o.createSteps(), o.lastSteps())
}

// stepFunc is one step.
type stepFunc = func(context.Context) error

// commonSteps do not depend on the image type.
func (o *overlay) commonSteps() []stepFunc {
	return []stepFunc{
		o.baseTree, o.importDescription,
		o.bootstrapPackages, o.bootstrapFiles, o.step(o.script, scripts.PostBootstrap),
		o.systemPackages, o.systemFiles, o.overlayFiles,
		o.accounts, o.settings, o.imageRepositories, o.splash, o.permissions,
	}
}

// typeSteps add what the image type has of its own. No program runs.
func (o *overlay) typeSteps() []stepFunc { return []stepFunc{o.importTypeFiles, o.hostname, o.drivers} }

// configSteps end the making of the root tree.
func (o *overlay) configSteps() []stepFunc {
	return []stepFunc{o.step(o.script, scripts.Config), o.removePackages, o.rpmDatabase}
}

// createSteps are done for each image of a root tree.
func (o *overlay) createSteps() []stepFunc {
	steps := []stepFunc{o.step(o.script, scripts.Images)}
	if o.Description.Type.DeltaRoot {
		steps = append(steps, o.step(o.script, scripts.ConfigOverlay), o.step(o.outsideScript, scripts.ConfigHostOverlay))
	}
	return steps
}

// lastSteps come last. The initial RAM disks, too, are made with the root tree, so that each image of it finds them.
func (o *overlay) lastSteps() []stepFunc { return []stepFunc{o.initrds, o.cleanUp, o.labels} }

func (o *overlay) step(run func(context.Context, string) error, name string) func(context.Context) error {
	return func(ctx context.Context) error { return run(ctx, name) }
}

// close removes what is temporary.
func (o *overlay) close() error {
	var errs []error
	errs = append(errs, o.manager.close())
	o.manager, o.repos = nil, nil
	if o.scratch != nil {
		errs = append(errs, o.scratch.Remove())
		o.scratch = nil
	}
	return errors.Join(errs...)
}

// note tells the user what may not have been meant.
func (o *overlay) note(text string) { o.Log.Warn(text) }
