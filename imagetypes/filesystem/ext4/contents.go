package ext4

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/imgbuild/imgbuild/layers"
)

// writeContents writes what is in the regular files, in the order in which it is cheapest to read.
func (p *plan) writeContents(ctx context.Context, out *output, tree *layers.Tree, opts Options) error {
	var nodes []*layers.Node
	for _, in := range p.inodes {
		if in.node.IsRegular() && in.node.DataSize() > 0 {
			nodes = append(nodes, in.node)
		}
	}
	byNode := make(map[*layers.Node]*inode, len(nodes))
	for _, in := range p.inodes {
		byNode[in.node] = in
	}
	order := newFinality(p, byNode, nodes)
	out.final = order.final()
	return layers.EachContent(ctx, nodes, func(n *layers.Node, data io.Reader) error {
		if opts.Observe != nil {
			if observer := opts.Observe(n); observer != nil {
				data = io.TeeReader(data, observer)
			}
		}
		out.inOrder = order.isNext(n)
		if err := p.writeContent(out, byNode[n], data); err != nil {
			return fmt.Errorf("writing %s: %w", pathOf(tree, n), err)
		}
		out.final, out.inOrder = order.done(n), false
		if opts.Progress != nil {
			opts.Progress(n.DataSize())
		}
		return nil
	})
}

// writeContent writes one file's data to its blocks.
func (p *plan) writeContent(out *output, in *inode, data io.Reader) error {
	whole := [1]layers.Extent{{Offset: 0, Length: in.node.Size}}
	extents := in.node.Data
	if extents == nil {
		extents = whole[:]
	}
	runs, blockSize := in.runs, p.v.sb.blockSize
	for _, e := range extents {
		for at, end := e.Offset, e.Offset+e.Length; at < end; {
			for int64(runs[0].logical+runs[0].count)*blockSize <= at {
				runs = runs[1:]
			}
			start := int64(runs[0].logical) * blockSize
			n := min(end, start+int64(runs[0].count)*blockSize) - at
			if err := out.copyFrom(p.v.at(runs[0].start)+at-start, data, n); err != nil {
				return err
			}
			at += n
		}
	}
	return nil
}

// finality knows up to where everything is written. No file has a block between those of another, as blocks are given out in their order.
type finality struct {
	plan    *plan
	byNode  map[*layers.Node]*inode
	nodes   []*layers.Node // by their places, from the first one on that is not written
	written map[*layers.Node]bool
}

func newFinality(p *plan, byNode map[*layers.Node]*inode, nodes []*layers.Node) *finality {
	f := &finality{plan: p, byNode: byNode, nodes: slices.Clone(nodes), written: map[*layers.Node]bool{}}
	slices.SortStableFunc(f.nodes, func(a, b *layers.Node) int { return cmp.Compare(byNode[a].runs[0].start, byNode[b].runs[0].start) })
	return f
}

// isNext reports whether all before a file is written.
func (f *finality) isNext(n *layers.Node) bool { return len(f.nodes) > 0 && f.nodes[0] == n }

// done notes that a file is written.
func (f *finality) done(n *layers.Node) int64 {
	f.written[n] = true
	for len(f.nodes) > 0 && f.written[f.nodes[0]] {
		delete(f.written, f.nodes[0])
		f.nodes = f.nodes[1:]
	}
	return f.final()
}

// final is where the first file begins that is not written, and 0 if there is none.
func (f *finality) final() int64 {
	if len(f.nodes) == 0 {
		return 0
	}
	return f.plan.v.at(f.byNode[f.nodes[0]].runs[0].start)
}
