package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/registry"
	"github.com/imgbuild/imgbuild/rootfs"
)

// ReportFile is the name of the stack's report beside the results.
const ReportFile = "stack.report.json"

// BuildOptions says what to build of a stack.
type BuildOptions struct {
	Options
	// Description is the directory of the description. Empty means the one in the last container's /image, which is built again
	// without any repository.
	Description string
	// File is the name of the description's file in its directory; empty for the usual names.
	File string
	// Selection chooses profiles, type and architecture.
	Selection description.Selection
	// Overrides change the description from the command line.
	Overrides description.Overrides
	// TargetDir is where the results appear.
	TargetDir string
	// PackageCache is a directory for downloaded packages; empty for none.
	PackageCache string
	// Repro gives the time and ids of the build.
	Repro repro.Source
}

// Built is what a build made.
type Built struct {
	Report *Report
	// Results are the files in the target directory, the image first.
	Results *imagetypes.Results
}

// Build fetches and stacks containers, adds what the description asks for, and makes the image.
func Build(ctx context.Context, client *registry.Client, opts BuildOptions) (*Built, error) {
	opts.fill()
	work := &workdir{target: opts.TargetDir}
	if err := work.check(opts.Force); err != nil {
		return nil, err
	}
	var image *description.Image
	if opts.Description != "" { // before anything is pulled
		var err error
		if image, err = loadDescription(opts); err != nil {
			return nil, err
		}
		if err := imagetypes.Check(ctx, imagetypes.CreateOptions{Description: image, TargetDir: opts.TargetDir, Log: opts.Log}); err != nil {
			return nil, err
		}
	}
	s, err := Make(ctx, client, opts.Options)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	rebuild := image == nil
	if rebuild {
		if image, err = s.description(opts); err != nil {
			return nil, err
		}
	}
	if err := work.open(); err != nil {
		return nil, err
	}
	built, err := s.build(ctx, image, rebuild, work, opts)
	if err == nil {
		err = work.finish()
	}
	if err := errors.Join(err, work.close()); err != nil {
		return nil, err
	}
	return built, nil
}

func (s *Stack) build(ctx context.Context, image *description.Image, rebuild bool, work *workdir, opts BuildOptions) (*Built, error) {
	source := opts.Repro.With(s.inputs()...)
	overlay, err := rootfs.Overlay(ctx, rootfs.Request{
		Tree: s.Tree, Description: image, Phase: phase(rebuild), Dir: work.unpackTo(),
		PackageCache: opts.PackageCache, Repro: source, Progress: opts.Progress, Log: opts.Log,
	})
	if err != nil {
		return nil, err
	}
	tree := overlay.Tree
	if source.Fixed {
		tree = layers.Clamp(tree, layers.TimespecOf(source.Epoch))
	}
	report, err := json.MarshalIndent(s.Report, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("writing the report of the stack: %w", err)
	}
	results, err := imagetypes.Create(ctx, imagetypes.CreateOptions{
		Tree: tree, Description: image, TargetDir: opts.TargetDir, Repro: source, Progress: opts.Progress, Log: opts.Log,
		Extra: []imagetypes.Extra{{Name: ReportFile, Data: append(report, '\n')}},
	})
	if err != nil {
		return nil, err
	}
	return &Built{Report: s.Report, Results: results}, nil
}

// phase is what is to be done: a container's own description has been obeyed before.
func phase(rebuild bool) rootfs.Phase {
	if rebuild {
		return rootfs.Create
	}
	return rootfs.Whole
}

// inputs are what ids derive from: the containers, by digest.
func (s *Stack) inputs() []string {
	inputs := []string{s.Report.Rule}
	for _, c := range s.Report.Containers {
		inputs = append(inputs, c.Digest)
	}
	return inputs
}

func loadDescription(opts BuildOptions) (*description.Image, error) {
	doc, err := description.Load(opts.Description, description.LoadOptions{File: opts.File})
	if err != nil {
		return nil, err
	}
	for _, w := range doc.Warnings {
		opts.Log.Warn(w.Error())
	}
	return resolve(doc, opts)
}

func resolve(doc *description.Document, opts BuildOptions) (*description.Image, error) {
	image, err := doc.Resolve(opts.Selection)
	if err != nil {
		return nil, err
	}
	return image.With(opts.Overrides)
}

// description loads what the last container brings in /image.
func (s *Stack) description(opts BuildOptions) (*description.Image, error) {
	last := s.open[len(s.open)-1]
	name := s.Report.Containers[len(s.open)-1].Name
	if _, node, err := last.Resolve("image"); err != nil || !node.IsDir() {
		return nil, fmt.Errorf("rebuilding container %s: it has no description in /image; give one with --description", name)
	}
	doc, err := description.LoadFS(last.FS("image"), name+":/image", description.LoadOptions{File: opts.File})
	if err != nil {
		return nil, fmt.Errorf("rebuilding container %s after its /image: %w", name, err)
	}
	return resolve(doc, opts)
}
