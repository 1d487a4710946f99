package system

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/imgbuild/imgbuild/imagetypes"
	"github.com/imgbuild/imgbuild/registry"
	"github.com/imgbuild/imgbuild/rootfs"
	"github.com/imgbuild/imgbuild/stack"
)

const (
	// RootDir is where below the target directory the root tree lies after a build in which programs had to run in it, as in KIWI.
	RootDir = "build/image-root"
	// ReportFile is the name of the report of a stack beside the results.
	ReportFile = "stack.report.json"
)

// BuildOptions says what to build.
type BuildOptions struct {
	Options
	// TargetDir is where the results appear.
	TargetDir string
	// AllowExistingRoot starts from the root tree that an earlier build left below TargetDir, if there is one.
	AllowExistingRoot bool
}

// Built is what a build made.
type Built struct {
	// Report is that of the stack, nil without one.
	Report *stack.Report `json:"report,omitempty"`
	// Results are the files in the target directory, the image first.
	Results *imagetypes.Results `json:"results"`
	// Pushed is the container in its registry, by each of its names there.
	Pushed []registry.Pushed `json:"pushed,omitempty"`
}

// Build makes a root tree and an image of it, or one of each type that is wanted.
func Build(ctx context.Context, opts BuildOptions) (*Built, error) {
	p, err := newPass(opts.Options, opts.AllowExistingRoot)
	if err != nil {
		return nil, err
	}
	built, err := p.build(ctx, opts)
	return built, errors.Join(err, p.close())
}

func (p *pass) build(ctx context.Context, opts BuildOptions) (*Built, error) {
	work, from, err := p.place(opts)
	if err != nil {
		return nil, err
	}
	if err := p.check(ctx, opts.TargetDir); err != nil {
		return nil, err
	}
	known := p.lead().image != nil
	if err := p.start(ctx, from); err != nil {
		return nil, err
	}
	if !known { // the description came with a container
		if err := p.check(ctx, opts.TargetDir); err != nil {
			return nil, err
		}
	}
	var built *Built
	err = inWorkplace(ctx, work, p.jobs, func() (err error) {
		built, err = p.buildIn(ctx, work, opts.TargetDir, from != "")
		return err
	}, &p.log)
	if err != nil {
		return nil, err
	}
	return built, nil
}

// place finds the place of the root tree, and the root tree to start from, "" for none.
func (p *pass) place(opts BuildOptions) (work *workplace, from string, err error) {
	lead := p.lead()
	if lead.image == nil && len(lead.Stack.Containers) == 0 {
		return nil, "", errors.New("building an image: there is neither a description nor a container that brings one")
	}
	if work, err = workplaceOf(filepath.Join(opts.TargetDir, RootDir)); err != nil {
		return nil, "", err
	}
	existing, err := work.occupied()
	goOn := opts.AllowExistingRoot && len(lead.Stack.Containers) == 0 // a stack is the root tree to start from
	switch {
	case err != nil:
		return nil, "", err
	case existing && !goOn && !lead.Stack.Force:
		return nil, "", fmt.Errorf("building into %s: %w: %s is a root tree of an earlier build; give another directory, remove it, or --force to replace it",
			opts.TargetDir, ErrInUse, filepath.Join(opts.TargetDir, RootDir))
	case existing && goOn:
		from = work.root
	}
	return work, from, nil
}

// inWorkplace runs work in a workplace, with a log of its own, which takes what the jobs log, and what goes to further logs.
func inWorkplace(ctx context.Context, work *workplace, jobs []*job, run func() error, logs ...**slog.Logger) error {
	if err := work.open(); err != nil {
		return err
	}
	record, err := beginRecord(work, jobs, logs...)
	if err == nil {
		err = record.close(ctx, run())
	}
	return errors.Join(err, work.close())
}

// buildIn builds in a workplace. It leaves a root tree where programs had to run in it, or where the build started from one.
func (p *pass) buildIn(ctx context.Context, work *workplace, target string, leave bool) (*Built, error) {
	phase := rootfs.Whole
	if p.lead().inTree {
		phase = rootfs.Create
	}
	built, roots, err := p.images(ctx, phase, work, target)
	if err != nil {
		return nil, err
	}
	if len(p.lead().Stack.Containers) > 0 {
		built.Report = p.lead().stack.Report
	}
	return built, p.leave(ctx, roots, work, leave)
}

// extra are the files that go with the images: the lock, and the report of a stack.
func (p *pass) extra() ([]imagetypes.Extra, error) {
	data, err := p.lock().Encode()
	if err != nil {
		return nil, err
	}
	list := []imagetypes.Extra{{Name: LockFile, Data: data}}
	if lead := p.lead(); len(lead.Stack.Containers) > 0 {
		report, err := json.MarshalIndent(lead.stack.Report, "", "  ")
		if err != nil {
			return nil, fmt.Errorf("writing the report of the stack: %w", err)
		}
		list = append(list, imagetypes.Extra{Name: ReportFile, Data: append(report, '\n')})
	}
	return list, nil
}

// leaveTree puts the root tree in its place, with its lock and, where it has become another, its description.
func (j *job) leaveTree(ctx context.Context, result *rootfs.Result, work *workplace) error {
	if err := result.Sync(ctx); err != nil {
		return err
	}
	lock := j.lock()
	data, err := lock.Encode()
	if err != nil {
		return err
	}
	files := map[string][]byte{LockFile: data}
	if j.redescribe {
		files["config.xml"] = j.image.XML()
	}
	if err := writeImageDir(work.unpackTo(), files); err != nil {
		return fmt.Errorf("writing into the root tree: %w", err)
	}
	if err := work.finish(); err != nil {
		return err
	}
	return j.writeLock(data)
}

// writeImageDir writes files into /image of a root tree. What has run in the tree can't lead out of it.
func writeImageDir(dir string, files map[string][]byte) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.MkdirAll("image", 0o755); err != nil {
		return err
	}
	for name, data := range files {
		if err := root.WriteFile("image/"+name, data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
