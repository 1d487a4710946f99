// Package stack makes one root tree of several containers and a machine image of that.
package stack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/layers/container"
	"github.com/imgbuild/imgbuild/registry"
	"github.com/imgbuild/imgbuild/rootfs/inspect"
)

// Options says which containers to stack and how.
type Options struct {
	// Containers are the names, in stack order: a later one wins.
	Containers []string
	// Fetch says where they are looked for.
	Fetch registry.FetchOptions
	// Rule says how a directory meets a symbolic link.
	Rule layers.MergeRule
	// Force stacks containers of different architectures too.
	Force bool
	// Stage takes the files of layers that have to be read, if the tree is going to be written into a directory; nil for none.
	Stage *layers.Stage
	// Progress shows the work; nil shows nothing.
	Progress progress.Reporter
	// Log gets what happens on the way; nil drops it.
	Log *slog.Logger
}

func (o *Options) fill() {
	if o.Progress == nil {
		o.Progress = progress.Discard
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// ErrDelta says that a container which holds a difference alone does not lie on what it is the difference to.
var ErrDelta = errors.New("the stack lacks the base of a container")

// Stack is the root tree made of several containers.
type Stack struct {
	// Tree is the merged tree. Its contents lie in the containers' blobs until Close.
	Tree   *layers.Tree
	Report *Report
	// Images are the containers and Trees their root trees, in stack order.
	Images []*registry.Image
	Trees  []*layers.Tree

	open []*container.Tree
}

// Close closes what the tree's contents lie in.
func (s *Stack) Close() error {
	var errs []error
	for _, t := range s.open {
		errs = append(errs, t.Close())
	}
	s.open = nil
	return errors.Join(errs...)
}

// Make fetches containers and stacks them. The caller closes the stack.
func Make(ctx context.Context, client *registry.Client, opts Options) (*Stack, error) {
	opts.fill()
	if len(opts.Containers) == 0 {
		return nil, errors.New("stacking containers: none given")
	}
	s := &Stack{Report: &Report{Rule: opts.Rule.String(), Clashes: []Clash{}, Accounts: []AccountClash{}, Mismatches: []Mismatch{}}}
	if err := s.make(ctx, client, opts); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Stack) make(ctx context.Context, client *registry.Client, opts Options) error {
	first := 0 // the trees from here on are still to be merged
	for i, name := range opts.Containers {
		delta, err := s.add(ctx, client, &fetching{Options: opts, name: name}, first)
		if err != nil {
			return err
		}
		if delta {
			first = i
		}
	}
	if err := s.Report.compare(s.Trees); err != nil {
		return err
	}
	if err := s.Report.fatal(); err != nil && !opts.Force {
		return err
	}
	var err error
	s.Tree, err = s.merge(first, opts.Rule)
	return err
}

// add fetches a container and reads it. A delta container's tree is the one that comes of the trees from first on by its layers.
func (s *Stack) add(ctx context.Context, client *registry.Client, f *fetching, first int) (delta bool, err error) {
	f.read = layers.ReadOptions{Spool: true, Stage: f.Stage}
	f.early = container.NewEarly(ctx, f.read)
	defer f.early.Close()
	image, err := f.fetch(ctx, client)
	if err != nil {
		return false, err
	}
	if f.deltaOf != "" {
		if f.base, err = s.baseOf(f, first); err != nil {
			return false, err
		}
	}
	tree, err := f.open(ctx, image)
	if err != nil {
		return false, err
	}
	s.open = append(s.open, tree)
	s.Images, s.Trees = append(s.Images, image), append(s.Trees, tree.Tree)
	about, err := describe(image, tree.Tree)
	if err != nil {
		return false, fmt.Errorf("reading container %s: %w", f.name, err)
	}
	s.Report.Containers = append(s.Report.Containers, about)
	return f.deltaOf != "", nil
}

// merge merges the trees from first on.
func (s *Stack) merge(first int, rule layers.MergeRule) (*layers.Tree, error) {
	trees := s.Trees[first:]
	if len(trees) == 1 {
		return trees[0], nil
	}
	merged, clashes, err := layers.Merge(trees, layers.MergeOptions{Rule: rule})
	if err != nil {
		return nil, fmt.Errorf("stacking %d containers: %w", len(trees), err)
	}
	for _, c := range clashes {
		s.Report.Clashes = append(s.Report.Clashes, Clash{Path: c.Path, Kind: c.Kind.String(),
			From: s.Report.Containers[first+c.From].Name, Took: s.Report.Containers[first+c.Took].Name})
	}
	return merged, nil
}

// baseOf returns the tree that a delta container changes: what is stacked below it, from first on. One of those containers must be the one that the
// difference was made to.
func (s *Stack) baseOf(f *fetching, first int) (*layers.Tree, error) {
	known := false
	for _, image := range s.Images {
		own, err := image.Image.Digest()
		if err != nil {
			return nil, err
		}
		known = known || f.deltaOf == own.String() || f.deltaOf == image.Digest.String()
	}
	switch {
	case len(s.Images) == 0:
		return nil, fmt.Errorf("%w: container %s is only the difference to %s; stack it on that one", ErrDelta, f.name, f.deltaOf)
	case !known && !f.Force:
		return nil, fmt.Errorf("%w: container %s is the difference to %s, which is none of those below it; stack it on that one, or use --force", ErrDelta, f.name, f.deltaOf)
	}
	return s.merge(first, f.Rule)
}

// fetching is one container on its way into the stack.
type fetching struct {
	Options
	name    string
	read    layers.ReadOptions
	early   *container.Early
	deltaOf string       // the digest of the container that it is the difference to, "" for a whole one
	base    *layers.Tree // what its layers change; nil for a whole one
}

// fetch fetches the container. Layers that have to be pulled are read while they come.
func (f *fetching) fetch(ctx context.Context, client *registry.Client) (*registry.Image, error) {
	fetch := f.Fetch
	fetch.Arriving = f.early.Read
	image, err := client.Fetch(ctx, f.name, fetch)
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("reading container %s: %w", f.name, err)
	}
	f.deltaOf = config.Config.Labels[container.DeltaLabel]
	return image, nil
}

// open makes the tree.
func (f *fetching) open(ctx context.Context, image *registry.Image) (*container.Tree, error) {
	tree, err := container.Open(ctx, image.Image, image, container.Options{Base: f.base, Read: f.read, Early: f.early, Log: f.Log})
	if err != nil {
		return nil, fmt.Errorf("reading container %s: %w", f.name, err)
	}
	return tree, nil
}

// describe tells what a container is, by its config and its tree.
func describe(image *registry.Image, tree *layers.Tree) (Container, error) {
	config, err := image.ConfigFile()
	if err != nil {
		return Container{}, err
	}
	distribution, err := inspect.Distribution(tree)
	if err != nil {
		return Container{}, err
	}
	stats := tree.Stats()
	return Container{Name: image.Name, Digest: image.Digest.String(), From: image.From,
		Architecture: inspect.MachineOf(config.Architecture, config.Variant), Distribution: distribution,
		Packages: inspect.PackageDatabases(tree), Entries: stats.Entries, Bytes: stats.Bytes}, nil
}
