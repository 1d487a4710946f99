package layers

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"runtime"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// blobWriter turns a tar stream into a blob in one pass: it cuts the stream into pieces, which workers compress, while one goroutine
// computes the digest of the stream and another writes the pieces in order and computes the digest of the blob. The bytes that
// it writes do not depend on how many workers there are.
type blobWriter struct {
	ctx   context.Context
	group *errgroup.Group
	comp  Compression
	size  int // bytes of a piece

	free    chan *piece // buffers to fill; its length bounds the memory
	current *piece
	hashing chan *piece // both are nil for None
	packing chan *piece
	writing chan *piece

	total  int64
	diffID hash.Hash
	digest hash.Hash
	frames []Frame
	end    Frame // the place behind the last frame
}

type piece struct {
	raw    []byte
	packed []byte
	done   chan struct{} // receives one value when packed is ready
	users  atomic.Int32  // goroutines that still read raw
}

// maxPieces bounds how many pieces of 4 MiB and their compressed forms are in memory at once, and with it how many goroutines
// compress. More than six would have to wait for the one that computes the digest of the stream.
const (
	maxPieces   = 9
	sparePieces = 3 // one each to be filled, to be hashed and to be written, beside those that are compressed
)

// newBlobWriter starts the goroutines. The caller must call finish or, after an error, stop.
func newBlobWriter(ctx context.Context, w io.Writer, opts PackOptions) (*blobWriter, error) {
	comp := opts.Compression.withDefaults()
	if err := comp.check(); err != nil {
		return nil, err
	}
	jobs := opts.Jobs
	if jobs <= 0 {
		jobs = runtime.GOMAXPROCS(0)
	}
	jobs = min(jobs, maxPieces-sparePieces)
	group, ctx := errgroup.WithContext(ctx)
	b := &blobWriter{
		ctx: ctx, group: group, comp: comp, size: comp.pieceSize(), diffID: sha256.New(), digest: sha256.New(),
		free: make(chan *piece, maxPieces), writing: make(chan *piece, maxPieces),
	}
	for range jobs + sparePieces {
		b.free <- &piece{done: make(chan struct{}, 1)}
	}
	if comp.Algorithm == None {
		b.diffID = b.digest // of the same bytes
	} else {
		enc, err := newPieceEncoder(comp, jobs)
		if err != nil {
			return nil, err
		}
		b.hashing, b.packing = make(chan *piece, maxPieces), make(chan *piece, maxPieces)
		group.Go(b.hash)
		for range jobs {
			group.Go(func() error { return b.pack(enc) })
		}
	}
	group.Go(func() error { return b.write(w, opts.Progress) })
	return b, nil
}

func (b *blobWriter) hash() error {
	for p := range b.hashing {
		b.diffID.Write(p.raw)
		b.release(p)
	}
	return nil
}

func (b *blobWriter) pack(enc pieceEncoder) error {
	for p := range b.packing {
		packed, err := enc.encode(p.packed[:0], p.raw)
		if err != nil {
			return fmt.Errorf("compressing with %s: %w", b.comp, err)
		}
		p.packed = packed
		p.done <- struct{}{}
	}
	return nil
}

func (b *blobWriter) write(w io.Writer, progress func(int64)) error {
	for p := range b.writing {
		out := p.raw
		if b.packing != nil {
			select {
			case <-p.done:
			case <-b.ctx.Done():
				return context.Cause(b.ctx)
			}
			out = p.packed
		}
		if err := b.emit(w, out); err != nil {
			return err
		}
		b.end.Size, b.end.TarSize = int64(len(out)), int64(len(p.raw))
		b.frames = append(b.frames, b.end)
		b.end.Offset += b.end.Size
		b.end.TarOffset += b.end.TarSize
		if progress != nil {
			progress(b.end.TarSize)
		}
		b.release(p)
	}
	if b.comp.Algorithm == Zstd {
		table := appendSeekTable(nil, b.frames)
		if err := b.emit(w, table); err != nil {
			return err
		}
		b.end.Offset += int64(len(table))
	}
	return nil
}

func (b *blobWriter) emit(w io.Writer, p []byte) error {
	b.digest.Write(p)
	if _, err := w.Write(p); err != nil {
		return fmt.Errorf("writing the layer: %w", err)
	}
	return nil
}

func (b *blobWriter) release(p *piece) {
	if p.users.Add(-1) == 0 {
		b.free <- p // never blocks: the channel has room for every piece
	}
}

// room returns the unfilled part of the current piece, at least one byte.
func (b *blobWriter) room() ([]byte, error) {
	if b.current == nil {
		select {
		case b.current = <-b.free:
		case <-b.ctx.Done():
			return nil, context.Cause(b.ctx)
		}
		if b.current.raw == nil {
			b.current.raw = make([]byte, 0, b.size)
		}
		b.current.raw = b.current.raw[:0]
	}
	return b.current.raw[len(b.current.raw):b.size], nil
}

// filled says that n more bytes of the current piece are there.
func (b *blobWriter) filled(n int) {
	b.current.raw = b.current.raw[:len(b.current.raw)+n]
	b.total += int64(n)
	if len(b.current.raw) == b.size {
		b.submit()
	}
}

// submit hands the current piece on. The channels have room for every piece that exists.
func (b *blobWriter) submit() {
	p := b.current
	b.current = nil
	p.users.Store(1)
	if b.packing != nil {
		p.users.Store(2)
		b.hashing <- p
		b.packing <- p
	}
	b.writing <- p
}

// Write implements io.Writer for the tar stream.
func (b *blobWriter) Write(data []byte) (int, error) {
	written := 0
	for len(data) > 0 {
		room, err := b.room()
		if err != nil {
			return written, err
		}
		n := copy(room, data)
		b.filled(n)
		data = data[n:]
		written += n
	}
	return written, nil
}

// ReadFrom implements io.ReaderFrom, reading straight into the pieces.
func (b *blobWriter) ReadFrom(r io.Reader) (int64, error) {
	var sum int64
	for {
		room, err := b.room()
		if err != nil {
			return sum, err
		}
		n, err := r.Read(room)
		if n > 0 {
			b.filled(n)
			sum += int64(n)
		}
		if err == io.EOF {
			return sum, nil
		}
		if err != nil {
			return sum, err
		}
	}
}

// finish waits until everything is written and returns what was made, without its Layer.
func (b *blobWriter) finish() (*Packed, error) {
	if b.current != nil && len(b.current.raw) > 0 {
		b.submit()
	}
	if err := b.stop(); err != nil {
		return nil, err
	}
	return &Packed{
		Digest: digest.NewDigest(digest.SHA256, b.digest), DiffID: digest.NewDigest(digest.SHA256, b.diffID),
		Size: b.end.Offset, TarSize: b.total, MediaType: b.comp.MediaType(),
	}, nil
}

// stop ends the goroutines and returns the error of the first that failed. It is called once: by finish, or after an error of the caller.
func (b *blobWriter) stop() error {
	if b.packing != nil {
		close(b.hashing)
		close(b.packing)
	}
	close(b.writing)
	return b.group.Wait()
}

var _ interface {
	io.Writer
	io.ReaderFrom
} = (*blobWriter)(nil)
