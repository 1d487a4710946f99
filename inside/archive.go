package inside

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/decompress"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/layers/container"
	"github.com/imgbuild/imgbuild/registry/archive"
	"github.com/imgbuild/imgbuild/registry/reference"
)

// decompressed takes a shell of compression off.
func decompressed(f decompress.Format) format {
	return shell(f.Name, func(o *opener, ctx context.Context, p part) (part, error) {
		r, err := f.NewReader(ctx, p.reader())
		if err != nil {
			return part{}, err
		}
		inner, err := o.spool(ctx, r, p.size)
		return inner, errors.Join(err, r.Close())
	}, mark{0, f.Magic})
}

// spoolFrom keeps what fill makes of source bytes.
func (o *opener) spoolFrom(ctx context.Context, source int64, fill func(io.Writer) error) (part, error) {
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := fill(w)
		w.CloseWithError(err)
		done <- err
	}()
	p, err := o.spool(ctx, r, source)
	r.CloseWithError(io.ErrClosedPipe)
	if filling := <-done; filling != nil && err == nil {
		err = filling
	}
	return p, err
}

// tarFrom reads the tar that fill makes of source bytes.
func (o *opener) tarFrom(ctx context.Context, source int64, fill func(io.Writer) error) (*layers.Tree, error) {
	p, err := o.spoolFrom(ctx, source, fill)
	if err != nil {
		return nil, err
	}
	return readTar(ctx, p.reader())
}

func readTar(ctx context.Context, r *io.SectionReader) (*layers.Tree, error) {
	layer, err := layers.ReadLayer(ctx, r, layers.ReadOptions{Plain: true})
	if err != nil {
		return nil, err
	}
	return layers.Apply(layers.NewTree(), layer)
}

// foreignArchive reads what bsdtar can read and show as a tar.
func (o *opener) foreignArchive(ctx context.Context, p part) (*layers.Tree, error) {
	f, err := o.alone(ctx, p)
	if err != nil {
		return nil, err
	}
	tree, err := o.tarFrom(ctx, p.size, func(w io.Writer) error {
		return command.Run(ctx, command.Cmd{Name: "bsdtar", Args: []string{"-c", "--format=pax", "-f", "-", "@" + descriptor}, Files: []*os.File{f}, Stdout: w})
	})
	if size := mediumSize(p.reader()); err != nil && size > p.size {
		return nil, fmt.Errorf("it is cut off: the ISO image has %d bytes, and %d are there; %w", size, p.size, err)
	}
	return tree, err
}

// mediumSize returns how many bytes an ISO image has by its primary volume descriptor (ECMA-119, sections 8.4.8 and 8.4.12), 0 for what is none.
func mediumSize(r io.ReaderAt) int64 {
	const sector, descriptor = 2048, 16 * 2048
	head := make([]byte, 132)
	if _, err := r.ReadAt(head, descriptor); err != nil || string(head[1:6]) != "CD001" {
		return 0
	}
	return int64(binary.LittleEndian.Uint32(head[80:])) * sector
}

// tar reads a tar archive, which may hold a container.
func (o *opener) tar(ctx context.Context, p part, parts []string) (*layers.Tree, error) {
	tree, err := readTar(ctx, p.reader())
	if err != nil {
		return nil, err
	}
	var transport reference.Transport
	if _, err := tree.Lookup("oci-layout"); err == nil {
		transport = reference.OCIArchive
	} else if list, err := tree.ReadFile("manifest.json", 1<<20); err == nil && len(list) > 0 && list[0] == '[' {
		transport = reference.DockerArchive
	} else {
		return o.within(ctx, tree, parts)
	}
	o.kinds[len(o.kinds)-1] = string(transport)
	return o.container(ctx, p, transport, parts)
}

// container opens the container that is named, or the only one, of an archive.
func (o *opener) container(ctx context.Context, p part, transport reference.Transport, parts []string) (*layers.Tree, error) {
	f, err := o.alone(ctx, p)
	if err != nil {
		return nil, err
	}
	ref := reference.Reference{Transport: transport, Path: fmt.Sprintf("/proc/self/fd/%d", f.Fd())}
	opts := archive.Options{Platform: o.Platform, TempDir: o.TempDir}
	if len(parts) > 0 {
		names, err := archive.Names(ctx, ref, opts)
		if err != nil {
			return nil, err
		}
		if slices.Contains(names, parts[0]) {
			ref.Image, parts = parts[0], parts[1:]
		}
	}
	opened, err := archive.Open(ctx, ref, opts)
	if err != nil {
		return nil, err
	}
	o.keep(opened)
	tree, err := container.Open(ctx, opened.Image, nil, container.Options{Log: o.Log})
	if err != nil {
		return nil, err
	}
	o.keep(tree)
	return o.within(ctx, tree.Tree, parts)
}
