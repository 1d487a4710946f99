package ext4

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
)

// Inodes that every file system has.
const (
	rootInode = 2
	lostFound = "lost+found"
)

// span is the logical blocks of a file from start up to but without end.
type span struct{ start, end uint64 }

// plan is where everything of a tree goes in a file system.
type plan struct {
	v     *volume
	alloc *allocator
	notes []layers.Note

	inodes []*inode // in the order of their numbers once made
	byNode map[*layers.Node]*inode
	blocks []*xattrBlock
	shared map[string]*xattrBlock // blocks that may take further inodes, by content

	lostInode  uint32   // of lost+found as mke2fs has made it, 0 if there is none
	lostBlocks int      // that it has had
	largeFile  bool     // a file is so large that a feature flag must say so
	xattrs     bool     // likewise if an inode has extended attributes
	path       []string // of the entry that is being added
}

// newPlan places a tree. If the file system is too small for it, the error is a [*NoSpaceError].
func newPlan(ctx context.Context, v *volume, tree *layers.Tree) (*plan, error) {
	p := &plan{v: v, alloc: &allocator{v: v}, byNode: map[*layers.Node]*inode{}, shared: map[string]*xattrBlock{}}
	if err := p.releaseFresh(); err != nil {
		return nil, err
	}
	root := withLostFound(tree, v)
	if _, err := p.addDir(ctx, root, rootInode, rootInode); err != nil {
		return nil, err
	}
	slices.SortFunc(p.inodes, func(a, b *inode) int { return cmp.Compare(a.number, b.number) })
	if err := p.checkLinks(tree); err != nil {
		return nil, err
	}
	if err := p.place(); err != nil {
		return nil, err
	}
	return p, p.checkSpace()
}

// releaseFresh gives back the blocks of the two directories that mke2fs has made: the root and lost+found. Both are written anew.
func (p *plan) releaseFresh() error {
	p.lostInode = p.v.sb.firstInode
	g, err := p.v.loadInodes(0)
	if err != nil {
		return err
	}
	if !getBit(g.inodes, p.lostInode-1) {
		p.lostInode = 0
	}
	for _, number := range []uint32{rootInode, p.lostInode} {
		if number == 0 {
			continue
		}
		blocks, entries, err := p.v.blocksOf(number)
		if err != nil {
			return err
		}
		for _, block := range blocks {
			if block < p.v.sb.firstDataBlock || block >= p.v.sb.blocks {
				return fmt.Errorf("reading inode %d: it has a block outside of the file system", number)
			}
			if err := p.alloc.release(block); err != nil {
				return err
			}
		}
		if number == p.lostInode {
			p.lostBlocks = entries
		}
	}
	return nil
}

// withLostFound returns the root directory with lost+found in it, which e2fsck needs.
func withLostFound(tree *layers.Tree, v *volume) *layers.Node {
	if tree.Root().Child(lostFound) != nil {
		return tree.Root()
	}
	edit := tree.Edit(layers.Timespec{Sec: int64(v.sb.u32(sbMkfsTime))})
	// Putting a directory at the root of a tree can't fail.
	_ = edit.Put(lostFound, &layers.Node{Mode: layers.TypeDir | 0o700, MTime: edit.ModTime})
	return edit.Tree().Root()
}

// here is the path of the entry that is being added, for notes and errors.
func (p *plan) here() string { return "/" + strings.Join(p.path, "/") }

func (p *plan) note(text string) { p.notes = append(p.notes, layers.Note{Path: p.here(), Text: text}) }

// addDir adds a directory with all below it.
func (p *plan) addDir(ctx context.Context, n *layers.Node, number, parent uint32) (*inode, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	in := p.addInode(n, number)
	in.links, in.parent = 2, parent
	in.dir = &directory{entries: make([]dirent, 0, n.Len())}
	for _, name := range n.Names() {
		p.path = append(p.path, name)
		child, err := p.addEntry(ctx, n.Child(name), name, number)
		if err != nil {
			return nil, err
		}
		if child.dir != nil {
			in.links++
		}
		in.dir.entries = append(in.dir.entries, dirent{name: name, number: child.number, kind: direntKind(child.node.Mode)})
		p.path = p.path[:len(p.path)-1]
	}
	if number == p.lostInode {
		in.dir.least = p.lostBlocks
	}
	in.dir.arrange(p.v.sb)
	return in, nil
}

