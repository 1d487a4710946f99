package layers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"github.com/imgbuild/imgbuild/internal/gunzip"
)

// NewBlobSource finds out how a blob is compressed, and whether parts of it decompress on their own.
func NewBlobSource(blob Blob) (*BlobSource, error) {
	s := &BlobSource{Blob: blob}
	var magic [4]byte
	n := min(int64(len(magic)), blob.Size())
	if err := readFullAt(blob, magic[:n], 0); err != nil {
		return nil, fmt.Errorf("reading the first bytes of a layer: %w", err)
	}
	switch {
	case magic[0] == 0x1f && magic[1] == 0x8b:
		s.Algorithm = Gzip
	case isZstd(magic):
		s.Algorithm = Zstd
	}
	frames, err := readFrames(blob, s.Algorithm)
	if err != nil {
		return nil, fmt.Errorf("reading the frame table of a layer: %w", err)
	}
	if len(frames) > 1 {
		s.Frames = frames
	}
	return s, nil
}

// isZstd knows a zstd frame and a skippable one (RFC 8878, 3.1.1 and 3.1.2).
func isZstd(m [4]byte) bool {
	return m == [4]byte{0x28, 0xb5, 0x2f, 0xfd} || m[0]&0xf0 == 0x50 && m[1] == 0x2a && m[2] == 0x4d && m[3] == 0x18
}

// seekable reports whether any part of the tar can be had without reading all that lies before it.
func (s *BlobSource) seekable() bool { return s.Algorithm == None || s.Frames != nil }

// streamBuffers is how many chunks of a pipeline are under way at once.
const streamBuffers = 4

// streamTar delivers the whole tar from its beginning. blobBytes, which may be nil, gets the blob's own bytes and tarBytes the
// uncompressed ones; they have had all of them once finish has returned nil.
func (s *BlobSource) streamTar(ctx context.Context, blobBytes io.Writer, tarBytes ...io.Writer) *stream {
	ctx, cancel := context.WithCancel(ctx)
	out := &stream{stop: cancel}
	whole := []Extent{{0, s.Blob.Size()}}
	switch {
	case s.Algorithm == None:
		out.chunks = teeChunks(ctx, plainChunks(ctx, s.Blob, whole), blobBytes)
	case s.Frames != nil:
		out.chunks = s.frameChunks(ctx, s.Frames)
		if blobBytes != nil {
			beside := &stream{stop: func() {}, chunks: teeChunks(ctx, plainChunks(ctx, s.Blob, whole), blobBytes)}
			out.beside = make(chan error, 1)
			go func() {
				out.beside <- beside.finish()
				close(out.beside)
			}()
		}
	default:
		rawCtx, stopRaw := context.WithCancel(ctx)
		raw := &stream{chunks: teeChunks(rawCtx, plainChunks(rawCtx, s.Blob, whole), blobBytes), stop: stopRaw}
		out.chunks = s.decompressedChunks(ctx, raw)
	}
	for _, w := range tarBytes {
		out.chunks = teeChunks(ctx, out.chunks, w)
	}
	return out
}

// streamRanges delivers the given ranges of the uncompressed tar, ascending and not overlapping, and possibly more.
func (s *BlobSource) streamRanges(ctx context.Context, ranges []Extent) *stream {
	ctx, cancel := context.WithCancel(ctx)
	out := &stream{stop: cancel}
	if len(ranges) > 0 {
		out.pos = ranges[0].Offset
	}
	spooled := s.spooled()
	switch {
	case len(ranges) == 0:
		done := make(chan chunk, 1)
		done <- chunk{err: io.EOF}
		close(done)
		out.chunks = done
	case s.Algorithm == None:
		out.chunks = plainChunks(ctx, s.Blob, ranges)
	case spooled != nil:
		out.chunks = plainChunks(ctx, spooled, ranges)
	case s.Frames != nil:
		out.chunks = s.frameChunks(ctx, s.framesOf(ranges))
	default:
		rawCtx, stopRaw := context.WithCancel(ctx)
		raw := &stream{chunks: plainChunks(rawCtx, s.Blob, []Extent{{0, s.Blob.Size()}}), stop: stopRaw}
		out.chunks = s.decompressedChunks(ctx, raw)
	}
	return out
}

// framesOf returns the frames that hold bytes of the ranges.
func (s *BlobSource) framesOf(ranges []Extent) []Frame {
	var needed []Frame
	for _, f := range s.Frames {
		for len(ranges) > 0 && ranges[0].Offset+ranges[0].Length <= f.TarOffset {
			ranges = ranges[1:]
		}
		if len(ranges) == 0 {
			break
		}
		if ranges[0].Offset < f.TarOffset+f.TarSize {
			needed = append(needed, f)
		}
	}
	return needed
}

// send hands a chunk on; false, and the chunk released, if the pipeline was stopped.
func send(ctx context.Context, out chan<- chunk, c chunk) bool {
	select {
	case out <- c:
		return true
	case <-ctx.Done():
		c.release()
		return false
	}
}

// teeChunks writes chunks to w, which may be nil, before it hands them on, while the stages before and after it are at work.
func teeChunks(ctx context.Context, in <-chan chunk, w io.Writer) <-chan chunk {
	if w == nil {
		return in
	}
	out := make(chan chunk, 1)
	go func() {
		defer close(out)
		stopped := false
		for c := range in {
			if stopped {
				c.release()
				continue
			}
			if _, err := w.Write(c.data); err != nil {
				c.err = err
			}
			stopped = !send(ctx, out, c) || c.err != nil
		}
	}()
	return out
}

// readGap is up to how many bytes between two ranges are read and thrown away rather than passed over.
const readGap = 128 << 10

