package boot

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/ctxio"
	"github.com/imgbuild/imgbuild/internal/gunzip"
)

// ErrContainer says that an image is a container.
var ErrContainer = errors.New("it is a container, which has no kernel of its own and boots nowhere: make a disk of it with a description that adds what is missing, " +
	"imgbuild stackbuild --stash NAME --description DIR --target-dir OUT (see docs/containers-into-vms.md)")

// decompressors are what images are compressed by, by what they begin with.
func decompressors() map[string]func(context.Context, io.Reader) (io.Reader, func() error, error) {
	nothing := func() error { return nil }
	return map[string]func(context.Context, io.Reader) (io.Reader, func() error, error){
		"\x1f\x8b\x08": func(_ context.Context, r io.Reader) (io.Reader, func() error, error) {
			out, err := gunzip.NewReader(r)
			return out, nothing, err
		},
		"\x28\xb5\x2f\xfd": func(_ context.Context, r io.Reader) (io.Reader, func() error, error) {
			out, err := zstd.NewReader(r)
			if err != nil {
				return nil, nil, err
			}
			return out, func() error { out.Close(); return nil }, nil
		},
		"\xfd7zXZ\x00": unxz,
	}
}

// unxz decompresses r with xz. The function it returns waits for xz.
func unxz(ctx context.Context, r io.Reader) (io.Reader, func() error, error) {
	out, in := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := command.Run(ctx, command.Cmd{Name: "xz", Args: []string{"--decompress", "--stdout", "--threads=0"}, Stdin: r, Stdout: in})
		in.CloseWithError(err)
		done <- err
	}()
	return out, func() error {
		out.CloseWithError(io.ErrClosedPipe)
		<-done // its error was the reader's
		return nil
	}, nil
}

// tarAt is where a tar archive has its mark (POSIX, pax, ustar header block).
const tarAt = 257

func isTar(head []byte) bool {
	return len(head) >= tarAt+5 && string(head[tarAt:tarAt+5]) == "ustar"
}

// isShell reports whether an image lies in something that has to be taken off first.
func isShell(head []byte) bool {
	for magic := range decompressors() {
		if bytes.HasPrefix(head, []byte(magic)) {
			return true
		}
	}
	return isTar(head)
}

// unpack takes one shell off: it writes what is in a compressed file or a tar archive into a new directory, and returns the file or, of an archive with more than
// a disk, the directory.
func (m *machine) unpack(ctx context.Context, name string) (_ string, err error) {
	dir, err := m.newDir()
	if err != nil {
		return "", err
	}
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	r := bufio.NewReaderSize(ctxio.Reader(ctx, f), 1<<20)
	for magic, decompress := range decompressors() {
		if head, err := r.Peek(len(magic)); err != nil || string(head) != magic {
			continue
		}
		plain, end, err := decompress(ctx, r)
		if err != nil {
			return "", fmt.Errorf("decompressing it: %w", err)
		}
		defer func() { err = errors.Join(err, end()) }()
		r = bufio.NewReaderSize(plain, 1<<20)
		break
	}
	head, err := r.Peek(sector)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("decompressing it: %w", err)
	}
	if !isTar(head) {
		out := filepath.Join(dir, "image")
		return out, writeSparse(out, r)
	}
	if err := unpackTar(r, dir); err != nil {
		return "", err
	}
	return diskIn(dir)
}

// diskIn returns the disk of an archive as clouds and virtual machine monitors have them, or the directory itself if the archive is none of these.
func diskIn(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	var disks []string
	described := false
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		switch {
		case e.Name() == "disk.raw", e.Name() == "box.img": // Google's images, Vagrant's boxes for libvirt
			return name, nil
		case strings.HasSuffix(e.Name(), ".vmdk"):
			disks = append(disks, name)
		case strings.HasSuffix(e.Name(), ".ovf"):
			described = true
		case e.Name() == "manifest.json":
			if data, err := os.ReadFile(name); err == nil && bytes.HasPrefix(data, []byte("[")) {
				return "", ErrContainer
			}
		}
	}
	if described && len(disks) > 0 { // OVA, and Vagrant's boxes for VirtualBox: the first disk is what is booted
		slices.Sort(disks)
		return disks[0], nil
	}
	return dir, nil
}

// unpackTar writes the files of the archive into dir. Such an archive has no directories.
func unpackTar(r io.Reader, dir string) error {
	in := tar.NewReader(r)
	for {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the archive: %w", err)
		}
		name := path.Clean(header.Name)
		switch {
		case name == "oci-layout" || strings.HasPrefix(name, "blobs/sha256"):
			return ErrContainer
		case strings.Contains(name, "/") || name == "..":
			return fmt.Errorf("%w: the archive has the file %q, as a root tree or something else may have that does not boot by itself", ErrUnknown, header.Name)
		case header.Typeflag != tar.TypeReg && header.Typeflag != tar.TypeGNUSparse:
			continue
		}
		if err := writeSparse(filepath.Join(dir, name), in); err != nil {
			return fmt.Errorf("unpacking %s: %w", name, err)
		}
	}
}

// writeSparse writes a new file, in which blocks of zeros are holes.
func writeSparse(name string, r io.Reader) error {
	out, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	const block = 64 << 10
	buffer, zeros, at := make([]byte, block), make([]byte, block), int64(0)
	for {
		n, err := io.ReadFull(r, buffer)
		if !bytes.Equal(buffer[:n], zeros[:n]) {
			if _, err := out.WriteAt(buffer[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("unpacking it: %w", err)
		}
	}
	if err := out.Truncate(at); err != nil {
		return err
	}
	return out.Close()
}
