package layers

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
)

// NewContent returns content of the given range of the source's uncompressed tar.
func (s *BlobSource) NewContent(offset, length int64) *BlobContent {
	return &BlobContent{Source: s, Offset: offset, Length: length}
}

// Open implements [Content]. Of a blob that can only be decompressed from its beginning, the first Open keeps all of the uncompressed bytes
// in an unlinked file in [BlobSource.SpoolDir]; use [EachContent] to read many files without that.
func (c *BlobContent) Open() (io.ReadCloser, error) {
	s := c.Source
	if staged := s.staged.read(c); staged != nil {
		return staged, nil
	}
	var plain io.ReaderAt
	if s.Algorithm == None {
		plain = s.Blob
	} else if s.Frames == nil {
		if err := s.keep(); err != nil {
			return nil, err
		}
	}
	if spool := s.spooled(); spool != nil {
		plain = spool
	}
	if plain != nil {
		return &plainReader{source: s, from: plain, runs: slices.Clone(c.runs())}, nil
	}
	in := s.streamRanges(context.Background(), c.runs())
	return &contentReader{source: s, in: in, runs: slices.Clone(c.runs()), owned: true}, nil
}

// plainReader reads parts of uncompressed bytes.
type plainReader struct {
	source *BlobSource
	from   io.ReaderAt
	runs   []Extent
}

func (r *plainReader) Read(p []byte) (int, error) {
	for len(r.runs) > 0 && r.runs[0].Length == 0 {
		r.runs = r.runs[1:]
	}
	if len(r.runs) == 0 {
		return 0, io.EOF
	}
	run := &r.runs[0]
	p = p[:min(int64(len(p)), run.Length)]
	n, err := r.from.ReadAt(p, run.Offset)
	*run = Extent{run.Offset + int64(n), run.Length - int64(n)}
	if n == len(p) {
		err = nil
	}
	return n, r.source.readError(err)
}

func (r *plainReader) Close() error { return nil }

// readError says which layer could not be read. An end is one that comes too early.
func (s *BlobSource) readError(err error) error {
	if err == nil {
		return nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("reading layer %s: %w", s.Digest, err)
}

// contentReader reads one file's bytes from a stream.
type contentReader struct {
	source *BlobSource
	in     *stream
	runs   []Extent // what is still to be read
	owned  bool     // Close ends the stream
}

// fill makes the stream hold the next bytes and returns how many of them belong to the file, 0 and io.EOF at its end.
func (r *contentReader) fill() (int, error) {
	for len(r.runs) > 0 && r.runs[0].Length == 0 {
		r.runs = r.runs[1:]
	}
	if len(r.runs) == 0 {
		return 0, io.EOF
	}
	if r.in.pos < r.runs[0].Offset {
		r.in.seek(r.runs[0].Offset)
	}
	if !r.in.fill() {
		return 0, r.source.readError(r.in.err)
	}
	return int(min(int64(len(r.in.rest)), r.runs[0].Length)), nil
}

func (r *contentReader) advance(n int) {
	r.in.seek(r.in.pos + int64(n))
	r.runs[0].Offset += int64(n)
	r.runs[0].Length -= int64(n)
}

// Read implements io.Reader.
func (r *contentReader) Read(p []byte) (int, error) {
	n, err := r.fill()
	if err != nil {
		return 0, err
	}
	n = copy(p, r.in.rest[:n])
	r.advance(n)
	return n, nil
}

// WriteTo writes what is left without copying it to a buffer first.
func (r *contentReader) WriteTo(w io.Writer) (int64, error) {
	var sum int64
	for {
		n, err := r.fill()
		if err == io.EOF {
			return sum, nil
		}
		if err != nil {
			return sum, err
		}
		n, err = w.Write(r.in.rest[:n])
		r.advance(n)
		sum += int64(n)
		if err != nil {
			return sum, err
		}
	}
}

// Close implements io.Closer.
func (r *contentReader) Close() error {
	if r.owned {
		r.in.close()
	}
	return nil
}

// EachContent calls fn once for each of the regular files, with a reader of its data: the extents of [Node.Data] one after the other. The
// order is the cheapest one: files of a directory and of memory first, as given, then blob by blob in the order of the tar, so that each blob is
// decompressed at most once and in a goroutine of its own, ahead of fn. fn need not read to the end; it must not keep the reader. An error of fn ends the walk
// and is returned as it is.
func EachContent(ctx context.Context, nodes []*Node, fn func(n *Node, data io.Reader) error) error {
	seen := make(map[*Node]struct{}, len(nodes))
	var sources []*BlobSource
	blobs := map[*BlobSource][]*Node{}
	for _, n := range nodes {
		if _, ok := seen[n]; ok || !n.IsRegular() {
			continue
		}
		seen[n] = struct{}{}
		if c, ok := n.Content.(*BlobContent); ok && !c.Source.staged.has(c) {
			if blobs[c.Source] == nil {
				sources = append(sources, c.Source)
			}
			blobs[c.Source] = append(blobs[c.Source], n)
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := openContent(n, fn); err != nil {
			return err
		}
	}
	for _, s := range sources {
		if err := s.eachContent(ctx, blobs[s], fn); err != nil {
			return err
		}
	}
	return nil
}

// openContent calls fn with the data of a node that can be opened at no great cost.
func openContent(n *Node, fn func(*Node, io.Reader) error) error {
	if n.Content == nil {
		return fn(n, bytes.NewReader(nil))
	}
	r, err := n.Content.Open()
	if err != nil {
		return err
	}
	err = fn(n, r)
	if closeErr := r.Close(); err == nil {
		err = closeErr
	}
	return err
}

// sharedContentLimit is up to how many bytes of a content that several nodes share are kept in memory for all of them.
const sharedContentLimit = 16 << 20

// eachContent calls fn for nodes whose contents lie in one blob.
func (s *BlobSource) eachContent(ctx context.Context, nodes []*Node, fn func(*Node, io.Reader) error) error {
	slices.SortStableFunc(nodes, func(a, b *Node) int {
		return cmp.Compare(a.Content.(*BlobContent).Offset, b.Content.(*BlobContent).Offset)
	})
	var ranges []Extent
	end := int64(0)
	for _, n := range nodes {
		for _, run := range n.Content.(*BlobContent).runs() {
			if last := run.Offset + run.Length; last > end {
				end = max(end, run.Offset)
				ranges = append(ranges, Extent{end, last - end})
				end = last
			}
		}
	}
	in := s.streamRanges(ctx, ranges)
	defer in.close()
	for i := 0; i < len(nodes); i++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		c := nodes[i].Content.(*BlobContent)
		if c.Offset < in.pos {
			// It lies within what was passed already: nodes that share a part of the blob, but not all of it.
			if err := openContent(nodes[i], fn); err != nil {
				return err
			}
			continue
		}
		data := &contentReader{source: s, in: in, runs: slices.Clone(c.runs())}
		same := i + 1
		for same < len(nodes) && sameBytes(c, nodes[same].Content.(*BlobContent)) {
			same++
		}
		if same == i+1 || c.Length > sharedContentLimit {
			if err := fn(nodes[i], data); err != nil {
				return err
			}
			continue
		}
		kept, err := io.ReadAll(data)
		if err != nil {
			return err
		}
		for ; i < same; i++ {
			if err := fn(nodes[i], bytes.NewReader(kept)); err != nil {
				return err
			}
		}
		i--
	}
	return nil
}

func sameBytes(a, b *BlobContent) bool {
	return a == b || a.Source == b.Source && a.Offset == b.Offset && a.Length == b.Length && slices.Equal(a.Runs, b.Runs)
}