// plainChunks reads ranges of bytes as they are.
func plainChunks(ctx context.Context, from io.ReaderAt, ranges []Extent) <-chan chunk {
	out := make(chan chunk, 1)
	go func() {
		defer close(out)
		pool := newBufferPool(streamBuffers)
		for i := 0; i < len(ranges); i++ {
			at, end := ranges[i].Offset, ranges[i].Offset+ranges[i].Length
			for i+1 < len(ranges) && ranges[i+1].Offset-end <= readGap {
				i++
				end = ranges[i].Offset + ranges[i].Length
			}
			for at < end {
				n := min(end-at, chunkSize)
				b, err := getBuffer(ctx, pool, n)
				if err != nil {
					return
				}
				c := chunk{offset: at, data: b.data[:n], buffer: b}
				if err := readFullAt(from, c.data, at); err != nil {
					c.data, c.err = nil, err
				}
				if !send(ctx, out, c) || c.err != nil {
					return
				}
				at += n
			}
		}
		send(ctx, out, chunk{err: io.EOF})
	}()
	return out
}

// decompressedChunks decompresses a blob from its beginning to its end, and closes raw then.
func (s *BlobSource) decompressedChunks(ctx context.Context, raw *stream) <-chan chunk {
	out := make(chan chunk, 1)
	go func() {
		defer close(out)
		defer raw.close()
		r, err := s.decompressor(raw)
		if err != nil {
			send(ctx, out, chunk{err: s.compressionError(err)})
			return
		}
		defer r.Close()
		pool := newBufferPool(streamBuffers)
		for at := int64(0); ; {
			size := int64(chunkSize)
			if at == 0 {
				size = min(size, 16*s.Blob.Size()) // most small layers need no more
			}
			b, err := getBuffer(ctx, pool, size)
			if err != nil {
				return
			}
			n, err := fill(r, b.data)
			if err == io.EOF {
				// What follows the compressed data still belongs to the blob's digest.
				if tail := raw.finish(); tail != nil {
					err = tail
				}
			}
			c := chunk{offset: at, data: b.data[:n], buffer: b, err: err}
			if err != nil && err != io.EOF {
				c.err = s.compressionError(err)
			}
			if !send(ctx, out, c) || c.err != nil {
				return
			}
			at += int64(n)
		}
	}()
	return out
}

// fill reads until p is full or the reader ends. Unlike io.ReadFull it keeps the reader's own error, so that the end of the data is not
// mistaken for data that breaks off.
func fill(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}

// decompressor reads a blob's bytes from r.
func (s *BlobSource) decompressor(r io.Reader) (io.ReadCloser, error) {
	if s.Algorithm == Gzip {
		return gunzip.NewReader(r)
	}
	d, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(min(2, runtime.GOMAXPROCS(0))))
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}

func (s *BlobSource) compressionError(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, errStopped) {
		return err
	}
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("the data breaks off")
	}
	return &FormatError{Layer: s.Digest, Err: fmt.Errorf("decompressing %s: %w", s.Algorithm, err)}
}

// frameChunks decompresses frames, which are in order, several at a time, and delivers them in order.
func (s *BlobSource) frameChunks(ctx context.Context, frames []Frame) <-chan chunk {
	ctx, cancel := context.WithCancel(ctx)
	out := make(chan chunk, 1)
	queue := make(chan chan chunk, runtime.GOMAXPROCS(0))
	go s.decodeFrames(ctx, frames, queue)
	go func() {
		defer close(out)
		defer cancel()
		stopped := false
		for result := range queue {
			c := <-result
			if stopped {
				c.release()
				continue
			}
			if stopped = !send(ctx, out, c) || c.err != nil; stopped {
				cancel()
			}
		}
		if !stopped {
			send(ctx, out, chunk{err: io.EOF})
		}
	}()
	return out
}

// decodeFrames puts one channel per frame into the queue, in order, on which the frame's bytes will come. It closes the queue when all have come.
func (s *BlobSource) decodeFrames(ctx context.Context, frames []Frame, queue chan<- chan chunk) {
	defer close(queue)
	jobs := runtime.GOMAXPROCS(0)
	decoder, err := newPieceDecoder(s.Algorithm, jobs)
	if err != nil {
		failed := make(chan chunk, 1)
		failed <- chunk{err: err}
		queue <- failed
		return
	}
	defer decoder.close()
	pool := newBufferPool(jobs + 2)
	var workers errgroup.Group
	workers.SetLimit(jobs)
	for _, f := range frames {
		b, err := getBuffer(ctx, pool, f.TarSize)
		if err != nil {
			break
		}
		result := make(chan chunk, 1)
		queue <- result
		workers.Go(func() error {
			result <- s.decodeFrame(decoder, f, b)
			return nil
		})
	}
	_ = workers.Wait() // every worker's error is in its chunk
}

// decodeFrame reads and decompresses one frame into b.
func (s *BlobSource) decodeFrame(decoder *pieceDecoder, f Frame, b *buffer) chunk {
	if int64(cap(b.packed)) < f.Size {
		b.packed = make([]byte, f.Size)
	}
	c := chunk{offset: f.TarOffset, buffer: b}
	packed := b.packed[:f.Size]
	if err := readFullAt(s.Blob, packed, f.Offset); err != nil {
		c.err = fmt.Errorf("reading layer %s: %w", s.Digest, err)
		return c
	}
	data, err := decoder.decode(packed, f.TarSize, b.data)
	if err != nil {
		c.err = s.compressionError(fmt.Errorf("the part at byte %d: %w", f.Offset, err))
		return c
	}
	b.data, c.data = data[:cap(data)], data
	return c
}
