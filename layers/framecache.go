package layers

import (
	"fmt"
	"io"
	"slices"
	"sort"
	"sync"
)

// frameCacheBytes is how many uncompressed bytes of frames a [frameCache] keeps: twelve frames of those blobs that are made here.
const frameCacheBytes = 48 << 20

// frameCache keeps the frames used last, so that reading files one by one, in an order that is nearly that of the blob, decompresses each frame
// once. When frames of a blob are used one after the other, the next one is decompressed ahead.
type frameCache struct {
	mu       sync.Mutex
	decoders map[*BlobSource]*pieceDecoder
	frames   []*cachedFrame // used last at the end
	bytes    int64
	ahead    sync.WaitGroup
}

// cachedFrame is one frame, which may still be at work. Its data is never changed again, and so may be used after it has left the cache.
type cachedFrame struct {
	source *BlobSource
	index  int
	done   chan struct{}
	data   []byte
	err    error
}

func newFrameCache() *frameCache { return &frameCache{decoders: map[*BlobSource]*pieceDecoder{}} }

// frame returns the uncompressed bytes of a frame.
func (c *frameCache) frame(s *BlobSource, index int) ([]byte, error) {
	c.mu.Lock()
	f, fresh, err := c.entry(s, index)
	if err != nil {
		c.mu.Unlock()
		return nil, err
	}
	if fresh && index+1 < len(s.Frames) && c.find(s, index-1) >= 0 {
		if next, fresh, err := c.entry(s, index+1); err == nil && fresh {
			decoder := c.decoders[s]
			c.ahead.Go(func() { next.fill(decoder) })
		}
	}
	decoder := c.decoders[s]
	c.mu.Unlock()
	if fresh {
		f.fill(decoder)
	}
	<-f.done
	return f.data, f.err
}

// entry returns a frame of the cache, and whether it is a new one that the caller must fill.
func (c *frameCache) entry(s *BlobSource, index int) (*cachedFrame, bool, error) {
	if i := c.find(s, index); i >= 0 {
		f := c.frames[i]
		c.frames = append(slices.Delete(c.frames, i, i+1), f)
		return f, false, nil
	}
	if c.decoders[s] == nil {
		d, err := newPieceDecoder(s.Algorithm, 2)
		if err != nil {
			return nil, false, err
		}
		c.decoders[s] = d
	}
	f := &cachedFrame{source: s, index: index, done: make(chan struct{})}
	c.frames = append(c.frames, f)
	c.bytes += s.Frames[index].TarSize
	for c.bytes > frameCacheBytes && len(c.frames) > 2 {
		old := c.frames[0]
		c.bytes -= old.source.Frames[old.index].TarSize
		c.frames = slices.Delete(c.frames, 0, 1)
	}
	return f, true, nil
}

func (c *frameCache) find(s *BlobSource, index int) int {
	return slices.IndexFunc(c.frames, func(f *cachedFrame) bool { return f.source == s && f.index == index })
}

func (f *cachedFrame) fill(d *pieceDecoder) {
	defer close(f.done)
	at := f.source.Frames[f.index]
	packed := make([]byte, at.Size)
	if f.err = readFullAt(f.source.Blob, packed, at.Offset); f.err == nil {
		f.data, f.err = d.decode(packed, at.TarSize, nil)
	}
	if f.err != nil {
		f.err = fmt.Errorf("reading layer %s: decompressing %d bytes at %d: %w", f.source.Digest, at.Size, at.Offset, f.err)
	}
}

// close waits for what is at work and gives the decoders back.
func (c *frameCache) close() {
	c.ahead.Wait()
	for _, d := range c.decoders {
		d.close()
	}
}

// frameReader reads the data of one file through a cache.
type frameReader struct {
	cache  *frameCache
	source *BlobSource
	runs   []Extent // what is still to be read
	rest   []byte   // of the current run, in the cache
}

// next makes rest hold bytes, or returns io.EOF.
func (r *frameReader) next() error {
	for len(r.rest) == 0 {
		for len(r.runs) > 0 && r.runs[0].Length == 0 {
			r.runs = r.runs[1:]
		}
		if len(r.runs) == 0 {
			return io.EOF
		}
		run, frames := r.runs[0], r.source.Frames
		i := sort.Search(len(frames), func(i int) bool { return frames[i].TarOffset+frames[i].TarSize > run.Offset })
		if i == len(frames) {
			return fmt.Errorf("reading layer %s: %w", r.source.Digest, io.ErrUnexpectedEOF)
		}
		data, err := r.cache.frame(r.source, i)
		if err != nil {
			return err
		}
		r.rest = data[run.Offset-frames[i].TarOffset:]
		n := min(int64(len(r.rest)), run.Length)
		r.rest = r.rest[:n]
		r.runs[0] = Extent{run.Offset + n, run.Length - n}
	}
	return nil
}

// Read implements io.Reader.
func (r *frameReader) Read(p []byte) (int, error) {
	if err := r.next(); err != nil {
		return 0, err
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// Close implements io.Closer.
func (r *frameReader) Close() error { return nil }
