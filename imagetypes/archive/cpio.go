package archive

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/cpio"
	"github.com/imgbuild/imgbuild/internal/ctxio"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/layers"
)

// checkCPIO refuses a tree with a file that is too large for the form newc.
func checkCPIO(t *description.Type, tree *layers.Tree) error {
	if tree == nil {
		return nil
	}
	return tree.Walk(func(name string, n *layers.Node) error {
		if n.IsRegular() && n.Size > math.MaxUint32 {
			return t.Errorf("image", "build another type, such as tar.zst", "/%s has %d bytes, and a cpio archive holds no file of more than 4 GiB - 1", name, n.Size)
		}
		return nil
	})
}

// lostInCPIO tells which extended attributes and times have no place in the form newc.
func lostInCPIO(tree *layers.Tree) (lost []layers.Note) {
	_ = tree.Walk(func(name string, n *layers.Node) error { // it returns what the function does
		for _, x := range n.Xattrs {
			lost = append(lost, layers.Note{Path: "/" + name, Text: "its extended attribute " + x.Name})
		}
		if n.MTime.Sec < 0 || n.MTime.Sec > math.MaxUint32 {
			lost = append(lost, layers.Note{Path: "/" + name, Text: "its time, which is before 1970 or after 2106"})
		}
		return nil
	})
	return lost
}

// writeCPIO writes the tree as an archive that the kernel unpacks as its root file system. It has no place for extended attributes, and files that were
// sparse are so no longer.
func writeCPIO(ctx context.Context, out io.Writer, tree *layers.Tree, task progress.Task) error {
	buffered := bufio.NewWriterSize(out, 1<<20)
	names := map[*layers.Node]uint32{} // how many a node has
	var nodes []*layers.Node
	err := tree.Walk(func(_ string, n *layers.Node) error {
		if names[n]++; names[n] == 1 {
			nodes = append(nodes, n)
		}
		return nil
	})
	if err != nil {
		return err
	}
	contents := layers.OpenInOrder(ctx, lastNames(tree, names))
	defer contents.Close()
	inodes := map[*layers.Node]uint32{}
	for i, n := range nodes {
		inodes[n] = uint32(i + 1)
	}
	w := cpio.NewWriter(buffered)
	left := map[*layers.Node]uint32{}
	err = tree.Walk(func(name string, n *layers.Node) error {
		h := cpio.Header{
			Name: name, Ino: inodes[n], Mode: n.Mode, UID: n.UID, GID: n.GID, Links: names[n], MTime: n.MTime.Sec, Major: n.Major, Minor: n.Minor,
		}
		left[n]++
		last := left[n] == names[n]
		switch {
		case n.IsSymlink():
			h.Size = int64(len(n.Target))
			if err := w.WriteHeader(h); err != nil {
				return err
			}
			_, err := io.WriteString(w, n.Target)
			return err
		case !n.IsRegular() || !last:
			return w.WriteHeader(h)
		}
		h.Size = n.Size
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		data, err := contents.Open(n)
		if err != nil {
			return fmt.Errorf("reading /%s: %w", name, err)
		}
		defer data.Close()
		written, err := io.Copy(w, ctxio.Reader(ctx, data))
		task.Add(written)
		return err
	})
	if err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return buffered.Flush()
}

// lastNames returns the nodes of a tree in the order in which their last name comes, which is where a cpio archive has their content.
func lastNames(tree *layers.Tree, names map[*layers.Node]uint32) []*layers.Node {
	var nodes []*layers.Node
	seen := map[*layers.Node]uint32{}
	_ = tree.Walk(func(_ string, n *layers.Node) error { // it returns what the function does
		if seen[n]++; seen[n] == names[n] {
			nodes = append(nodes, n)
		}
		return nil
	})
	return nodes
}
