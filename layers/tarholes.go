package layers

import (
	"io"
	"slices"
)

// wholeBlocks returns the tree with the data of sparse files widened to whole tar blocks, because GNU tar and mksquashfs take each piece of a sparse
// file in a tar to be a whole number of blocks.
func wholeBlocks(tree *Tree) (*Tree, error) {
	edit := tree.Edit(Timespec{})
	changed := map[*Node]*Node{}
	err := tree.Walk(func(name string, n *Node) error {
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
func ragged(n *Node) bool {
	for _, e := range n.Data {
		end := e.Offset + e.Length
		if e.Offset%tarBlock != 0 || end%tarBlock != 0 && end != n.Size {
			return true
		}
	}
	return false
}

func widen(n *Node) *Node {
	wide := *n
	wide.Data = []Extent{}
	for _, e := range n.Data {
		if e.Length == 0 {
			continue
		}
		start := e.Offset / tarBlock * tarBlock
		end := min((e.Offset+e.Length+tarBlock-1)/tarBlock*tarBlock, n.Size)
		if last := len(wide.Data) - 1; last >= 0 && wide.Data[last].Offset+wide.Data[last].Length >= start {
			wide.Data[last].Length = end - wide.Data[last].Offset
		} else {
			wide.Data = append(wide.Data, Extent{Offset: start, Length: end - start})
		}
	}
	wide.Content = widened{n, wide.Data}
	return &wide
}

// widened is the content of a sparse file with zeros around its pieces.
type widened struct {
	node    *Node
	extents []Extent
}

// Open implements [Content].
func (w widened) Open() (io.ReadCloser, error) {
	data, err := w.node.Content.Open()
	if err != nil {
		return nil, err
	}
	var parts []io.Reader
	zeros := func(n int64) { parts = append(parts, io.LimitReader(endlessZeros{}, n)) }
	pieces := slices.DeleteFunc(slices.Clone(w.node.Data), func(e Extent) bool { return e.Length == 0 })
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

// endlessZeros gives zeros without end.
type endlessZeros struct{}

func (endlessZeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
