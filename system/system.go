// Package system builds systems as KIWI's system commands do: it prepares root trees, creates images of them, does both at once, and updates root trees.
//
// A build starts from nothing, from the container that a description is derived from, from a stack of containers, or from an existing root tree; all of
// that is one code path. What lies under the name of a root tree or a result was made completely, whatever happens on the way.
package system

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/internal/atomicfile"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/registry"
	"github.com/imgbuild/imgbuild/rootfs"
	"github.com/imgbuild/imgbuild/stack"
)

// Options are what the commands of this package have in common. Each uses what has a meaning for it.
type Options struct {
	// Client opens the store and what leads to registries. It is called when the first container is needed, and its answer is used once only; the
	// caller closes the client when nothing of the build is used any more.
	Client func() (*registry.Client, error)
	// Description is the directory of the description. Empty means the one in /image of what the build starts from.
	Description string
	// File is the name of the description's file in its directory; empty for the usual names.
	File string
	// Selection chooses profiles, type and architecture.
	Selection description.Selection
	// Types are the image types to make, where they are several: each once, or [AllTypes]. Only [Build], [Create] and [MakePlan] make more than one.
	Types []string
	// Overrides change the description from the command line.
	Overrides description.Overrides
	// Stack has the containers to start from, and how containers are fetched and put together. Without any a build starts from what the description is
	// derived from, or from nothing. Its Force also replaces the root tree of an earlier build.
	Stack stack.Options
	// Builder names a container whose package manager works on root trees that have none; empty for none.
	Builder string
	// PackageCache is a directory for downloaded packages; empty for none.
	PackageCache string
	// CacheIfPossible lets a build do without PackageCache, with a warning, where it can't be made: nobody has asked for it by name.
	CacheIfPossible bool
	// ClearCache empties PackageCache first.
	ClearCache bool
	// Offline forbids the network: what is neither in PackageCache nor in the store is an error that names it.
	Offline bool
	// Locked, where it is not nil, are the only containers and packages that may be used, exactly.
	Locked *Lock
	// LockFile is where the lock is written besides, complete or not at all; empty for nowhere. It is among the results of an image, and in /image of a
	// root tree, anyway.
	LockFile string
	// OpenBuildService is the address that obs://PROJECT/REPOSITORY is below; empty for the public one.
	OpenBuildService string
	// ShellOnError opens a shell on this process's terminal where a program of the root tree fails.
	ShellOnError bool
	// Container says how containers are packed. Keep and NoArchive are of no concern here.
	Container image.ContainerOptions
	// Settings are the machine's for all images.
	Settings imagetypes.Settings
	// Signing signs packages for Windows; nil does not.
	Signing *image.Signing
	// Push sends the container that is built to a registry; nil does not.
	Push *Push
	// Repro gives the time and ids of the build.
	Repro repro.Source
	// Progress shows the work; nil shows nothing.
	Progress progress.Reporter
	// Log gets what happens on the way; nil drops it.
	Log *slog.Logger
}

// job is one run of a command.
type job struct {
	Options
	tree *layers.Tree // what the build starts from
	// stack is where tree comes from, nil if it is not from containers; base is the container that the image is derived from, nil for none.
	stack *stack.Stack
	base  *image.Base
	// image is the description; inTree says that it was found in the tree, which has obeyed it already.
	image  *description.Image
	inTree bool
	// redescribe says that the root tree's description is to be replaced by image.
	redescribe bool
	// known is what the tree is made of, used what this run has used besides.
	known, used Lock
	closers     []func() error
	// doc is what image was read from, types are the image types of the run, of which image has one. warned are the warnings that were shown.
	doc    *description.Document
	types  []string
	warned map[string]bool
	// found is what an existing root tree is made of; result is the finished one.
	found  Lock
	result *rootfs.Result
}

