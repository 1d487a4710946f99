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

	"github.com/imgbuild/imgbuild/internal/decompress"
	"github.com/imgbuild/imgbuild/internal/sparse"
)

// ErrContainer says that an image is a container.
var ErrContainer = errors.New("it is a container, which has no kernel of its own and boots nowhere: make a disk of it with a description that adds what is missing, " +
	"imgbuild stackbuild --stash NAME --description DIR --target-dir OUT (see docs/containers-into-vms.md)")

// tarAt is where a tar archive has its mark (POSIX, pax, ustar header block).
const tarAt = 257

func isTar(head []byte) bool {
	return len(head) >= tarAt+5 && string(head[tarAt:tarAt+5]) == "ustar"
}

// isShell reports whether an image lies in something that has to be taken off first.
func isShell(head []byte) bool {
	return decompress.Of(head).Name != "" || isTar(head)
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
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	r := bufio.NewReaderSize(f, 1<<20)
	head, err := peek(r)
	if err != nil {
		return "", err
	}
	if format := decompress.Of(head); format.Name != "" {
		plain, err := format.NewReader(ctx, r)
		if err != nil {
			return "", err
		}
		defer func() { err = errors.Join(err, plain.Close()) }()
		r = bufio.NewReaderSize(plain, 1<<20)
		if head, err = peek(r); err != nil {
			return "", err
		}
	}
	if !isTar(head) {
		out := filepath.Join(dir, "image")
		return out, write(ctx, out, r, info.Size())
	}
	if err := unpackTar(ctx, r, dir, info.Size()); err != nil {
		return "", err
	}
	return diskIn(dir)
}

// peek returns the first bytes of what r has, which may be short.
func peek(r *bufio.Reader) ([]byte, error) {
	head, err := r.Peek(sector)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading it: %w", err)
	}
	return head, nil
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

// unpackTar writes the files of the archive, which has source bytes, into dir. Such an archive has no directories.
func unpackTar(ctx context.Context, r io.Reader, dir string, source int64) error {
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
		if err := write(ctx, filepath.Join(dir, name), in, source); err != nil {
			return fmt.Errorf("unpacking %s: %w", name, err)
		}
	}
}

// write writes a new file, in which blocks of zeros are holes. source is how many bytes what r gives comes from.
func write(ctx context.Context, name string, r io.Reader, source int64) error {
	out, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	size, err := sparse.Unpack(ctx, out, r, source)
	if err == nil {
		err = out.Truncate(size)
	}
	return errors.Join(err, out.Close())
}
