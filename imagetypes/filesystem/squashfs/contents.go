package squashfs

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"

	"github.com/imgbuild/imgbuild/imagetypes/filesystem/squashfs/compress"
	"github.com/imgbuild/imgbuild/internal/sparse"
	"github.com/imgbuild/imgbuild/layers"
)

// content is what is in a regular file.
type content struct {
	node *layers.Node
	path string

	same     *content // an earlier one that is equal, whose place this one shares; nil for a place of its own, which is:
	start    int64    // of the first block
	sizes    []uint32 // of the blocks as stored, with dataPlain for those that are not compressed; 0 for one of zeros, which is not stored
	sparse   int64    // bytes of such blocks
	fragment uint32   // the block that holds the end, if no block of the file's own does
	offset   uint32   // where the end begins in it
}

const (
	noFragment = 0xffffffff // SQUASHFS_INVALID_FRAG
	dataPlain  = 1 << 24    // SQUASHFS_COMPRESSED_BIT_BLOCK
)

// heldBlocks is up to how many blocks of a file are kept until it is known whether an earlier file is equal, so that they need not be compressed. A larger
// file is written, and if it turns out to be equal what follows is written over it.
const heldBlocks = 8

// identity is what equal contents have in common.
type identity struct {
	size int64
	sum  [sha256.Size]byte
}

// reader reads the contents and cuts them into blocks.
type reader struct {
	*pipeline
	*plan
	contents *layers.OrderedContents
	lengths  map[int64]int // how many files there are of each size
	stored   map[identity]*content

	ends  map[compress.Content]*job // the blocks that are being filled with ends of files of each kind
	count int                       // how many such blocks there are, those included
}

// writeContents writes what is in the files.
func (p *plan) writeContents(ctx context.Context, out *output, method compress.Method) error {
	return runPipeline(ctx, p, out, method, func(l *pipeline) error {
		nodes := make([]*layers.Node, len(p.contents))
		lengths := map[int64]int{}
		for i, c := range p.contents {
			nodes[i] = c.node
			lengths[c.node.Size]++
		}
		r := &reader{pipeline: l, plan: p, contents: layers.OpenInOrder(l.ctx, nodes), lengths: lengths, stored: map[identity]*content{}, ends: map[compress.Content]*job{}}
		defer r.contents.Close()
		for _, c := range p.contents {
			if err := r.read(c); err != nil {
				return fmt.Errorf("reading %s: %w", c.path, err)
			}
		}
		for _, kind := range slices.Sorted(maps.Keys(r.ends)) {
			r.send(r.ends[kind])
		}
		return nil
	})
}

// end returns how many bytes at a file's end go into a block with the ends of others.
func (p *plan) end(size int64) int64 {
	rest := size % int64(p.BlockSize)
	if p.Fragments == FragmentsNone || p.Fragments != FragmentsAlways && rest != size {
		return 0
	}
	return rest
}

// file is a content that is being read.
type file struct {
	*reader
	*content
	source source
	kind   compress.Content
	sum    hash.Hash // nil if no other file can be equal
	held   []*job
	sent   bool // some blocks are on their way
}

// read reads one file.
func (r *reader) read(c *content) (err error) {
	size := c.node.Size
	if size == 0 {
		return nil
	}
	f := &file{reader: r, content: c}
	if f.source, err = r.open(c.node); err != nil {
		return err
	}
	defer func() {
		if closing := f.source.close(); err == nil {
			err = closing
		}
	}()
	if !r.KeepDuplicates && r.lengths[size] > 1 {
		f.sum = sha256.New()
	}
	end := r.end(size)
	whole := size - end
	blocks := int((whole + int64(r.BlockSize) - 1) / int64(r.BlockSize))
	c.sizes = make([]uint32, blocks, blocks+1) // one more for an end of zeros
	if err := f.readBlocks(whole); err != nil {
		return err
	}
	if end > 0 {
		return f.readEnd(whole, int(end))
	}
	if !f.known() {
		f.release()
	}
	return nil
}

// readBlocks reads the blocks before an offset.
func (f *file) readBlocks(end int64) error {
	for i := range f.sizes {
		at := int64(i) * int64(f.BlockSize)
		length := min(int64(f.BlockSize), end-at)
		if f.source.isHole(at + length) {
			f.zeros(length)
			continue
		}
		j, err := f.get()
		if err != nil {
			return err
		}
		j.buf = j.buf[:length]
		if err := f.fill(j.buf, at); err != nil {
			return err
		}
		if sparse.IsZero(j.buf) {
			f.zeros(length)
			f.drop(j)
			continue
		}
		f.hash(j.buf)
		if i == 0 {
			f.kind = compress.Guess(j.buf)
		}
		j.kind, j.plain, j.content, j.size = f.kind, f.PlainData, f.content, &f.sizes[i]
		f.put(j)
	}
	return nil
}

