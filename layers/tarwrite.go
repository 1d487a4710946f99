package layers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// TarOptions says how [WriteTar] writes.
type TarOptions struct {
	// Sparse writes files with holes in GNU's sparse format 1.0 for pax, which GNU tar, bsdtar, Go and mksquashfs read. Without
	// it holes are written as zeros.
	Sparse bool

	// AnyOrder allows to write directories first, sorted, and then files in the order in which their contents are cheapest to read. Without it
	// all entries are sorted, parents first, names in byte order.
	AnyOrder bool

	// Progress, if not nil, is called with how many more bytes of the tar are done.
	Progress func(n int64)
}

// WriteTar writes a tree as a tar stream. Its bytes depend on the tree and the options alone; with AnyOrder also on where the contents lie.
func WriteTar(ctx context.Context, w io.Writer, t *Tree, opts TarOptions) error {
	out := bufio.NewWriterSize(progressWriter{w, opts.Progress}, 1<<20)
	tw := newTarWriter(ctx, out)
	holes := holesAsZeros
	var err error
	if opts.Sparse {
		holes = holesSparse
		if t, err = wholeBlocks(t); err != nil {
			return fmt.Errorf("writing a tar: %w", err)
		}
	}
	if opts.AnyOrder {
		err = tw.writeAnyOrder(t, holes)
	} else {
		err = tw.writeSorted(t, holes)
	}
	if err == nil {
		err = tw.close()
	}
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		return fmt.Errorf("writing a tar: %w", err)
	}
	return nil
}

type progressWriter struct {
	w    io.Writer
	done func(int64)
}

func (p progressWriter) Write(data []byte) (int, error) {
	n, err := p.w.Write(data)
	if p.done != nil {
		p.done(int64(n))
	}
	return n, err
}

// holeMode is how a tar holds files with holes.
type holeMode int

const (
	holesAsZeros holeMode = iota // as zeros, and nobody will know
	holesKept                    // as zeros, with a record that says where they are
	holesSparse                  // not at all, in GNU's sparse format
)

// tarSink takes a tar stream; ReadFrom must read to the end of what it is given.
type tarSink interface {
	io.Writer
	io.ReaderFrom
}

// tarWriter writes entries of a tar stream.
type tarWriter struct {
	ctx     context.Context
	w       tarSink
	pos     int64 // bytes written so far
	headers tarHeaders
	first   map[*Node]string // under which name the stream holds a node, for hard links
	zero    []byte
	open    func(*Node) (io.ReadCloser, error) // opens a content, each once
}

func newTarWriter(ctx context.Context, w tarSink) *tarWriter {
	return &tarWriter{ctx: ctx, w: w, first: map[*Node]string{}, zero: make([]byte, 64<<10),
		open: func(n *Node) (io.ReadCloser, error) { return n.Content.Open() }}
}

// placed says where a file's content went.
type placed struct {
	content bool     // false for an entry without content of its own
	offset  int64    // of the first byte behind all headers
	extents []Extent // Node.Data as the tar has it
}

// put writes one entry with its content, or a hard link if the node is in the stream already.
func (t *tarWriter) put(name string, n *Node, holes holeMode) (placed, error) {
	return t.putFrom(name, n, holes, nil)
}

// putFrom is put with the content's data at hand; data may be nil.
func (t *tarWriter) putFrom(name string, n *Node, holes holeMode, data io.Reader) (placed, error) {
	if t.ctx.Err() != nil {
		return placed{}, context.Cause(t.ctx)
	}
	h, err := tarEntryOf(name, n)
	if err != nil {
		return placed{}, err
	}
	if !n.IsDir() {
		if first, ok := t.first[n]; ok {
			// The metadata comes again with the link, since some readers change the owner of the file once more and that takes
			// its capabilities away.
			h.flag, h.link, h.major, h.minor = tarLink, first, 0, 0
			return placed{}, t.header(&h)
		}
		t.first[n] = name
	}
	if !n.IsRegular() {
		return placed{}, t.header(&h)
	}
	p := placed{content: n.DataSize() > 0, extents: n.Data}
	h.size = n.Size
	if n.Data == nil {
		holes = holesAsZeros
	}
	var sparseMap []byte
	switch holes {
	case holesKept:
		var text string
		text, p.extents = dataMap(n.Data)
		h.records = []string{paxDataMap, text}
	case holesSparse:
		sparseMap = t.sparseHeader(&h, n)
	}
	if err := t.header(&h); err != nil {
		return placed{}, err
	}
	if err := t.write(sparseMap); err != nil {
		return placed{}, err
	}
	p.offset = t.pos
	if err := t.content(n, holes != holesSparse, data); err != nil {
		return placed{}, fmt.Errorf("reading /%s: %w", name, err)
	}
	return p, t.write(t.zero[:padding(t.pos)])
}

