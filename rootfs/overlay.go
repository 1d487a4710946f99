// Package rootfs changes root trees: it adds to a tree what a description asks for, which is its overlay: packages, files, users, settings and
// scripts.
//
// As long as no program of the tree has to run, everything is done on the tree as a value and nothing is unpacked. Otherwise the tree is written into a
// directory, programs run there in the sandbox, and what they changed becomes a part of the value again.
package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/apt"
	"github.com/imgbuild/imgbuild/rootfs/files"
	"github.com/imgbuild/imgbuild/rootfs/initrd"
	"github.com/imgbuild/imgbuild/rootfs/scripts"
	"github.com/imgbuild/imgbuild/rootfs/settings"
	"github.com/imgbuild/imgbuild/rootfs/users"
)

// Request is what [Overlay] works with. It changes none of it.
type Request struct {
	// Tree is the root tree to start from.
	Tree *layers.Tree
	// Description is what to add to it.
	Description *description.Image
	// Rebuild says that the description comes from the tree's own /image and has been obeyed before: only what comes with each image is done again.
	Rebuild bool
	// Dir is the directory that the tree is unpacked into if programs must run in it. It is made when it is needed, and must not hold anything then.
	Dir string
	// PackageCache is a directory for downloaded packages, which later builds use again; "" is none.
	PackageCache string
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
}

// Overlay adds to a tree what the description asks for, in KIWI's order. Where it fails, what lies in request.Dir is of no use.
func Overlay(ctx context.Context, request Request) (*Result, error) {
	o := newOverlay(request)
	for _, step := range o.steps() {
		err := context.Cause(ctx)
		if err == nil {
			err = step(ctx)
		}
		if err != nil {
			return nil, errors.Join(err, o.close())
		}
	}
	if err := o.close(); err != nil {
		return nil, err
	}
	tree, err := o.work.current(ctx)
	if err != nil {
		return nil, err
	}
	result := &Result{Tree: tree, Ran: o.ran}
	if o.work.onDisk != nil {
		result.Dir = request.Dir
	}
	return result, nil
}

// overlay is one run of [Overlay].
type overlay struct {
	Request
	work    *workspace
	source  files.Source
	session *apt.Session // nil until packages are touched
	scratch *scratch     // nil until temporary files are needed
	ran     []string
	// installed says that packages were added or removed, so that initial RAM disks are out of date.
	installed bool
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
	o := &overlay{Request: r, source: files.Source{Dir: r.Description.Dir, FS: r.Description.FS}}
	if o.source.FS == nil {
		o.source.FS = os.DirFS(filepath.Join(os.DevNull, "nothing"))
	}
	o.work = &workspace{dir: r.Dir, modTime: layers.TimespecOf(r.Repro.Epoch), progress: r.Progress, log: r.Log, tree: r.Tree}
	return o
}

// steps is what is to be done.
func (o *overlay) steps() []func(context.Context) error {
	if o.Rebuild {
		return []func(context.Context) error{o.step(o.script, scripts.Images), o.initrds, o.cleanUp}
	}
	return []func(context.Context) error{
		o.importDescription,
		o.bootstrapPackages, o.step(o.script, scripts.PostBootstrap), o.systemPackages,
		o.archives, o.extraFiles, o.overlayFiles, o.accounts, o.settings, o.imageSources,
		o.step(o.script, scripts.Config), o.removePackages,
		o.step(o.script, scripts.Images), o.step(o.script, scripts.PreDiskSync),
		o.initrds, o.cleanUp,
	}
}

func (o *overlay) step(run func(context.Context, string) error, name string) func(context.Context) error {
	return func(ctx context.Context) error { return run(ctx, name) }
}

// close removes what is temporary.
func (o *overlay) close() error {
	var errs []error
	if o.session != nil {
		errs = append(errs, o.session.Close())
		o.session = nil
	}
	if o.scratch != nil {
		errs = append(errs, o.scratch.remove())
		o.scratch = nil
	}
	return errors.Join(errs...)
}

// note tells the user what may not have been meant.
func (o *overlay) note(text string) { o.Log.Warn(text) }

// archives unpacks the archives of the description.
func (o *overlay) archives(ctx context.Context) error {
	for _, set := range []description.PackageSet{o.Description.Packages.Bootstrap, o.Description.Packages.System} {
		for _, archive := range set.Archives {
			if err := o.archive(ctx, archive.Name, archive.TargetDir); err != nil {
				return archive.Errorf("name", "", "%v", err)
			}
		}
	}
	return nil
}

func (o *overlay) archive(ctx context.Context, name, target string) error {
	scratch, err := o.scratchDir()
	if err != nil {
		return err
	}
	tree, err := o.source.ReadArchive(ctx, name, scratch)
	if err != nil {
		return err
	}
	return o.work.edit(ctx, func(edit *layers.Editor) error { return files.Graft(edit, tree, target, files.GraftOptions{}) })
}

