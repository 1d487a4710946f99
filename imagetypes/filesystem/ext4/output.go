package ext4

import (
	"fmt"
	"io"
	"sync"
)

const (
	bufferSize  = 1 << 20 // bytes of one write
	bufferCount = 6       // buffers in use, the one being filled included
)

// output writes to a file at changing offsets. Writes that follow each other without a gap, or with one that ends at the next block, become one;
// a goroutine of its own does them, so that the next content is made meanwhile. It must be finished with close.
//
// What lies in a gap must be zeros in the file already.
type output struct {
	file      io.WriterAt
	blockSize int64

	buf  []byte
	at   int64 // where buf[0] goes
	free chan []byte
	full chan filled
	done chan struct{}

	final    int64 // up to where the file is final once everything that is gathered now is written
	inOrder  bool  // what is written now follows what is final
	gathered bool  // so did what was gathered last, so that the file is final up to its end
	written  func(final, at int64, data []byte, release func())

	mu  sync.Mutex
	err error
}

type filled struct {
	buf   []byte
	at    int64
	final int64
}

func newOutput(file io.WriterAt, blockSize int64) *output {
	o := &output{
		file: file, blockSize: blockSize,
		free: make(chan []byte, bufferCount), full: make(chan filled, bufferCount), done: make(chan struct{}),
	}
	for range bufferCount - 1 {
		o.free <- nil // made when first used: a small file system needs only one
	}
	o.buf = make([]byte, 0, bufferSize)
	go o.run()
	return o
}

func (o *output) run() {
	defer close(o.done)
	for f := range o.full {
		if o.failed() == nil {
			if _, err := o.file.WriteAt(f.buf, f.at); err != nil {
				o.mu.Lock()
				o.err = fmt.Errorf("writing the file system: %w", err)
				o.mu.Unlock()
			} else if o.written != nil {
				o.written(f.final, f.at, f.buf, func() { o.free <- f.buf[:0] })
				continue
			}
		}
		o.free <- f.buf[:0]
	}
}

func (o *output) failed() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// flush hands over what is gathered.
func (o *output) flush() {
	if len(o.buf) == 0 {
		return
	}
	final := o.final
	if o.gathered {
		final = max(final, o.at+int64(len(o.buf)))
	}
	o.full <- filled{o.buf, o.at, final}
	if o.buf = <-o.free; o.buf == nil {
		o.buf = make([]byte, 0, bufferSize)
	}
}

// seek makes the next byte go to offset.
func (o *output) seek(offset int64) {
	next := o.at + int64(len(o.buf))
	gap := offset - next
	switch {
	case len(o.buf) > 0 && gap == 0:
	case len(o.buf) > 0 && gap > 0 && gap < o.blockSize && gap <= int64(cap(o.buf)-len(o.buf)):
		end := len(o.buf) + int(gap)
		clear(o.buf[len(o.buf):end])
		o.buf = o.buf[:end]
	default:
		o.flush()
		o.at = offset
	}
	o.gathered = o.inOrder
}

// write puts p at offset.
func (o *output) write(offset int64, p []byte) error {
	o.seek(offset)
	for len(p) > 0 {
		if len(o.buf) == cap(o.buf) {
			o.flush()
			o.at = offset
		}
		n := copy(o.buf[len(o.buf):cap(o.buf)], p)
		o.buf = o.buf[:len(o.buf)+n]
		p, offset = p[n:], offset+int64(n)
	}
	return o.failed()
}

// copyFrom puts the next n bytes of r at offset.
func (o *output) copyFrom(offset int64, r io.Reader, n int64) error {
	o.seek(offset)
	for n > 0 {
		if len(o.buf) == cap(o.buf) {
			o.flush()
			o.at = offset
		}
		free := o.buf[len(o.buf):cap(o.buf)]
		got, err := io.ReadFull(r, free[:min(int64(len(free)), n)])
		o.buf = o.buf[:len(o.buf)+got]
		n, offset = n-int64(got), offset+int64(got)
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return o.failed()
}

// close writes what is left and ends the goroutine.
func (o *output) close() error {
	o.flush()
	close(o.full)
	<-o.done
	return o.failed()
}
