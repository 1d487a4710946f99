// Package sparse writes files in which long runs of zeros are holes, which take no room.
package sparse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/internal/ctxio"
)

// blockSize is the length of what is left out as a whole, in bytes.
const blockSize = 64 << 10

// Bounds of what a file from somebody else may become when it is decompressed. Zeros take no room and count only for the first one.
const (
	MaxSize  = 1 << 40 // bytes
	minLimit = 4 << 30 // up to how many bytes the ratio does not matter
	maxRatio = 2000    // bytes for each one that they come from
)

// Copy writes what r gives to w, from offset at on, where w reads as zeros. Blocks of zeros are left out, at the end too: who needs the length sets it. It returns
// how many bytes r gave.
func Copy(ctx context.Context, w io.WriterAt, at int64, r io.Reader) (int64, error) {
	return copyBlocks(ctx, w, at, r, func(int64, int64) error { return nil })
}

// Unpack is [Copy] to the beginning of w for what somebody else has packed into source bytes. It fails when these become more than they honestly can.
func Unpack(ctx context.Context, w io.WriterAt, r io.Reader, source int64) (int64, error) {
	return copyBlocks(ctx, w, 0, r, func(size, written int64) error {
		if size > MaxSize || written > minLimit && written/maxRatio > source {
			return fmt.Errorf("%d bytes of it have become more than %d: no honest image is like that", source, size)
		}
		return nil
	})
}

// copyBlocks asks check after every block: with how many bytes r has given, and how many of them were written.
func copyBlocks(ctx context.Context, w io.WriterAt, at int64, r io.Reader, check func(size, written int64) error) (size int64, err error) {
	r = ctxio.Reader(ctx, r)
	buffer, written := make([]byte, blockSize), int64(0)
	for {
		n, readErr := fill(r, buffer)
		if !IsZero(buffer[:n]) {
			if _, err := w.WriteAt(buffer[:n], at+size); err != nil {
				return size, err
			}
			written += int64(n)
		}
		size += int64(n)
		if err := check(size, written); err != nil {
			return size, err
		}
		if errors.Is(readErr, io.EOF) {
			return size, nil
		}
		if readErr != nil {
			return size, readErr
		}
	}
}

// fill reads until the buffer is full. Unlike io.ReadFull it tells the end, which is [io.EOF], from a stream that breaks off.
func fill(r io.Reader, buffer []byte) (n int, err error) {
	for n < len(buffer) && err == nil {
		var more int
		more, err = r.Read(buffer[n:])
		n += more
	}
	return n, err
}

// IsZero reports whether there is nothing but zeros.
func IsZero(p []byte) bool {
	const step = 4096
	var zeros [step]byte
	for len(p) > 0 {
		n := min(step, len(p))
		if !bytes.Equal(p[:n], zeros[:n]) {
			return false
		}
		p = p[n:]
	}
	return true
}

// NextData returns the next run of bytes from at on that is no hole of a file of the given size; start is size if there is none. A file system that knows no holes says
// that everything is data. The file's offset changes.
func NextData(f *os.File, at, size int64) (start, end int64, err error) {
	if at >= size {
		return size, size, nil
	}
	start, err = unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return size, size, nil
	case errors.Is(err, unix.EINVAL):
		return at, size, nil
	case err == nil:
		end, err = unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("looking for holes in %s: %w", f.Name(), err)
	}
	return min(start, size), min(end, size), nil
}
