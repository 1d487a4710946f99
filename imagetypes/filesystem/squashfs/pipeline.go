package squashfs

import (
	"context"
	"fmt"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/imgbuild/imgbuild/imagetypes/filesystem/squashfs/compress"
)

// blocksPerProcessor is how many blocks per processor may be read and not written yet.
const blocksPerProcessor = 4

// openBlocks is how many blocks the reader has at most besides: one to read into and for each kind of content one to gather ends of files in.
const openBlocks = 10

// job is one block on its way. Jobs are used again and again.
type job struct {
	buf    []byte
	kind   compress.Content
	plain  bool   // it is not to be compressed
	packed []byte // the block compressed
	done   chan struct{}

	content *content // whose block it is; nil for a block with the ends of several files
	size    *uint32  // where its size as stored goes
	index   int      // of a block with the ends of several files, in the table of such
	rewind  bool     // no block: those of content are not wanted after all
}

// pipeline compresses blocks at the same time and writes them in the order in which they are sent.
type pipeline struct {
	ctx       context.Context
	blockSize int
	free      chan *job // nil is one that is not made yet
	work      chan *job
	order     chan *job
}

// runPipeline calls read, which gets blocks, fills and sends them, and writes them.
func runPipeline(ctx context.Context, p *plan, out *output, method compress.Method, read func(*pipeline) error) error {
	processors := p.Processors
	if processors == 0 {
		processors = runtime.GOMAXPROCS(0)
	}
	jobs := blocksPerProcessor*processors + heldBlocks + openBlocks
	group, ctx := errgroup.WithContext(ctx)
	l := &pipeline{ctx: ctx, blockSize: p.BlockSize, free: make(chan *job, jobs), work: make(chan *job, jobs), order: make(chan *job, 2*jobs)}
	for range jobs {
		l.free <- nil
	}
	group.Go(func() error {
		defer close(l.order)
		defer close(l.work)
		return read(l)
	})
	for range processors {
		group.Go(func() error { return l.compress(method) })
	}
	group.Go(func() error { return l.write(p, out) })
	return group.Wait()
}

// get returns a block to fill, of any length.
func (l *pipeline) get() (*job, error) {
	select {
	case j := <-l.free:
		if j == nil {
			j = &job{buf: make([]byte, 0, l.blockSize), done: make(chan struct{}, 1)}
		}
		return j, nil
	case <-l.ctx.Done():
		return nil, context.Cause(l.ctx)
	}
}

// drop gives a block back.
func (l *pipeline) drop(j *job) { l.free <- j }

// send gives a block to be compressed and written. There is room for all that there are.
func (l *pipeline) send(j *job) {
	l.order <- j
	l.work <- j
}

// rewind drops the blocks of a content, which has some and is the last one that was sent.
func (l *pipeline) rewind(c *content) {
	select {
	case l.order <- &job{content: c, rewind: true}:
	case <-l.ctx.Done(): // whoever asks for the next block is told
	}
}

// compress compresses blocks.
func (l *pipeline) compress(method compress.Method) error {
	for j := range l.work {
		if !j.plain {
			var err error
			if j.packed, err = method.Block(l.ctx, j.packed[:0], j.buf, j.kind); err != nil {
				return fmt.Errorf("compressing a block: %w", err)
			}
		}
		j.done <- struct{}{}
	}
	return nil
}

// write writes blocks.
func (l *pipeline) write(p *plan, out *output) error {
	for j := range l.order {
		if j.rewind {
			out.at = j.content.start
			continue
		}
		select {
		case <-j.done:
		case <-l.ctx.Done():
			return context.Cause(l.ctx)
		}
		data, size := j.packed, uint32(len(j.packed))
		if j.plain || len(data) >= len(j.buf) {
			data, size = j.buf, uint32(len(j.buf))|dataPlain
		}
		switch {
		case j.content == nil:
			for len(p.fragments) <= j.index {
				p.fragments = append(p.fragments, fragment{})
			}
			p.fragments[j.index] = fragment{out.at, size}
		case j.content.start == 0:
			j.content.start = out.at
			fallthrough
		default:
			*j.size = size
		}
		if err := out.write(data); err != nil {
			return err
		}
		l.drop(j)
	}
	return nil
}
