// Package decompress reads what somebody has compressed by gzip, xz, zstd or bzip2. Such a file may come from anybody: it says itself how much memory a reader
// needs, and does not get more than is usual.
package decompress

import (
	"bytes"
	"compress/bzip2"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/gunzip"
)

// The most memory that a file may ask for, in MiB. Programs that compress use 8 MiB of window with zstd, 128 at their best, and 64 with xz.
const (
	maxWindow = 256 // of zstd
	maxXZ     = 512 // of xz, for all that it does at once
)

// Format is a way to compress.
type Format struct {
	Name  string
	Magic string // what a file begins with
	open  func(context.Context, io.Reader) (io.ReadCloser, error)
}

// Formats are all of them.
func Formats() []Format {
	return []Format{
		{"gzip", "\x1f\x8b\x08", func(_ context.Context, r io.Reader) (io.ReadCloser, error) {
			plain, err := gunzip.NewReader(r)
			return io.NopCloser(plain), err
		}},
		{"xz", "\xfd7zXZ\x00", unxz},
		{"zstd", "\x28\xb5\x2f\xfd", unzstd},
		{"bzip2", "BZh", func(_ context.Context, r io.Reader) (io.ReadCloser, error) {
			return io.NopCloser(bzip2.NewReader(r)), nil
		}},
	}
}

// Of returns the format of a file that begins with head; it has no name if that is none of them.
func Of(head []byte) Format {
	for _, f := range Formats() {
		if bytes.HasPrefix(head, []byte(f.Magic)) {
			return f
		}
	}
	return Format{}
}

// NewReader reads what r has in a compressed form. The reader must be closed, and r must last so long.
func (f Format) NewReader(ctx context.Context, r io.Reader) (io.ReadCloser, error) {
	plain, err := f.open(ctx, r)
	if err != nil {
		return nil, explain(err)
	}
	return explaining{plain}, nil
}

// MemoryError says that a file asks for more memory than a stranger's file gets.
type MemoryError struct {
	Format string // its name
	Most   int    // MiB
	Remedy string // the command that decompresses it all the same
}

// Error implements error.
func (e *MemoryError) Error() string {
	return fmt.Sprintf("its %s asks for more than %d MiB of memory; if you trust it, unpack it yourself, with %s FILE", e.Format, e.Most, e.Remedy)
}

// explaining is a reader whose errors say what was done.
type explaining struct{ io.ReadCloser }

func (e explaining) Read(p []byte) (int, error) {
	n, err := e.ReadCloser.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // the end of a stream is this very value
		err = explain(err)
	}
	return n, err
}

func explain(err error) error {
	if err == io.EOF { //nolint:errorlint // this is the compressed file's end
		err = io.ErrUnexpectedEOF
	}
	var program *command.ExitError
	switch {
	case errors.Is(err, zstd.ErrWindowSizeExceeded):
		err = &MemoryError{"zstd", maxWindow, "zstd --decompress --long=31"}
	case errors.As(err, &program) && strings.Contains(program.Output, "Memory usage limit"):
		err = &MemoryError{"xz", maxXZ, "xz --decompress"}
	}
	return fmt.Errorf("decompressing it: %w", err)
}

func unzstd(_ context.Context, r io.Reader) (io.ReadCloser, error) {
	d, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow<<20))
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}

// xzReader is what the program xz gives.
type xzReader struct {
	*io.PipeReader
	stop  context.CancelCauseFunc
	ended chan struct{}
}

// errClosed is why a program is stopped that has not come to its end.
var errClosed = errors.New("its reader was closed")

func unxz(ctx context.Context, r io.Reader) (io.ReadCloser, error) {
	if _, err := command.Find("xz"); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancelCause(ctx)
	plain, w := io.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		args := []string{"--decompress", "--stdout", "--threads=0", fmt.Sprintf("--memlimit-decompress=%dMiB", maxXZ)}
		w.CloseWithError(command.Run(ctx, command.Cmd{Name: "xz", Args: args, Stdin: r, Stdout: w}))
	}()
	return &xzReader{plain, stop, ended}, nil
}

// Close ends the program, and returns when nothing reads its input any more.
func (x *xzReader) Close() error {
	x.stop(errClosed)
	err := x.PipeReader.Close()
	<-x.ended
	return err
}
