// Package spool keeps bytes that are read several times, or in another order than they come, in files without a name. Such a file goes when it is closed, at
// the latest when the process ends, however that is.
package spool

import (
	"context"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/internal/ctxio"
)

// New opens an empty file without a name in dir. If that is empty, it is in $TMPDIR or else in /var/tmp, where large files belong: /tmp may be memory
// (file-hierarchy(7)).
func New(dir string) (*os.File, error) {
	if dir == "" {
		dir = os.Getenv("TMPDIR")
	}
	if dir == "" {
		dir = "/var/tmp"
	}
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), dir+"/(unnamed)"), nil
	}
	// Not every file system can do that.
	f, err := os.CreateTemp(dir, "imgbuild-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// File is a file without a name that holds what was copied into it.
type File struct {
	*os.File
	size int64
}

// Size returns its length in bytes.
func (f *File) Size() int64 { return f.size }

// Copy keeps what r gives in a file as [New] makes it. The caller closes it.
func Copy(ctx context.Context, dir string, r io.Reader) (*File, error) {
	f, err := New(dir)
	if err != nil {
		return nil, err
	}
	size, err := io.Copy(f, ctxio.Reader(ctx, r))
	if err != nil {
		f.Close()
		return nil, err
	}
	return &File{f, size}, nil
}
