package filesystem

import (
	"io"

	"github.com/imgbuild/imgbuild/layers"
)

// tarBlock is what GNU tar and mksquashfs take each piece of a sparse file to be a multiple of, in bytes.
const tarBlock = 512

// wholeBlocks returns the tree with the data of sparse files widened to whole tar blocks, for tools that read a tar with holes.
func wholeBlocks(tree *layers.Tree) (*layers.Tree, error) {
	edit := tree.Edit(layers.Timespec{})
	changed := map[*layers.Node]*layers.Node{}
	err := tree.Walk(func(name string, n *layers.Node) error {
		if n.Data == nil || !ragged(n) {
			return nil
		}
		if changed[n] == nil {
			changed[n] = widen(n)
		}
		return edit.Put(name, changed[n]) // the same node again for a hard link
	})
	return edit.Tree(), err
}

// ragged reports whether a piece of the file's data begins or ends within a block, but for the file's end.
func ragged(n *layers.Node) bool {
	for _, e := range n.Data {
		end := e.Offset + e.Length
		if e.Offset%tarBlock != 0 || end%tarBlock != 0 && end != n.Size {
			return true
		}
	}
	return false
}

func widen(n *layers.Node) *layers.Node {
	wide := *n
	wide.Data = []layers.Extent{}
	for _, e := range n.Data {
		if e.Length == 0 {
			continue
		}
		start := e.Offset / tarBlock * tarBlock
		end := min((e.Offset+e.Length+tarBlock-1)/tarBlock*tarBlock, n.Size)
		if last := len(wide.Data) - 1; last >= 0 && wide.Data[last].Offset+wide.Data[last].Length >= start {
			wide.Data[last].Length = end - wide.Data[last].Offset
		} else {
			wide.Data = append(wide.Data, layers.Extent{Offset: start, Length: end - start})
		}
	}
	wide.Content = widened{n, wide.Data}
	return &wide
}

// widened is the content of a sparse file with zeros around its pieces.
type widened struct {
	node    *layers.Node
	extents []layers.Extent
}

// Open implements [layers.Content].
func (w widened) Open() (io.ReadCloser, error) {
	data, err := w.node.Content.Open()
	if err != nil {
		return nil, err
	}
	var parts []io.Reader
	zeros := func(n int64) { parts = append(parts, io.LimitReader(zeroReader{}, n)) }
	pieces := w.node.Data
	for _, wide := range w.extents {
		at, end := wide.Offset, wide.Offset+wide.Length
		for ; len(pieces) > 0 && pieces[0].Offset < end; pieces = pieces[1:] {
			zeros(pieces[0].Offset - at)
			parts = append(parts, io.LimitReader(data, pieces[0].Length))
			at = pieces[0].Offset + pieces[0].Length
		}
		zeros(end - at)
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(parts...), data}, nil
}

// zeroReader gives zeros without end.
type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