// put sends a block, or keeps it as long as the file may be known already.
func (f *file) put(j *job) {
	if f.sum == nil || f.sent {
		f.send(j)
		return
	}
	if f.held = append(f.held, j); len(f.held) == heldBlocks {
		f.release()
	}
}

// release sends what is kept.
func (f *file) release() {
	for _, j := range f.held {
		f.send(j)
		f.sent = true
	}
	f.held = nil
}

// readEnd reads what is behind the blocks, into a block with the ends of other files.
func (f *file) readEnd(at int64, length int) error {
	if f.source.isHole(at + int64(length)) {
		f.noEnd(length)
		return nil
	}
	j, err := f.get()
	if err != nil {
		return err
	}
	j.buf = j.buf[:length]
	if err := f.fill(j.buf, at); err != nil {
		return err
	}
	if sparse.IsZero(j.buf) {
		f.drop(j)
		f.noEnd(length)
		return nil
	}
	f.hash(j.buf)
	if f.known() {
		f.drop(j)
		return nil
	}
	f.release()
	if f.sizes == nil {
		f.kind = compress.Guess(j.buf)
	}
	f.gather(j)
	return nil
}

// noEnd ends a file with zeros.
func (f *file) noEnd(length int) {
	f.zeros(int64(length))
	f.sizes = append(f.sizes, 0)
	if !f.known() {
		f.release()
	}
}

// gather adds the end of the file to those of others.
func (f *file) gather(j *job) {
	with := f.ends[f.kind]
	if with != nil && len(with.buf)+len(j.buf) <= f.BlockSize {
		f.fragment, f.offset = uint32(with.index), uint32(len(with.buf))
		with.buf = append(with.buf, j.buf...)
		f.drop(j)
		return
	}
	if with != nil {
		f.send(with)
	}
	j.kind, j.plain, j.content, j.index = f.kind, f.PlainFragments, nil, f.count
	f.ends[f.kind] = j
	f.count++
	f.fragment = uint32(j.index)
}

// fill reads the bytes from an offset on.
func (f *file) fill(p []byte, at int64) error {
	n, err := f.source.read(p, at)
	if err != nil {
		return err
	}
	if f.Progress != nil {
		f.Progress(n)
	}
	return nil
}

// zeros takes note of a block of zeros.
func (f *file) zeros(length int64) {
	f.sparse += length
	if f.sum != nil {
		f.sum.Write([]byte{0})
	}
}

// hash adds a block to what identifies the file.
func (f *file) hash(p []byte) {
	if f.sum != nil {
		f.sum.Write([]byte{1})
		f.sum.Write(p)
	}
}

// known reports whether an earlier file has the same content. Its place is then that of this file, and what was read is dropped.
func (f *file) known() bool {
	if f.sum == nil {
		return false
	}
	id := identity{size: f.node.Size}
	f.sum.Sum(id.sum[:0])
	same := f.stored[id]
	if same == nil {
		f.stored[id] = f.content
		return false
	}
	f.same = same
	for _, j := range f.held {
		f.drop(j)
	}
	f.held = nil
	if f.sent {
		f.rewind(f.content)
	}
	return true
}

// source reads the data of a file, between holes.
type source struct {
	data     io.ReadCloser // nil for a file without data
	extents  []layers.Extent
	observer io.Writer // nil for none
}

func (r *reader) open(n *layers.Node) (source, error) {
	s := source{extents: slices.Clone(n.Data)}
	if n.Data == nil {
		s.extents = []layers.Extent{{Offset: 0, Length: n.Size}}
		if r.Observe != nil {
			s.observer = r.Observe(n)
		}
	}
	if n.DataSize() == 0 {
		return s, nil
	}
	var err error
	s.data, err = r.contents.OpenData(n)
	return s, err
}

func (s *source) close() error {
	if s.data == nil {
		return nil
	}
	return s.data.Close()
}

// isHole reports whether nothing but a hole is left before an offset.
func (s *source) isHole(end int64) bool { return len(s.extents) == 0 || s.extents[0].Offset >= end }

// read fills p with the bytes from an offset on, which must follow those that were read or are in a hole, and returns how many of them are data.
func (s *source) read(p []byte, at int64) (n int64, err error) {
	for len(p) > 0 {
		hole := int64(len(p))
		if len(s.extents) > 0 {
			hole = min(hole, s.extents[0].Offset-at)
		}
		if hole > 0 {
			clear(p[:hole])
			p, at = p[hole:], at+hole
			continue
		}
		e := &s.extents[0]
		length := min(int64(len(p)), e.Length)
		if _, err := io.ReadFull(s.data, p[:length]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return n, err
		}
		if s.observer != nil {
			if _, err := s.observer.Write(p[:length]); err != nil {
				return n, err
			}
		}
		n, p, at = n+length, p[length:], at+length
		e.Offset, e.Length = e.Offset+length, e.Length-length
		if e.Length == 0 {
			s.extents = s.extents[1:]
		}
	}
	return n, nil
}