// overlayFiles puts the directory root/, or else root.tar.gz, and those of the active profiles over the tree.
func (o *overlay) overlayFiles(ctx context.Context) error {
	found, err := o.overlayDir(ctx, "root")
	if err != nil {
		return err
	}
	if _, err := fs.Stat(o.source.FS, "root.tar.gz"); err == nil && !found {
		if err := o.archive(ctx, "root.tar.gz", "/"); err != nil {
			return err
		}
	}
	for _, profile := range o.Description.Profiles {
		if !fs.ValidPath(profile) {
			continue
		}
		if _, err := o.overlayDir(ctx, profile); err != nil {
			return err
		}
	}
	return nil
}

func (o *overlay) overlayDir(ctx context.Context, name string) (found bool, err error) {
	if info, err := fs.Stat(o.source.FS, name); err != nil || !info.IsDir() {
		return false, nil //nolint:nilerr // descriptions need not have one
	}
	tree, notes, err := o.source.ReadDir(ctx, name)
	if err != nil {
		return false, fmt.Errorf("reading the overlay directory %s: %w", name, err)
	}
	for _, note := range notes {
		o.note(fmt.Sprintf("overlay directory %s: %s: %s", name, note.Path, note.Text))
	}
	err = o.work.edit(ctx, func(edit *layers.Editor) error {
		return files.Graft(edit, tree, "/", files.GraftOptions{RootOwned: true})
	})
	if err != nil {
		return false, fmt.Errorf("adding the overlay directory %s: %w", name, err)
	}
	return true, nil
}

// accounts makes users and groups.
func (o *overlay) accounts(ctx context.Context) error {
	return o.work.edit(ctx, func(edit *layers.Editor) error {
		notes, err := users.Apply(edit, o.Description.Groups, o.Description.Users, o.Repro)
		for _, note := range notes {
			o.note(note)
		}
		return err
	})
}

// settings sets locale, keyboard, time zone, host name and image id.
func (o *overlay) settings(ctx context.Context) error {
	var result settings.Result
	err := o.work.edit(ctx, func(edit *layers.Editor) (err error) {
		result, err = settings.Apply(edit, o.Description)
		return err
	})
	for _, note := range result.Notes {
		o.note(note)
	}
	if err != nil || len(result.Generate) == 0 {
		return err
	}
	return o.program(ctx, "making locales", "locale-gen", "--keep-existing")
}

// imageSources writes the repositories that the image is to have.
func (o *overlay) imageSources(ctx context.Context) error {
	return o.work.edit(ctx, func(edit *layers.Editor) error {
		if o.Description.PackageManager != "apt" {
			return nil
		}
		notes, err := apt.WriteSources(ctx, edit, o.Description, o.source)
		for _, note := range notes {
			o.note(note)
		}
		return err
	})
}

// script runs one of the description's scripts, if it has it.
func (o *overlay) script(ctx context.Context, name string) error {
	tree, err := o.work.current(ctx)
	if err != nil {
		return err
	}
	if !scripts.Has(tree, name) || name == scripts.PreDiskSync && o.Description.Type.Image != "oem" {
		return nil
	}
	scratch, err := o.scratchDir()
	if err != nil {
		return err
	}
	o.ran = append(o.ran, name)
	return scripts.Run(ctx, name, scripts.Options{
		Run: o.work.run, Tree: tree, Variables: o.Description.ProfileVariables(), Env: o.epoch(), Workdir: scratch, Progress: o.Progress, Log: o.Log,
	})
}

// initrds makes the initial RAM disks that are missing or out of date, where the image type boots a kernel.
func (o *overlay) initrds(ctx context.Context) error {
	tree, err := o.work.current(ctx)
	if err != nil {
		return err
	}
	if o.initrdSettings, err = initrd.SettingsDiffer(o.Tree, tree); err != nil {
		return err
	}
	for _, k := range o.wantedInitrds(tree) {
		o.ran = append(o.ran, "initrd of kernel "+k.Version)
		options := initrd.Options{Run: o.programRun, Tree: tree, Progress: o.Progress, Log: o.Log}
		if o.Repro.Fixed {
			options.Epoch = o.Repro.Epoch
		}
		if err := initrd.Build(ctx, k, options); err != nil {
			return err
		}
	}
	return nil
}

// wantedInitrds returns the kernels whose initial RAM disk has to be made.
func (o *overlay) wantedInitrds(tree *layers.Tree) []initrd.Kernel {
	if !bootsKernel(o.Description) {
		return nil
	}
	var wanted []initrd.Kernel
	for _, k := range initrd.FindKernels(tree) {
		outdated := (o.installed || o.initrdSettings) && initrd.Tool(tree) != ""
		if k.Modules != "" && (k.Initrd == "" || outdated) {
			wanted = append(wanted, k)
		}
	}
	return wanted
}

// bootsKernel reports whether an image of the type starts with a kernel and an initial RAM disk of the tree.
func bootsKernel(image *description.Image) bool {
	switch image.Type.Image {
	case "oem", "iso", "pxe", "kis":
		return image.Type.InitrdSystem != "none"
	}
	return false
}

// epoch is the environment that asks programs for reproducible output.
func (o *overlay) epoch() []string {
	if !o.Repro.Fixed {
		return nil
	}
	return []string{repro.EpochVariable + "=" + strconv.FormatInt(o.Repro.Epoch.Unix(), 10)}
}
