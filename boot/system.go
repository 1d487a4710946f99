package boot

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/qemu"
)

// xzMagic begins a file compressed by xz.
const xzMagic = "\xfd7zXZ\x00"

// isArchive reports whether a file is a tar archive, perhaps compressed by xz.
func isArchive(head []byte) bool {
	return bytes.HasPrefix(head, []byte(xzMagic)) || len(head) > 262 && string(head[257:262]) == "ustar"
}

// system boots a kernel-initrd-system, the archive of the image types kis and pxe.
func (m *machine) system(ctx context.Context, opts Options) error {
	m.kind = "kernel-initrd-system"
	if m.spec.Firmware == "" {
		m.spec.Firmware = qemu.BIOS // QEMU's own, which starts the kernel at once
	}
	dir, err := m.workdir()
	if err != nil {
		return err
	}
	if err := unpack(ctx, opts.Image, dir); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var base string // what all names begin with
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".initrd"); ok {
			base, m.spec.Initrd = name, filepath.Join(dir, e.Name())
		}
	}
	for _, e := range entries {
		file := filepath.Join(dir, e.Name())
		switch {
		case strings.HasSuffix(e.Name(), ".kernel"):
			m.spec.Kernel = file
		case strings.HasSuffix(e.Name(), ".append"):
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			m.spec.Append = string(text)
		case e.Name() == base+".xz":
			if err := decompress(ctx, file); err != nil {
				return err
			}
			m.spec.Disks = []qemu.Disk{{File: strings.TrimSuffix(file, ".xz"), Format: "raw"}}
		case e.Name() == base && base != "":
			m.spec.Disks = []qemu.Disk{{File: file, Format: "raw"}}
		}
	}
	if m.spec.Kernel == "" {
		return fmt.Errorf("%w: the archive has no kernel", ErrUnknown)
	}
	// A machine without a screen shows nothing otherwise.
	if !strings.Contains(m.spec.Append, "console=") {
		m.spec.Append += " console=" + map[string]string{"x86_64": "ttyS0", "aarch64": "ttyAMA0"}[m.spec.Arch]
	}
	return nil
}

// unpack writes the files of the archive into dir. Such an archive has no directories.
func unpack(ctx context.Context, archive, dir string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, len(xzMagic))
	if _, err := f.ReadAt(head, 0); err != nil {
		return err
	}
	if string(head) != xzMagic {
		return unpackTar(f, dir)
	}
	r, w := io.Pipe()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		err := command.Run(ctx, command.Cmd{Name: "xz", Args: []string{"--decompress", "--stdout"}, Stdin: f, Stdout: w})
		w.CloseWithError(err)
		return err
	})
	group.Go(func() error {
		err := unpackTar(r, dir)
		r.CloseWithError(err)
		return err
	})
	return group.Wait()
}

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
		if header.Typeflag != tar.TypeReg {
			continue
		}
		name := path.Clean(header.Name)
		if strings.Contains(name, "/") || name == ".." {
			return fmt.Errorf("%w: the archive has the file %q", ErrUnknown, header.Name)
		}
		out, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, in)
		if err := errors.Join(err, out.Close()); err != nil {
			return fmt.Errorf("unpacking %s: %w", name, err)
		}
	}
}

func decompress(ctx context.Context, file string) error {
	return command.Run(ctx, command.Cmd{Name: "xz", Args: []string{"--decompress", "--keep", file}})
}