// addEntry adds one entry of the directory with inode parent.
func (p *plan) addEntry(ctx context.Context, n *layers.Node, name string, parent uint32) (*inode, error) {
	if err := p.check(n, name); err != nil {
		return nil, fmt.Errorf("placing %s: %w", p.here(), err)
	}
	if in := p.byNode[n]; in != nil {
		in.links++
		return in, nil
	}
	if parent == rootInode && name == lostFound && p.lostInode != 0 {
		return p.addDir(ctx, n, p.lostInode, parent)
	}
	number, err := p.alloc.inode()
	if err != nil {
		return nil, err
	}
	if n.IsDir() {
		p.alloc.countDir(number)
		return p.addDir(ctx, n, number, parent)
	}
	in := p.addInode(n, number)
	in.links = 1
	p.byNode[n] = in
	return in, nil
}

// check refuses what an ext file system can't hold at all.
func (p *plan) check(n *layers.Node, name string) error {
	sb := p.v.sb
	blocks := uint64(n.Size+sb.blockSize-1) / uint64(sb.blockSize)
	switch {
	case len(name) > 255 || name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("%q is no name for a file", name)
	case direntKind(n.Mode) == 0:
		return fmt.Errorf("it is an %s", layers.TypeName(n.Mode))
	case len(p.path) == 1 && name == lostFound && !n.IsDir():
		return fmt.Errorf("it is a %s, but e2fsck needs a directory of this name", layers.TypeName(n.Mode))
	case n.IsSymlink() && (n.Target == "" || int64(len(n.Target)) >= sb.blockSize):
		return fmt.Errorf("its target has %d bytes; with blocks of %d bytes it can have 1 to %d", len(n.Target), sb.blockSize, sb.blockSize-1)
	case n.IsDevice() && (n.Major >= 1<<12 || n.Minor >= 1<<20):
		return fmt.Errorf("its device number %d,%d is above 4095,1048575", n.Major, n.Minor)
	case n.IsRegular() && sb.extents() && blocks > 1<<32-1:
		return fmt.Errorf("its size of %d bytes is above the limit of %d", n.Size, (1<<32-1)*sb.blockSize)
	case n.IsRegular() && !sb.extents() && blocks > sb.mapShape().limit():
		return fmt.Errorf("its size of %d bytes is above the limit of %d without extents", n.Size, int64(sb.mapShape().limit())*sb.blockSize)
	}
	return nil
}

// addInode begins the inode of a node.
func (p *plan) addInode(n *layers.Node, number uint32) *inode {
	in := &inode{node: n, number: number}
	if t, note := p.v.sb.fitTime(n.MTime); note != "" {
		p.note(note)
		changed := *n
		changed.MTime = t
		in.node = &changed
	} else if n.MTime.Nsec != 0 && p.v.sb.inodeSize == 128 {
		p.coarseTimes()
	}
	if len(n.Xattrs) > 0 {
		var block []byte
		in.inline, block = p.v.sb.placeXattrs(n.Xattrs, p.note)
		p.xattrs = true
		if block != nil {
			in.block = p.shareXattrs(block)
		}
	}
	if n.IsRegular() && n.Size > 1<<31-1 {
		p.largeFile = true
	}
	p.inodes = append(p.inodes, in)
	return in
}

// coarseTimes notes once that times lose their nanoseconds.
func (p *plan) coarseTimes() {
	text := "times are kept in whole seconds: inodes of 128 bytes hold no more"
	if !slices.Contains(p.notes, layers.Note{Path: "/", Text: text}) {
		p.notes = append(p.notes, layers.Note{Path: "/", Text: text})
	}
}

// shareXattrs returns the block with these attributes, a new one if none of the same content can take a further inode.
func (p *plan) shareXattrs(data []byte) *xattrBlock {
	b := p.shared[string(data)]
	if b == nil || b.users == xattrMaxSharers {
		b = &xattrBlock{data: data}
		p.shared[string(data)] = b
		p.blocks = append(p.blocks, b)
	}
	b.users++
	return b
}

