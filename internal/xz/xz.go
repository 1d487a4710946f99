// Package xz compresses into the format .xz: about three times as fast as the program xz at its lowest levels, and no larger than they do.
//
// Input is cut into blocks that are compressed on their own, several at a time, so that the bytes do not depend on the number of processors, and
// readers can use several too. What is compressed already is stored as it is, which costs next to no time.
//
// [Packer] is for small contents that must become as small as the program xz makes them at its level 6: it weighs all ways to write a content, as that
// program does, with about the same result and in about the same time.
//
// The format is that of "The .xz File Format" 1.2.1 (tukaani.org/xz/xz-file-format.txt), LZMA2 and LZMA that of the LZMA SDK's specification
// (lzma-specification.txt).
package xz

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"io"
	"runtime"

	"golang.org/x/sync/errgroup"
)

// BlockSize is how many bytes are compressed on their own, which is also how much memory a reader needs for each.
const BlockSize = 1 << (dictionaryBits/2 + 12)

const (
	dictionaryBits = 22 // section 5.3.1: a dictionary of 2 << (dictionaryBits / 2 + 11) bytes
	maxWorkers     = 8  // each needs less than two blocks of memory

	headerMagic = "\xfd7zXZ\x00"
	footerMagic = "YZ"
	checkCRC32  = 1 // the check that every reader knows
	filterLZMA2 = 0x21
	align       = 4 // what the parts of a file are padded to, in bytes
)

// block is one on its way through the workers.
type block struct {
	plain, packed []byte
	sum           uint32
	done          chan struct{}
}

// Compress writes what fill writes to out, compressed. It stops when ctx is done.
func Compress(ctx context.Context, out io.Writer, fill func(io.Writer) error) error {
	workers := min(max(runtime.GOMAXPROCS(0), 1), maxWorkers)
	group, ctx := errgroup.WithContext(ctx)
	s := &stream{ctx: ctx, free: make(chan *block, workers+1), work: make(chan *block, workers+1), ordered: make(chan *block, workers+1)}
	for range cap(s.free) {
		s.free <- &block{}
	}
	for range workers {
		group.Go(func() error { s.compress(); return nil })
	}
	group.Go(func() error {
		defer close(s.ordered)
		defer close(s.work)
		if err := fill(s); err != nil {
			return err
		}
		return s.flush()
	})
	group.Go(func() error { return s.write(out) })
	return group.Wait()
}

// stream is the way of the blocks.
type stream struct {
	ctx     context.Context
	current *block
	free    chan *block // unused
	work    chan *block // to be compressed
	ordered chan *block // to be written
}

// Write implements [io.Writer]: it cuts into blocks.
func (s *stream) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		if s.current == nil {
			select {
			case s.current = <-s.free:
				s.current.plain, s.current.done = s.current.plain[:0], make(chan struct{})
			case <-s.ctx.Done():
				return 0, context.Cause(s.ctx)
			}
		}
		if s.current.plain == nil {
			s.current.plain = make([]byte, 0, BlockSize)
		}
		n := min(len(rest), BlockSize-len(s.current.plain))
		s.current.plain = append(s.current.plain, rest[:n]...)
		rest = rest[n:]
		if len(s.current.plain) == BlockSize {
			if err := s.flush(); err != nil {
				return 0, err
			}
		}
	}
	return len(p), nil
}

// flush sends the block that is begun to the workers. There are no more blocks than the channels hold.
func (s *stream) flush() error {
	if err := context.Cause(s.ctx); err != nil {
		return err
	}
	if s.current != nil {
		s.work <- s.current
		s.ordered <- s.current
		s.current = nil
	}
	return nil
}

// compress is one worker.
func (s *stream) compress() {
	e := newEncoder()
	for b := range s.work {
		if s.ctx.Err() == nil {
			b.sum = crc32.ChecksumIEEE(b.plain)
			b.packed = e.encode(b.packed[:0], b.plain)
		}
		close(b.done)
	}
}

// write writes the whole file.
func (s *stream) write(out io.Writer) error {
	flags := []byte{0, checkCRC32}
	if _, err := out.Write(sum(append([]byte(headerMagic), flags...), len(headerMagic))); err != nil {
		return err
	}
	index, count := []byte{}, uint64(0)
	for b := range s.ordered {
		select {
		case <-b.done:
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
		header := blockHeader(len(b.packed), len(b.plain))
		unpadded := len(header) + len(b.packed) + crc32.Size
		index = binary.AppendUvarint(binary.AppendUvarint(index, uint64(unpadded)), uint64(len(b.plain)))
		count++
		for _, part := range [][]byte{header, binary.LittleEndian.AppendUint32(pad(b.packed), b.sum)} {
			if _, err := out.Write(part); err != nil {
				return err
			}
		}
		s.free <- b
	}
	if err := context.Cause(s.ctx); err != nil {
		return err
	}
	_, err := out.Write(appendIndex(nil, flags, count, index))
	return err
}

// blockHeader is that of section 3.1, with both sizes, so that readers can work on several blocks.
func blockHeader(packed, plain int) []byte {
	const bothSizes = 0x40 | 0x80
	header := []byte{0, bothSizes}
	header = binary.AppendUvarint(binary.AppendUvarint(header, uint64(packed)), uint64(plain))
	header = pad(append(header, filterLZMA2, 1, dictionaryBits))
	header[0] = byte((len(header)+crc32.Size)/align - 1)
	return sum(header, 0)
}

// appendIndex appends the end of a file: index and footer (sections 4 and 2.1.2).
func appendIndex(out, flags []byte, blocks uint64, records []byte) []byte {
	index := sum(pad(append(binary.AppendUvarint([]byte{0}, blocks), records...)), 0)
	footer := binary.LittleEndian.AppendUint32(nil, uint32(len(index)/align-1))
	footer = append(footer, flags...)
	out = binary.LittleEndian.AppendUint32(append(out, index...), crc32.ChecksumIEEE(footer))
	return append(append(out, footer...), footerMagic...)
}

func pad(p []byte) []byte {
	for len(p)%align != 0 {
		p = append(p, 0)
	}
	return p
}

// sum appends the CRC-32 of what begins at from.
func sum(p []byte, from int) []byte {
	return binary.LittleEndian.AppendUint32(p, crc32.ChecksumIEEE(p[from:]))
}
