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
	for _, name := range opts.Containers {
		image, tree, err := fetch(ctx, client, name, opts)
		if err != nil {
			return err
		}
		s.open = append(s.open, tree)
		s.Images, s.Trees = append(s.Images, image), append(s.Trees, tree.Tree)
		about, err := describe(image, tree.Tree)
		if err != nil {
			return fmt.Errorf("reading container %s: %w", name, err)
		}
		s.Report.Containers = append(s.Report.Containers, about)
	}
	if err := s.Report.compare(s.Trees); err != nil {
		return err
	}
	if err := s.Report.fatal(); err != nil && !opts.Force {
		return err
	}
	if len(s.Trees) == 1 {
		s.Tree = s.Trees[0]
		return nil
	}
	merged, clashes, err := layers.Merge(s.Trees, layers.MergeOptions{Rule: opts.Rule})
	if err != nil {
		return fmt.Errorf("stacking %d containers: %w", len(s.Trees), err)
	}
	s.Tree = merged
	for _, c := range clashes {
		s.Report.Clashes = append(s.Report.Clashes, Clash{Path: c.Path, Kind: c.Kind.String(),
			From: s.Report.Containers[c.From].Name, Took: s.Report.Containers[c.Took].Name})
	}
	return nil
}

// fetch fetches a container and reads its layers, those that have to be pulled while they come.
func fetch(ctx context.Context, client *registry.Client, name string, opts Options) (*registry.Image, *container.Tree, error) {
	read := layers.ReadOptions{Spool: true, Stage: opts.Stage}
	early := container.NewEarly(ctx, read)
	defer early.Close()
	opts.Fetch.Arriving = early.Read
	image, err := client.Fetch(ctx, name, opts.Fetch)
	if err != nil {
		return nil, nil, err
	}
	tree, err := container.Open(ctx, image.Image, image, container.Options{Read: read, Early: early, Log: opts.Log})
	if err != nil {
		return nil, nil, fmt.Errorf("reading container %s: %w", name, err)
	}
	return image, tree, nil
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