// newJob begins a run, and reads the description before anything is fetched. Existing says that there may be a root tree to start from.
func newJob(o Options, existing bool) (*job, error) {
	if o.Progress == nil {
		o.Progress = progress.Discard
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Stack.Fetch.Platform == "" {
		o.Stack.Fetch.Platform = platformOf(o.Selection.Arch)
	}
	if o.Offline {
		o.Stack.Fetch.Pull = registry.PullNever
	}
	o.Stack.Progress, o.Stack.Log = o.Progress, o.Log
	j := &job{Options: o, warned: map[string]bool{}}
	if o.Description != "" {
		j.Selection.EmptyTree = !existing && len(o.Stack.Containers) == 0
		if err := j.load(); err != nil {
			return nil, err
		}
	}
	return j, j.openCache()
}

// close ends the use of containers.
func (j *job) close() error {
	var errs []error
	for _, c := range slices.Backward(j.closers) {
		errs = append(errs, c())
	}
	j.closers = nil
	return errors.Join(errs...)
}

// load reads the description of the options.
func (j *job) load() error {
	doc, err := description.Load(j.Description, description.LoadOptions{File: j.File})
	if err != nil {
		return err
	}
	return j.resolve(doc)
}

func (j *job) resolve(doc *description.Document) error {
	j.doc = doc
	if err := j.chooseTypes(); err != nil {
		return err
	}
	j.warn(doc.Warnings)
	resolved, err := doc.Resolve(j.Selection)
	if err != nil {
		return err
	}
	if j.image, err = resolved.With(j.Overrides); err != nil {
		return err
	}
	j.warn(j.image.Warnings)
	return j.Locked.isFor(j.image.Arch)
}

// warn shows warnings once.
func (j *job) warn(list description.Errors) {
	for _, w := range list {
		if text := w.Error(); !j.warned[text] {
			j.warned[text] = true
			j.Log.Warn(text)
		}
	}
}

// chooseTypes finds the image types of the run, and begins with the first of them.
func (j *job) chooseTypes() error {
	if len(j.types) > 0 || len(j.Types) == 0 {
		return nil
	}
	j.types = j.Types
	if slices.Contains(j.Types, AllTypes) {
		if j.types = j.doc.TypeNames(j.Selection); len(j.types) == 0 {
			return nil // resolving says why
		}
	}
	j.Selection.Type = j.types[0]
	return nil
}

// loadFromTree reads the description in the tree's /image. Name says what the tree is, and hint what to do if it has none.
func (j *job) loadFromTree(tree *layers.Tree, name, hint string) error {
	if _, node, err := tree.Resolve("image"); err != nil || !node.IsDir() {
		return fmt.Errorf("reading the description of %s: it has no description in /image; %s", name, hint)
	}
	doc, err := description.LoadFS(tree.FS("image"), name+":/image", description.LoadOptions{File: j.File})
	if err != nil {
		return fmt.Errorf("reading the description of %s: %w", name, err)
	}
	j.inTree = true
	return j.resolve(doc)
}

// check refuses what can't be built, before anything is fetched.
func (j *job) check(ctx context.Context, target string) error {
	if j.image == nil {
		return nil
	}
	return imagetypes.Check(ctx, imagetypes.CreateOptions{Description: j.image, Container: j.container(), TargetDir: target, Settings: j.Settings, Signing: j.Signing, Log: j.Log})
}

// request is what package rootfs gets.
func (j *job) request(phase rootfs.Phase, dir string) rootfs.Request {
	return rootfs.Request{
		Tree: j.tree, Description: j.image, Phase: phase, Dir: dir,
		PackageCache: j.PackageCache, Offline: j.Offline, Locked: j.Locked.packages(j.image.Type.Image), Builder: j.builder(), OpenBuildService: j.OpenBuildService,
		ShellOnError: j.ShellOnError, Repro: j.source(), Progress: j.Progress, Log: j.Log,
	}
}

// source is where times and ids come from: from what the tree is made of, in the end.
func (j *job) source() repro.Source {
	var inputs []string
	if len(j.Stack.Containers) > 0 {
		inputs = append(inputs, j.Stack.Rule.String())
	}
	for _, c := range slices.Concat(j.known.Containers, j.used.Containers) {
		if c.Use != useBuilder {
			inputs = append(inputs, c.Digest)
		}
	}
	return j.Repro.With(inputs...)
}

// overlay changes the tree as the description wants it, from what was shared on where something was.
func (j *job) overlay(ctx context.Context, shared *rootfs.Shared, phase rootfs.Phase, dir string) (*rootfs.Result, error) {
	overlay := rootfs.Overlay
	if shared != nil {
		overlay = shared.Overlay
	}
	result, err := overlay(ctx, j.request(phase, dir))
	if err != nil {
		return nil, err
	}
	j.used.add(result.Installed)
	return result, j.Locked.complete(j.image.Type.Image, j.known, j.used)
}

// build makes the image, which takes a rank among those of the batch.
func (j *job) build(ctx context.Context, batch *imagetypes.Batch, rank int) error {
	source := j.source()
	tree := j.result.Tree
	if source.Fixed {
		tree = layers.Clamp(tree, layers.TimespecOf(source.Epoch))
	}
	return batch.Build(ctx, rank, imagetypes.CreateOptions{
		Tree: tree, Description: j.image, Base: j.base, Runner: j.result, Mixed: len(j.Stack.Containers) > 0 && j.Stack.Force, Container: j.container(), Settings: j.Settings, Signing: j.Signing, Repro: source, Progress: j.Progress, Log: j.Log,
	})
}

// writeLock writes the lock where the user wants it besides.
func (j *job) writeLock(data []byte) error {
	if j.LockFile == "" {
		return nil
	}
	err := atomicfile.Write(j.LockFile, 0o644, func(f *os.File) error {
		_, err := f.Write(data)
		return err
	})
	if err != nil {
		return fmt.Errorf("writing the lock file: %w", err)
	}
	return nil
}

// lock is what the image is made of.
func (j *job) lock() Lock {
	lock := j.known.with(j.used)
	lock.Image = LockedImage{Name: j.image.Name, Version: j.image.Version, Arch: j.image.Arch, Type: j.image.Type.Image, Profiles: j.image.Profiles,
		Description: digestOf(j.image.XML())}
	return lock
}

// lock is what the images are made of.
func (p *pass) lock() *Lock {
	var locks []Lock
	for _, j := range p.jobs {
		locks = append(locks, j.lock())
	}
	all := together(locks)
	return &all
}

// what names the selection for a log.
func (j *job) what() string {
	text := fmt.Sprintf("%s %s for %s, type %s", j.image.Name, j.image.Version, j.image.Arch, j.image.Type.Image)
	if len(j.image.Profiles) > 0 {
		text += ", profiles " + strings.Join(j.image.Profiles, ", ")
	}
	return text
}
