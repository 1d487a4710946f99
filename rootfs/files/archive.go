package files

import (
	"bytes"
	"compress/bzip2"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/ulikunitz/xz"

	"github.com/imgbuild/imgbuild/internal/ctxio"
	"github.com/imgbuild/imgbuild/layers"
)

// ReadArchive returns the tree of a tar archive: plain, or compressed with gzip, zstd, xz or bzip2. Its contents stay in the archive until they are
// read; what can't be read there, because it is compressed otherwise, is unpacked into a file without a name in spoolDir.
//
// The archive may come from a stranger: nothing in it leaves the tree.
func (s Source) ReadArchive(ctx context.Context, name, spoolDir string) (*layers.Tree, error) {
	file, err := s.Open(name)
	if err != nil {
		return nil, err
	}
	blob, err := openBlob(ctx, file, spoolDir)
	if err != nil {
		return nil, fmt.Errorf("reading archive %s: %w", name, errors.Join(err, file.Close()))
	}
	layer, err := layers.ReadLayer(ctx, blob, layers.ReadOptions{Spool: true, SpoolDir: spoolDir})
	if err != nil {
		return nil, fmt.Errorf("reading archive %s: %w", name, err)
	}
	for _, entry := range layer.Entries {
		if entry.Kind == layers.Whiteout || entry.Kind == layers.Opaque {
			return nil, fmt.Errorf("reading archive %s: /%s has the form of a container layer's whiteout (.wh.*); only containers may have those", name, entry.Name)
		}
	}
	tree, err := layers.Apply(nil, layer)
	if err != nil {
		return nil, fmt.Errorf("reading archive %s: %w", name, err)
	}
	return tree, nil
}

// openBlob makes an archive one that is plain or compressed in a way that layers know.
func openBlob(ctx context.Context, file fs.File, spoolDir string) (layers.Blob, error) {
	head := make([]byte, 6)
	n, err := io.ReadFull(file, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	head = head[:n]
	rest := io.MultiReader(bytes.NewReader(head), file)
	var unpacked io.Reader
	switch {
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		if unpacked, err = xz.NewReader(rest); err != nil {
			return nil, err
		}
	case bytes.HasPrefix(head, []byte("BZh")):
		unpacked = bzip2.NewReader(rest)
	default:
		if f, ok := file.(*os.File); ok {
			info, err := f.Stat()
			if err != nil {
				return nil, err
			}
			return blob{f, info.Size()}, nil
		}
		unpacked = rest
	}
	return spool(ctx, unpacked, file, spoolDir)
}

// blob is a file as [layers.Blob].
type blob struct {
	io.ReaderAt
	size int64
}

func (b blob) Size() int64 { return b.size }

// spool copies what r gives into a file that has no name, so that it goes with the process, and closes the archive.
func spool(ctx context.Context, r io.Reader, archive io.Closer, dir string) (layers.Blob, error) {
	file, err := os.CreateTemp(dir, ".archive-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	size, err := io.Copy(file, ctxio.Reader(ctx, r))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("unpacking it into %s: %w", dir, err), file.Close())
	}
	if err := archive.Close(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return blob{file, size}, nil
}