// sparseHeader makes h that of a sparse file and returns the map that comes before the data (GNU tar manual, "PAX Format, Version
// 1.0"): the number of extents and then offset and length of each, one decimal number per line, filled up to a block.
func (t *tarWriter) sparseHeader(h *tarEntry, n *Node) []byte {
	extents := n.Data
	if len(extents) == 0 || extents[len(extents)-1].Offset+extents[len(extents)-1].Length < n.Size {
		extents = append(extents[:len(extents):len(extents)], Extent{Offset: n.Size})
	}
	text := append(strconv.AppendInt(nil, int64(len(extents)), 10), '\n')
	for _, e := range extents {
		text = append(strconv.AppendInt(text, e.Offset, 10), '\n')
		text = append(strconv.AppendInt(text, e.Length, 10), '\n')
	}
	text = append(text, t.zero[:padding(int64(len(text)))]...)
	h.records = []string{
		"GNU.sparse.major", "1", "GNU.sparse.minor", "0",
		"GNU.sparse.name", h.name, "GNU.sparse.realsize", strconv.FormatInt(n.Size, 10),
	}
	h.name = "GNUSparseFile.0/" + h.name
	h.size = int64(len(text)) + n.DataSize()
	return text
}

// content writes the data of n, with its holes as zeros if dense is set.
func (t *tarWriter) content(n *Node, dense bool, data io.Reader) error {
	if data == nil && n.Content != nil {
		r, err := t.open(n)
		if err != nil {
			return err
		}
		defer r.Close()
		data = r
	}
	if n.Data == nil {
		return t.copy(data, n.Size)
	}
	var at int64
	for _, e := range n.Data {
		if dense {
			if err := t.zeros(e.Offset - at); err != nil {
				return err
			}
		}
		if err := t.copy(data, e.Length); err != nil {
			return err
		}
		at = e.Offset + e.Length
	}
	if dense {
		return t.zeros(n.Size - at)
	}
	return nil
}

// errNoContent says that a node with data has no content, which is a mistake of the program.
var errNoContent = errors.New("the file has no content")

// copyStep is how many bytes are copied before the context is asked again.
const copyStep = 16 << 20

func (t *tarWriter) copy(r io.Reader, size int64) error {
	if size > 0 && r == nil {
		return errNoContent
	}
	limited := io.LimitedReader{R: r}
	for size > 0 {
		if t.ctx.Err() != nil {
			return context.Cause(t.ctx)
		}
		step := min(size, copyStep)
		limited.N = step
		n, err := t.w.ReadFrom(&limited)
		t.pos += n
		if err != nil {
			return err
		}
		if n != step {
			return fmt.Errorf("it ends %d bytes before its size: %w", size-n, io.ErrUnexpectedEOF)
		}
		size -= n
	}
	return nil
}

func (t *tarWriter) zeros(size int64) error {
	for size > 0 {
		n := min(size, int64(len(t.zero)))
		if err := t.write(t.zero[:n]); err != nil {
			return err
		}
		size -= n
	}
	return nil
}

func (t *tarWriter) write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	n, err := t.w.Write(p)
	t.pos += int64(n)
	return err
}

func (t *tarWriter) header(h *tarEntry) error {
	n, err := t.headers.write(t.w, h)
	t.pos += n
	return err
}

// close writes the end of the archive: two blocks of zeros.
func (t *tarWriter) close() error { return t.zeros(2 * tarBlock) }

// writeSorted writes all entries in the order of their names.
func (t *tarWriter) writeSorted(tree *Tree, holes holeMode) error {
	var entries []namedNode
	var nodes []*Node
	err := tree.Walk(func(name string, n *Node) error {
		entries = append(entries, namedNode{name, n})
		nodes = append(nodes, n)
		return nil
	})
	if err != nil {
		return err
	}
	contents := OpenInOrder(t.ctx, nodes)
	defer contents.Close()
	t.open = contents.OpenData
	for _, e := range entries {
		if _, err := t.put(e.name, e.node, holes); err != nil {
			return err
		}
	}
	return nil
}

// writeAnyOrder writes directories and all that has no content first, then contents in their cheapest order, then further names of
// files with content.
func (t *tarWriter) writeAnyOrder(tree *Tree, holes holeMode) error {
	var links []namedNode
	var files []*Node
	names := map[*Node]string{}
	err := tree.Walk(func(name string, n *Node) error {
		if !n.IsRegular() || n.DataSize() == 0 {
			_, err := t.put(name, n, holes)
			return err
		}
		if _, ok := names[n]; ok {
			links = append(links, namedNode{name, n})
			return nil
		}
		names[n] = name
		files = append(files, n)
		return nil
	})
	if err != nil {
		return err
	}
	err = EachContent(t.ctx, files, func(n *Node, data io.Reader) error {
		_, err := t.putFrom(names[n], n, holes, data)
		return err
	})
	if err != nil {
		return err
	}
	for _, l := range links {
		if _, err := t.put(l.name, l.node, holes); err != nil {
			return err
		}
	}
	return nil
}