// checkLinks refuses what has more links than an inode can count.
func (p *plan) checkLinks(tree *layers.Tree) error {
	for _, in := range p.inodes {
		switch {
		case in.links <= maxLinks:
		case in.dir == nil:
			return fmt.Errorf("placing %s: it has %d hard links, more than the %d allowed", pathOf(tree, in.node), in.links, maxLinks)
		case p.v.sb.roCompat&roCompatDirNlink == 0:
			return fmt.Errorf("placing %s: it has %d subdirectories, more than the %d allowed without the feature dir_nlink",
				pathOf(tree, in.node), in.links-2, maxLinks-2)
		}
	}
	return nil
}

// pathOf finds a path of a node, for errors.
func pathOf(tree *layers.Tree, n *layers.Node) string {
	found := "a file"
	stop := errors.New("found")
	_ = tree.Walk(func(name string, at *layers.Node) error {
		if at == n {
			found = "/" + name
			return stop
		}
		return nil
	})
	return found
}

// place gives blocks to everything: directories, attributes and long links first, so that they lie together, then the files.
func (p *plan) place() error {
	for _, in := range p.inodes {
		if in.dir != nil {
			if err := p.placeSpans(in, []span{{0, uint64(in.dir.blocks())}}); err != nil {
				return err
			}
		}
	}
	for _, b := range p.blocks {
		start, _, err := p.alloc.block(1)
		if err != nil {
			return err
		}
		b.number = start
	}
	for _, in := range p.inodes {
		if in.node.IsSymlink() && len(in.node.Target) > fastSymlink {
			if err := p.placeSpans(in, []span{{0, 1}}); err != nil {
				return err
			}
		}
	}
	for _, in := range p.inodes {
		if in.node.IsRegular() {
			if err := p.placeSpans(in, dataSpans(in.node, p.v.sb.blockSize)); err != nil {
				return err
			}
		}
	}
	return nil
}

// placeSpans gives blocks to the given logical blocks of an inode, and to the map that leads to them.
func (p *plan) placeSpans(in *inode, spans []span) (err error) {
	if !p.v.sb.extents() {
		if in.mapBlocks, err = p.alloc.single(p.v.sb.mapShape().blocks(spans)); err != nil {
			return err
		}
	}
	for _, s := range spans {
		if in.runs, err = p.alloc.runs(in.runs, s.start, s.end-s.start); err != nil {
			return err
		}
	}
	if p.v.sb.extents() {
		in.mapBlocks, err = p.alloc.single(p.v.sb.extentBlocks(in.runs))
	}
	return err
}

// dataSpans returns which blocks of a regular file hold data.
func dataSpans(n *layers.Node, blockSize int64) []span {
	whole := []layers.Extent{{Offset: 0, Length: n.Size}}
	extents := n.Data
	if extents == nil {
		extents = whole
	}
	var spans []span
	for _, e := range extents {
		if e.Length == 0 {
			continue
		}
		s := span{uint64(e.Offset / blockSize), uint64((e.Offset + e.Length + blockSize - 1) / blockSize)}
		if last := len(spans) - 1; last >= 0 && spans[last].end >= s.start {
			spans[last].end = max(spans[last].end, s.end)
		} else {
			spans = append(spans, s)
		}
	}
	return spans
}

// NoSpaceError says how much larger a file system must be to hold a tree.
type NoSpaceError struct {
	Blocks    uint64 // that are missing
	Inodes    uint64 // that are missing
	BlockSize int64  // bytes
}

// Error implements error.
func (e *NoSpaceError) Error() string {
	switch {
	case e.Inodes > 0 && e.Blocks > 0:
		return fmt.Sprintf("the file system is too small: %d MiB and %d inodes are missing", e.mebibytes(), e.Inodes)
	case e.Inodes > 0:
		return fmt.Sprintf("the file system has too few inodes: %d are missing; give mkfs a larger number with -N or fewer bytes per inode with -i", e.Inodes)
	}
	return fmt.Sprintf("the file system is too small: %d MiB are missing", e.mebibytes())
}

func (e *NoSpaceError) mebibytes() int64 { return (int64(e.Blocks)*e.BlockSize + 1<<20 - 1) >> 20 }

func (p *plan) checkSpace() error {
	if p.alloc.missing == 0 && p.alloc.missingInodes == 0 {
		return nil
	}
	return &NoSpaceError{p.alloc.missing, p.alloc.missingInodes, p.v.sb.blockSize}
}
