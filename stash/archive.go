package stash

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"

	"github.com/imgbuild/imgbuild/layers"
)

// archive is a tar file, compressed or not, as the source of a tree.
type archive struct {
	*os.File
	size int64
}

func (a *archive) Size() int64 { return a.size }

// openArchive returns the tree that a tar archive of a root tree holds. Owners, devices and capabilities are as the archive has them,
// whoever reads it. The tree's contents lie in the file until it is closed.
func openArchive(ctx context.Context, file string, exclude []string) (*layers.Tree, *archive, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, nil, err
	}
	a := &archive{File: f}
	tree, err := readArchive(ctx, a, exclude)
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("reading the archive %s: %w", file, err)
	}
	return tree, a, nil
}

func readArchive(ctx context.Context, a *archive, exclude []string) (*layers.Tree, error) {
	info, err := a.Stat()
	if err != nil {
		return nil, err
	}
	a.size = info.Size()
	layer, err := layers.ReadLayer(ctx, a, layers.ReadOptions{Spool: true, Plain: true})
	if err != nil {
		return nil, err
	}
	tree, err := layers.Apply(layers.NewTree(), layer)
	if err != nil {
		return nil, err
	}
	return leaveOut(tree, exclude)
}

// leaveOut removes from a tree what a scan of a directory leaves out: excluded names, and what is in directories of the running machine.
func leaveOut(tree *layers.Tree, exclude []string) (*layers.Tree, error) {
	patterns, err := layers.ParseExcludes(exclude)
	if err != nil {
		return nil, err
	}
	edit := tree.Edit(layers.Timespec{})
	err = tree.Walk(func(name string, n *layers.Node) error {
		if name == "." || !layers.IsVolatile(path.Dir(name)) && !patterns.Match(name, n.IsDir()) {
			return nil
		}
		if err := edit.Remove(name); err != nil {
			return err
		}
		if n.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
	return edit.Tree(), err
}
