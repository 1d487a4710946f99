package layers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
)

// chunkSize is how many bytes go from one stage of a pipeline to the next at a time: large enough that the hand-over costs nothing, small
// enough that the bytes are still in the processor's cache when the next stage reads them.
const chunkSize = 1 << 20

// chunk is a run of uncompressed bytes. The last one of a stream has err set: io.EOF after a complete stream.
type chunk struct {
	offset int64 // of data in the uncompressed tar
	data   []byte
	err    error
	buffer *buffer
}

// release gives the chunk's memory back once every user of it has called release.
func (c chunk) release() {
	if c.buffer != nil {
		c.buffer.release()
	}
}

// buffer is memory that several stages of a pipeline read at the same time.
type buffer struct {
	data   []byte
	packed []byte // what data is decompressed from, where a stage reads both
	users  atomic.Int32
	pool   chan *buffer
}

func (b *buffer) release() {
	if b.users.Add(-1) == 0 {
		b.pool <- b
	}
}

// newBufferPool returns a pool of count buffers without memory, which bounds the memory of a pipeline; getBuffer waits when all are in use.
func newBufferPool(count int) chan *buffer {
	pool := make(chan *buffer, count)
	for range count {
		pool <- &buffer{pool: pool}
	}
	return pool
}

// getBuffer takes a buffer with one user and at least size bytes out of the pool.
func getBuffer(ctx context.Context, pool chan *buffer, size int64) (*buffer, error) {
	select {
	case b := <-pool:
		b.users.Store(1)
		if int64(len(b.data)) < size {
			b.data = make([]byte, size)
		}
		return b, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// errStopped is what a reader gets from a pipeline that was stopped because its context ended.
var errStopped = fmt.Errorf("reading was stopped: %w", context.Canceled)

// stream is the reading end of a pipeline: uncompressed bytes of one blob in ascending order.
type stream struct {
	chunks <-chan chunk
	stop   context.CancelFunc
	rest   []byte // of the current chunk
	held   chunk
	pos    int64 // offset in the uncompressed tar of the next byte that Read gives
	end    int64 // offset behind the last byte that came
	err    error // what ended the stream

	beside chan error // gives the outcome of a second reader of the same blob and is closed then; nil without one
}

// fill makes r.rest hold bytes at r.pos; false at the end or on an error, which is then in s.err.
func (s *stream) fill() bool {
	for len(s.rest) == 0 {
		if s.err != nil {
			return false
		}
		s.held.release()
		var more bool
		if s.held, more = <-s.chunks; !more {
			s.err = errStopped
			return false
		}
		s.rest, s.err = s.held.data, s.held.err
		if len(s.rest) > 0 {
			s.end = s.held.offset + int64(len(s.rest))
		}
		if len(s.rest) > 0 && s.held.offset != s.pos {
			if s.held.offset+int64(len(s.rest)) <= s.pos {
				s.rest = nil
				continue
			}
			if s.held.offset > s.pos {
				s.err = errors.New("the bytes asked for were passed over")
				s.rest = nil
				return false
			}
			s.rest = s.rest[s.pos-s.held.offset:]
		}
	}
	return true
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	if !s.fill() {
		return 0, s.err
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	s.pos += int64(n)
	return n, nil
}

// readFull fills p. The error is io.EOF if not one byte was left and io.ErrUnexpectedEOF if some were.
func (s *stream) readFull(p []byte) error {
	_, err := io.ReadFull(s, p)
	return err
}

// seek goes forward to an offset in the uncompressed tar. Bytes on the way are passed over, and a stream that ends before is an error only
// when it is read.
func (s *stream) seek(offset int64) {
	if n := offset - s.pos; n <= int64(len(s.rest)) {
		s.rest = s.rest[n:]
	} else {
		s.rest = nil
	}
	s.pos = offset
}

// finish reads to the end and returns the error that ended the stream, nil if it was complete.
func (s *stream) finish() error {
	for s.fill() {
		s.pos += int64(len(s.rest))
		s.rest = nil
	}
	if s.err != io.EOF {
		return s.err
	}
	if s.beside != nil {
		return <-s.beside
	}
	return nil
}

// close ends the pipeline and waits until its goroutines have let go of the blob.
func (s *stream) close() {
	s.stop()
	s.held.release()
	s.held = chunk{}
	for c := range s.chunks {
		c.release()
	}
	if s.beside != nil {
		for range s.beside { // until it is closed
		}
	}
}
