package diskformat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/imgbuild/imgbuild/internal/sparse"
)

// batchSize is how many bytes of the disk one worker takes at a time, at least one block.
const batchSize = 1 << 20

// block is one block of the disk that does not read as zeros.
type block struct {
	index int64  // the disk's bytes from index*blockSize
	data  []byte // blockSize bytes; beyond the disk's end zeros
	out   []byte // what the worker made of it
}

// extent is a run of bytes of the raw file that is no hole.
type extent struct{ start, end int64 }

// dataExtents lists what is no hole. A file system that doesn't know holes gives one extent.
func dataExtents(f *os.File, size int64) ([]extent, error) {
	var list []extent
	for at := int64(0); at < size; {
		start, end, err := sparse.NextData(f, at, size)
		if err != nil {
			return nil, err
		}
		if start < size {
			list = append(list, extent{start, end})
		}
		at = end
	}
	return list, nil
}

// batch is a run of blocks that one worker handles.
type batch struct {
	start  int64 // first byte on the disk
	buffer []byte
	wanted []int64 // indexes of the blocks that may hold data
	blocks []block
	done   chan struct{}
}

// eachBlock reads the blocks of the disk that hold something else than zeros. work is called for each on several goroutines at once and may
// set out; then emit is called for each, one after the other, in the order on the disk.
func eachBlock(ctx context.Context, j *job, blockSize int64, work func(*block) error, emit func(*block) error) error {
	extents, err := dataExtents(j.raw, j.size)
	if err != nil {
		return err
	}
	var total int64
	for _, e := range extents {
		total += e.end - e.start
	}
	j.settings.Progress.SetTotal(total)
	group, ctx := errgroup.WithContext(ctx)
	todo := make(chan *batch)
	inOrder := make(chan *batch, 2*j.settings.Jobs)
	span := max(batchSize/blockSize, 1) * blockSize
	buffers := sync.Pool{New: func() any { return make([]byte, span) }}
	group.Go(func() error {
		defer close(todo)
		defer close(inOrder)
		return distribute(ctx, extents, blockSize, span, func(b *batch) error {
			for _, to := range []chan *batch{inOrder, todo} {
				select {
				case to <- b:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			return nil
		})
	})
	for range j.settings.Jobs {
		group.Go(func() error {
			for b := range todo {
				b.buffer = buffers.Get().([]byte)
				if err := b.read(j, blockSize, work); err != nil {
					return err
				}
				close(b.done)
			}
			return nil
		})
	}
	group.Go(func() error {
		for b := range inOrder {
			select {
			case <-b.done:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			for i := range b.blocks {
				if err := emit(&b.blocks[i]); err != nil {
					return err
				}
			}
			j.settings.Progress.Add(int64(len(b.wanted)) * blockSize)
			buffers.Put(b.buffer)
		}
		return nil
	})
	return group.Wait()
}

// distribute makes batches of the blocks that extents touch, in ascending order.
func distribute(ctx context.Context, extents []extent, blockSize, span int64, send func(*batch) error) error {
	var current *batch
	next := int64(0) // the first block not asked for yet
	for _, e := range extents {
		for index := max(e.start/blockSize, next); index*blockSize < e.end; index++ {
			start := index * blockSize / span * span
			if current != nil && current.start != start {
				if err := send(current); err != nil {
					return err
				}
				current = nil
			}
			if current == nil {
				current = &batch{start: start, done: make(chan struct{})}
			}
			current.wanted = append(current.wanted, index)
			next = index + 1
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
	}
	if current == nil {
		return nil
	}
	return send(current)
}

// read reads the batch's blocks and gives those with data to work.
func (b *batch) read(j *job, blockSize int64, work func(*block) error) error {
	for _, index := range b.wanted {
		at := index * blockSize
		data := b.buffer[at-b.start:][:blockSize]
		n, err := j.raw.ReadAt(data[:min(blockSize, j.size-at)], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("reading the disk at byte %d: %w", at, err)
		}
		clear(data[n:])
		if sparse.IsZero(data) {
			continue
		}
		blk := block{index: index, data: data}
		if err := work(&blk); err != nil {
			return err
		}
		b.blocks = append(b.blocks, blk)
	}
	return nil
}

// noWork leaves a block as it is.
func noWork(*block) error { return nil }

// writeSparse writes data at an offset and leaves holes where it is zeros; the file must read as zeros there.
func writeSparse(w io.WriterAt, data []byte, at int64) error {
	const step = 4096
	for start := 0; start < len(data); {
		end := min(start+step, len(data))
		if sparse.IsZero(data[start:end]) {
			start = end
			continue
		}
		for end < len(data) && !sparse.IsZero(data[end:min(end+step, len(data))]) {
			end = min(end+step, len(data))
		}
		if _, err := w.WriteAt(data[start:end], at+int64(start)); err != nil {
			return err
		}
		start = end
	}
	return nil
}

// writeRaw copies the disk with its holes.
func writeRaw(ctx context.Context, j *job) error {
	if err := j.out.Truncate(j.size); err != nil {
		return err
	}
	const blockSize = 1 << 20
	return eachBlock(ctx, j, blockSize, noWork, func(b *block) error {
		at := b.index * blockSize
		return writeSparse(j.out, b.data[:min(blockSize, j.size-at)], at)
	})
}
