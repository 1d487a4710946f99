package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/registry"
	"github.com/imgbuild/imgbuild/rootfs"
)

// ReportFile is the name of the stack's report beside the results.
const ReportFile = "stack.report.json"

// RootDir is where below the target directory the root tree is unpacked if programs must run in it, as in KIWI.
const RootDir = "build/image-root"

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

// ErrTargetInUse says that the target directory holds a root tree of an earlier build.
var ErrTargetInUse = errors.New("it holds a root tree already")

// Built is what a build made.
type Built struct {
	Report *Report
	// Results are the files in the target directory, the image first.
	Results *imagetypes.Results
}

// Build fetches and stacks containers, adds what the description asks for, and makes the image.
func Build(ctx context.Context, client *registry.Client, opts BuildOptions) (*Built, error) {
	opts.fill()
	if err := checkTarget(opts.TargetDir, opts.Force); err != nil {
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
	built, err := s.build(ctx, image, rebuild, opts)
	return built, err
}

func (s *Stack) build(ctx context.Context, image *description.Image, rebuild bool, opts BuildOptions) (*Built, error) {
	source := opts.Repro.With(s.inputs()...)
	overlay, err := rootfs.Overlay(ctx, rootfs.Request{
		Tree: s.Tree, Description: image, Rebuild: rebuild, Dir: filepath.Join(opts.TargetDir, RootDir),
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

// inputs are what ids derive from: the containers, by digest.
func (s *Stack) inputs() []string {
	inputs := []string{s.Report.Rule}
	for _, c := range s.Report.Containers {
		inputs = append(inputs, c.Digest)
	}
	return inputs
}

// checkTarget refuses a target directory with a root tree in it.
func checkTarget(dir string, force bool) error {
	root := filepath.Join(dir, RootDir)
	_, err := os.Lstat(root)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("looking at the target directory: %w", err)
	case !force:
		return fmt.Errorf("building into %s: %w, %s; give another directory, remove it, or --force to replace it", dir, ErrTargetInUse, root)
	}
	if err := os.RemoveAll(root); err != nil {
		return fmt.Errorf("replacing the root tree of an earlier build: %w", err)
	}
	return nil
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
