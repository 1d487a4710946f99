package inside

import (
	"context"
	"fmt"
	"io"
	"path"

	"github.com/imgbuild/imgbuild/internal/cpio"
	"github.com/imgbuild/imgbuild/layers"
)

// section is content that lies in one piece in an image.
type section struct {
	in           io.ReaderAt
	offset, size int64
}

// Open implements [layers.Content].
func (s section) Open() (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(s.in, s.offset, s.size)), nil
}

// maxLink is the longest target of a symbolic link, in bytes.
const maxLink = 4096

func (o *opener) cpio(ctx context.Context, p part) (*layers.Tree, error) {
	in := p.reader()
	entries, end, err := cpio.Read(in, p.size)
	if err != nil {
		return nil, err
	}
	edit := layers.NewTree().Edit(layers.Timespec{})
	type inode struct{ number, mode uint32 }
	links := map[inode]*layers.Node{}
	for _, e := range entries {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		n := &layers.Node{Mode: e.Mode, UID: e.UID, GID: e.GID, MTime: layers.Timespec{Sec: e.MTime}}
		switch n.Type() {
		case layers.TypeSymlink:
			if e.Size > maxLink {
				return nil, fmt.Errorf("%w: the link %s is too long", cpio.ErrFormat, e.Name)
			}
			target := make([]byte, e.Size)
			if _, err := in.ReadAt(target, e.Offset); err != nil {
				return nil, fmt.Errorf("reading the link %s: %w", e.Name, err)
			}
			n.Target = string(target)
		case layers.TypeRegular:
			key := inode{e.Ino, e.Mode}
			if other := links[key]; other != nil && e.Links > 1 {
				n = other
			} else if e.Links > 1 {
				links[key] = n
			}
			if e.Size > 0 { // the last name of a file has its content
				n.Size, n.Content = e.Size, section{in, e.Offset, e.Size}
			}
		case layers.TypeChar, layers.TypeBlock:
			n.Major, n.Minor = e.Major, e.Minor
		case layers.TypeDir, layers.TypeFIFO:
		default:
			o.note("cpio archive", []layers.Note{{Path: "/" + e.Name, Text: "it is left out: a tree has no such type"}})
			continue
		}
		if err := edit.MkdirAll(path.Dir(layers.Clean(e.Name)), 0o755); err != nil {
			return nil, err
		}
		if err := edit.Put(e.Name, n); err != nil {
			return nil, err
		}
	}
	return o.followed(ctx, edit.Tree(), part{file: p.file, offset: p.offset + end, size: p.size - end})
}

// followed adds to a tree what a compressed archive behind its own has, as in an initial RAM disk that begins with microcode.
func (o *opener) followed(ctx context.Context, tree *layers.Tree, rest part) (*layers.Tree, error) {
	if rest.size == 0 {
		return tree, nil
	}
	format := recognize(rest.reader(), rest.size)
	if format.unwrap == nil {
		o.note("cpio archive", []layers.Note{{Path: "/", Text: fmt.Sprintf("%d bytes that follow the archive are not shown", rest.size)}})
		return tree, nil
	}
	inner, err := format.unwrap(o, ctx, rest)
	if err != nil {
		return nil, err
	}
	second, err := o.cpio(ctx, inner)
	if err != nil {
		return nil, fmt.Errorf("reading the second archive: %w", err)
	}
	tree, _, err = layers.Merge([]*layers.Tree{tree, second}, layers.MergeOptions{})
	return tree, err
}
