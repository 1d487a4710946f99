package sums

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/internal/sparse"
)

// shown is from how many bytes on counting is shown as work: it takes half a second where the processor has no instructions for SHA-256.
const shown = 256 << 20

// zeros are what is counted for holes.
var zeros [largest]byte

// SHA256 returns the SHA-256 of a file in lower-case hexadecimal, and its length in bytes. Holes are not read, but count as the zeros that they are: SHA-256 knows no
// shortcut, and takes eight minutes for 1 TiB on a processor that counts 2 GiB/s.
func SHA256(ctx context.Context, f *os.File, reporter progress.Reporter) (string, int64, error) {
	info, err := f.Stat()
	if err != nil {
		return "", 0, err
	}
	c := newDigester(f)
	err = c.showing(ctx, info.Size(), reporter)
	return c.sum(), c.at, err
}

// digester counts the SHA-256 of a file, from its beginning.
type digester struct {
	file   *os.File
	hash   hash.Hash
	buffer []byte
	at     int64 // up to where it is counted
	// dataStart and dataEnd are the next run that is no hole, as far as it is known: at lies before dataEnd then.
	dataStart, dataEnd int64
}

func newDigester(f *os.File) digester {
	return digester{file: f, hash: sha256.New(), buffer: make([]byte, largest)}
}

func (c *digester) sum() string { return hex.EncodeToString(c.hash.Sum(nil)) }

// showing is count with a task in the display of progress where it takes its time.
func (c *digester) showing(ctx context.Context, end int64, reporter progress.Reporter) error {
	if info, err := c.file.Stat(); err != nil || info.Size() < end {
		return errors.Join(err, io.ErrUnexpectedEOF)
	}
	if end-c.at < shown {
		return c.count(ctx, end, func(int64) {})
	}
	task := reporter.Start("check sum of "+filepath.Base(c.file.Name()), end-c.at, progress.Bytes)
	err := c.count(ctx, end, task.Add)
	task.Done(err)
	return err
}

// count counts up to end. What lies behind may change until then.
func (c *digester) count(ctx context.Context, end int64, add func(int64)) error {
	for c.at < end {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if c.at >= c.dataEnd {
			var err error
			if c.dataStart, c.dataEnd, err = sparse.NextData(c.file, c.at, end); err != nil {
				return err
			}
		}
		piece := zeros[:]
		n := min(end-c.at, int64(len(piece)))
		if c.at < c.dataStart {
			n = min(n, c.dataStart-c.at)
		} else {
			piece, n = c.buffer, min(n, c.dataEnd-c.at)
			if _, err := c.file.ReadAt(piece[:n], c.at); err != nil {
				if errors.Is(err, io.EOF) {
					err = io.ErrUnexpectedEOF
				}
				return fmt.Errorf("reading %s: %w", c.file.Name(), err)
			}
		}
		c.hash.Write(piece[:n])
		c.at += n
		add(n)
	}
	return nil
}
