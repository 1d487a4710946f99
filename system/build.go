package system

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/imgbuild/imgbuild/imagetypes"
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
}

// Build makes a root tree and an image of it.
func Build(ctx context.Context, opts BuildOptions) (*Built, error) {
	j, err := newJob(opts.Options, opts.AllowExistingRoot)
	if err != nil {
		return nil, err
	}
	built, err := j.build(ctx, opts)
	return built, errors.Join(err, j.close())
}

func (j *job) build(ctx context.Context, opts BuildOptions) (*Built, error) {
	if j.image == nil && len(j.Stack.Containers) == 0 {
		return nil, errors.New("building an image: there is neither a description nor a container that brings one")
	}
	work, err := workplaceOf(filepath.Join(opts.TargetDir, RootDir))
	if err != nil {
		return nil, err
	}
	existing, err := work.occupied()
	goOn := opts.AllowExistingRoot && len(j.Stack.Containers) == 0 // a stack is the root tree to start from
	switch {
	case err != nil:
		return nil, err
	case existing && !goOn && !j.Stack.Force:
		return nil, fmt.Errorf("building into %s: %w: %s is a root tree of an earlier build; give another directory, remove it, or --force to replace it",
			opts.TargetDir, ErrInUse, filepath.Join(opts.TargetDir, RootDir))
	}
	if err := j.check(ctx, opts.TargetDir); err != nil {
		return nil, err
	}
	from := ""
	if existing && goOn {
		from = work.root
	}
	if err := j.start(ctx, from); err != nil {
		return nil, err
	}
	var built *Built
	err = j.inWorkplace(ctx, work, func() (err error) {
		built, err = j.buildIn(ctx, work, opts.TargetDir, from != "")
		return err
	})
	if err != nil {
		return nil, err
	}
	return built, nil
}

// inWorkplace runs work in a workplace, with a log of its own.
func (j *job) inWorkplace(ctx context.Context, work *workplace, run func() error) error {
	if err := work.open(); err != nil {
		return err
	}
	record, err := j.record(work)
	if err == nil {
		j.Log.Info("building " + j.what())
		err = record.close(ctx, run())
	}
	return errors.Join(err, work.close())
}

// buildIn builds in a workplace. It leaves a root tree where programs had to run in it, or where the build started from one.
func (j *job) buildIn(ctx context.Context, work *workplace, target string, leave bool) (*Built, error) {
	phase := rootfs.Whole
	if j.inTree {
		phase = rootfs.Create
	}
	result, err := j.overlay(ctx, phase, work.unpackTo())
	if err != nil {
		return nil, err
	}
	built := &Built{}
	var extra []imagetypes.Extra
	if len(j.Stack.Containers) > 0 {
		built.Report = j.stack.Report
		report, err := json.MarshalIndent(built.Report, "", "  ")
		if err != nil {
			return nil, fmt.Errorf("writing the report of the stack: %w", err)
		}
		extra = append(extra, imagetypes.Extra{Name: ReportFile, Data: append(report, '\n')})
	}
	if built.Results, err = j.results(ctx, result, target, extra...); err != nil {
		return nil, err
	}
	if result.Dir == "" && !leave {
		return built, work.vacate()
	}
	return built, j.leaveTree(ctx, result, work)
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
