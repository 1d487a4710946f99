package deb

import (
	"bufio"
	"context"
	"errors"
	"io"
	"path"

	"github.com/klauspost/compress/zstd"
)

// streams is how many packages are decompressed at once, the one included that is being unpacked. Each has some parts of memory of a certain size, in bytes.
const (
	streams  = 3
	parts    = 8
	partSize = 256 << 10
)

// stream is the files of one package after the other, decompressed ahead of their use. Its memory is used again for the next package.
type stream struct {
	free, full chan []byte
	part, rem  []byte // what is being read, and what of it is left
	err        error  // of run; it may be read when full is closed
	raw        *bufio.Reader
	zstd       *zstd.Decoder
}

func newStream() *stream {
	s := &stream{free: make(chan []byte, parts), raw: bufio.NewReaderSize(nil, 64<<10)}
	for range parts {
		s.free <- make([]byte, partSize)
	}
	return s
}

// begin makes the stream ready for another package. The one before has been read to its end.
func (s *stream) begin() { s.full, s.err = make(chan []byte, parts), nil }

// run decompresses a package's files until they end.
func (s *stream) run(ctx context.Context, a *Archive) {
	full := s.full
	s.err = a.wrap(s.decompress(ctx, a))
	close(full)
}

func (s *stream) decompress(ctx context.Context, a *Archive) (err error) {
	r, err := s.open(ctx, a)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for {
		var part []byte
		select {
		case part = <-s.free:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		n, err := io.ReadFull(r, part[:partSize])
		s.full <- part[:n] // there is room for all parts
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// open opens a package's files. A decompressor that is there is used again.
func (s *stream) open(ctx context.Context, a *Archive) (_ io.ReadCloser, err error) {
	if path.Ext(a.data.name) != ".zst" {
		return a.Data(ctx)
	}
	s.raw.Reset(io.NewSectionReader(a.file, a.data.offset, a.data.size))
	if s.zstd == nil {
		s.zstd, err = zstd.NewReader(s.raw, zstd.WithDecoderConcurrency(1))
	} else {
		err = s.zstd.Reset(s.raw)
	}
	return io.NopCloser(s.zstd), err
}

func (s *stream) Read(p []byte) (int, error) {
	for len(s.rem) == 0 {
		if s.part != nil {
			s.free <- s.part
			s.part = nil
		}
		part, ok := <-s.full
		if !ok {
			if s.err != nil {
				return 0, s.err
			}
			return 0, io.EOF
		}
		s.part, s.rem = part, part
	}
	n := copy(p, s.rem)
	s.rem = s.rem[n:]
	return n, nil
}

// rest reads what comes after the end of the archive of files, so that what is damaged there is not missed.
func (s *stream) rest() error {
	_, err := io.Copy(io.Discard, s)
	return err
}
