package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/ulikunitz/xz"

	"github.com/imgbuild/imgbuild/internal/spool"
	"github.com/imgbuild/imgbuild/registry/manifest"
)

const (
	// maxEntries bounds how many files an archive may have.
	maxEntries = 100_000
	// maxLinks is how many links one path may lead through.
	maxLinks = 16
	// freeSize is how many bytes a compressed archive may have decompressed, whatever its ratio; beyond it, maxRatio counts.
	freeSize = 4 << 30
	// maxRatio is how many times larger than its file a compressed archive may be. Zeros alone make xz and zstd reach more.
	maxRatio = 2000
)

// tarFiles is a tar file whose members are read where they lie.
type tarFiles struct {
	f     *os.File
	size  int64
	files map[string]member
}

// member is a regular file or a link of a tar file.
type member struct {
	offset, size int64  // of the content in the tar file, in bytes
	target       string // of a link, as a path in the archive
}

// openTar finds out where the members of a tar file lie. A file that is compressed as a whole by gzip, zstd, bzip2 or xz is decompressed into a
// file without a name.
func openTar(ctx context.Context, name string, opts Options) (*tarFiles, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	if f, err = plain(ctx, f, opts.TempDir); err != nil {
		return nil, err
	}
	t := &tarFiles{f: f, files: map[string]member{}}
	if err := t.scan(ctx); err != nil {
		f.Close()
		return nil, err
	}
	return t, nil
}

// plain returns f, or a file without a name that holds it decompressed.
func plain(ctx context.Context, f *os.File, tempDir string) (*os.File, error) {
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: f.Name(), Err: errors.New("it is no regular file")}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	magic := make([]byte, 6)
	if _, err := f.ReadAt(magic, 0); err != nil && err != io.EOF {
		f.Close()
		return nil, err
	}
	var r io.Reader
	switch {
	case string(magic) == "\xfd7zXZ\x00": // The .xz file format 1.2.1, section 2.1.1.1
		r, err = xz.ReaderConfig{DictCap: 1 << 26}.NewReader(f)
	case string(magic[:2]) == "\x1f\x8b", string(magic[:4]) == "\x28\xb5\x2f\xfd", string(magic[:3]) == "BZh":
		r, err = manifest.Decompress(f)
	default:
		return f, nil
	}
	defer f.Close()
	if err != nil {
		return nil, fmt.Errorf("decompressing %s: %w: %w", f.Name(), manifest.ErrInvalid, err)
	}
	limit := max(freeSize, info.Size()*maxRatio)
	kept, err := spool.Copy(ctx, tempDir, io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("decompressing an archive: %w", err)
	}
	if kept.Size() > limit {
		kept.Close()
		return nil, fmt.Errorf("decompressing an archive: %w: it has more than %d bytes", manifest.ErrInvalid, limit)
	}
	return kept.File, nil
}

func (t *tarFiles) scan(ctx context.Context) error {
	info, err := t.f.Stat()
	if err != nil {
		return err
	}
	t.size = info.Size()
	section := io.NewSectionReader(t.f, 0, t.size) // tar seeks over contents in it
	r := tar.NewReader(section)
	for n := 0; ; n++ {
		h, err := r.Next()
		if err == io.EOF {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("%w: %w", manifest.ErrInvalid, err)
		}
		if n == maxEntries {
			return fmt.Errorf("%w: it has more than %d files", manifest.ErrInvalid, maxEntries)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := t.add(h, section); err != nil {
			return err
		}
	}
}

func (t *tarFiles) add(h *tar.Header, section *io.SectionReader) error {
	name := clean(h.Name)
	switch h.Typeflag {
	case tar.TypeReg:
		for _, key := range []string{"GNU.sparse.major", "GNU.sparse.map"} {
			if _, sparse := h.PAXRecords[key]; sparse {
				return fmt.Errorf("%w: %s is a sparse file", manifest.ErrInvalid, name)
			}
		}
		offset, err := section.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		if h.Size < 0 || h.Size > t.size-offset {
			return fmt.Errorf("%w: %s is cut off: pull or save it again", manifest.ErrInvalid, name)
		}
		t.files[name] = member{offset: offset, size: h.Size}
	case tar.TypeLink:
		t.files[name] = member{target: clean(h.Linkname)}
	case tar.TypeSymlink: // docker save writes ../ID/layer.tar for a layer that is there twice
		t.files[name] = member{target: clean(path.Join("/", path.Dir(name), h.Linkname))}
	}
	return nil
}

func (t *tarFiles) open(name string) (manifest.Blob, error) {
	at := clean(name)
	for range maxLinks {
		m, ok := t.files[at]
		if !ok {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		if m.target == "" {
			return memberBlob{io.NewSectionReader(t.f, m.offset, m.size)}, nil
		}
		at = m.target
	}
	return nil, fmt.Errorf("opening %s: %w: it leads through more than %d links", name, manifest.ErrInvalid, maxLinks)
}

func (t *tarFiles) Close() error { return t.f.Close() }

// memberBlob is the content of a member. It lives as long as the archive.
type memberBlob struct{ *io.SectionReader }

func (memberBlob) Close() error { return nil }
