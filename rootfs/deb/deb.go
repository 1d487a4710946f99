// Package deb reads Debian's binary packages (deb(5)) and puts them into a root tree in which nothing can run yet.
package deb

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/rootfs/dpkg"
)

// maxControl bounds the control files of a package, in bytes.
const maxControl = 64 << 20

// Archive is an opened package.
type Archive struct {
	name          string
	file          io.ReaderAt
	control, data member
	closer        io.Closer
}

// member is a file in the archive.
type member struct {
	name         string
	offset, size int64 // bytes
}

// Control is what a package says of itself.
type Control struct {
	// Text is the control file as it is; Fields are its fields.
	Text   []byte
	Fields map[string]string
	// Files are the other control files by name: scripts, lists of sums, triggers.
	Files map[string][]byte

	headers map[string]*tar.Header // of Files
}

// Name is the package's name.
func (c *Control) Name() string { return c.Fields["Package"] }

// Open opens the package in a file.
func Open(name string) (*Archive, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	a, err := New(file, info.Size())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reading the package %s: %w", name, err), file.Close())
	}
	a.name, a.closer = name, file
	return a, nil
}

// Close closes the package's file.
func (a *Archive) Close() error {
	if a.closer == nil {
		return nil
	}
	return a.closer.Close()
}

// The form of ar(5): a magic text, then members with a header of fixed columns each, at even offsets.
const (
	arMagic  = "!<arch>\n"
	arHeader = 60 // bytes: name 16, time 12, uid 6, gid 6, mode 8, size 10, end 2
	arEnd    = "`\n"
)

// New reads a package of size bytes.
func New(file io.ReaderAt, size int64) (*Archive, error) {
	a := &Archive{file: file}
	magic := make([]byte, len(arMagic))
	if _, err := file.ReadAt(magic, 0); err != nil || string(magic) != arMagic {
		return nil, errors.New("it is no Debian package: it has no header of ar")
	}
	for offset, index := int64(len(arMagic)), 0; offset < size; index++ {
		header := make([]byte, arHeader)
		if _, err := file.ReadAt(header, offset); err != nil {
			return nil, fmt.Errorf("it ends too early: %w", err)
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(header[48:58])), 10, 64)
		offset += arHeader
		if err != nil || n < 0 || string(header[58:]) != arEnd || n > size-offset {
			return nil, errors.New("it has a damaged header of ar")
		}
		m := member{strings.TrimSuffix(strings.TrimSpace(string(header[:16])), "/"), offset, n}
		switch {
		case index == 0:
			if err := a.checkVersion(m); err != nil {
				return nil, err
			}
		case strings.HasPrefix(m.name, "control.tar"):
			a.control = m
		case strings.HasPrefix(m.name, "data.tar"):
			a.data = m
		}
		offset += n + n%2
	}
	if a.control.name == "" || a.data.name == "" {
		return nil, errors.New("it is no Debian package: it has no control.tar or data.tar")
	}
	return a, nil
}

// checkVersion reads the first member, debian-binary.
func (a *Archive) checkVersion(m member) error {
	text := make([]byte, min(m.size, 16))
	if _, err := a.file.ReadAt(text, m.offset); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if m.name != "debian-binary" || !bytes.HasPrefix(text, []byte("2.")) {
		return errors.New("it is no Debian package of format 2")
	}
	return nil
}

// Control reads the package's control files.
func (a *Archive) Control(ctx context.Context) (*Control, error) {
	r, err := a.open(ctx, a.control)
	if err != nil {
		return nil, err
	}
	c := &Control{Files: map[string][]byte{}, headers: map[string]*tar.Header{}}
	left := int64(maxControl)
	for archive := tar.NewReader(r); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, a.wrap(errors.Join(err, r.Close()))
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		data, err := io.ReadAll(io.LimitReader(archive, left+1))
		if left -= int64(len(data)); err == nil && left < 0 {
			err = errors.New("its control files are too large")
		}
		if err != nil {
			return nil, a.wrap(errors.Join(err, r.Close()))
		}
		if name := path.Base(header.Name); name == "control" {
			c.Text = data
		} else {
			c.Files[name], c.headers[name] = data, header
		}
	}
	if err := r.Close(); err != nil {
		return nil, a.wrap(err)
	}
	if stanzas := dpkg.Stanzas(c.Text); len(stanzas) == 1 {
		c.Fields = stanzas[0]
	}
	if !validName(c.Name()) || c.Fields["Version"] == "" || strings.ContainsAny(c.Fields["Architecture"], "/.") {
		return nil, a.wrap(errors.New("its control file names no package, version or architecture"))
	}
	return c, nil
}

// validName reports whether a text can be the name of a package (deb-control(5)); none of those leads out of a directory.
func validName(name string) bool {
	for _, c := range name {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.ContainsRune("+-.", c)) {
			return false
		}
	}
	return len(name) > 1 && name[0] != '.'
}

// Data returns the package's files as a tar stream, which the caller closes.
func (a *Archive) Data(ctx context.Context) (io.ReadCloser, error) { return a.open(ctx, a.data) }

func (a *Archive) wrap(err error) error {
	if err == nil || a.name == "" {
		return err
	}
	return fmt.Errorf("reading the package %s: %w", a.name, err)
}

// open decompresses a member by its name's ending.
func (a *Archive) open(ctx context.Context, m member) (io.ReadCloser, error) {
	raw := bufio.NewReaderSize(io.NewSectionReader(a.file, m.offset, m.size), 64<<10) // some decompressors read single bytes
	var r io.Reader
	var err error
	switch path.Ext(m.name) {
	case ".tar":
		r = raw
	case ".gz":
		r, err = gzip.NewReader(raw)
	case ".zst":
		d, zerr := zstd.NewReader(raw, zstd.WithDecoderConcurrency(1))
		if zerr == nil {
			return d.IOReadCloser(), nil
		}
		err = zerr
	case ".xz":
		if m.size > worthAProgram {
			if _, missing := command.Find("xz"); missing == nil {
				return throughProgram(ctx, raw, "xz", "--decompress", "--stdout"), nil
			}
		}
		r, err = xz.NewReader(raw)
	case ".bz2":
		r = bzip2.NewReader(raw)
	default:
		err = fmt.Errorf("its member %s is compressed in an unknown way", m.name)
	}
	if err != nil {
		return nil, a.wrap(err)
	}
	return io.NopCloser(r), nil
}

// worthAProgram is from how many compressed bytes on a program of its own decompresses faster, its start included.
const worthAProgram = 64 << 10

// throughProgram is a stream that a program makes of another one.
func throughProgram(ctx context.Context, in io.Reader, name string, args ...string) io.ReadCloser {
	ctx, cancel := context.WithCancel(ctx)
	out, to := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		to.CloseWithError(command.Run(ctx, command.Cmd{Name: name, Args: args, Stdin: in, Stdout: to}))
	}()
	return &programStream{PipeReader: out, cancel: cancel, done: done}
}

// programStream is what a program prints. Closing it ends the program.
type programStream struct {
	*io.PipeReader
	cancel context.CancelFunc
	done   chan struct{}
}

func (p *programStream) Close() error {
	err := p.PipeReader.Close()
	p.cancel()
	<-p.done
	return err
}
