package layers

import (
	"context"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
)

// PackOptions says how [Pack] makes a blob.
type PackOptions struct {
	// Compression is how the blob is compressed; the zero value is none. [DefaultCompression] is what imgbuild uses.
	Compression Compression

	// Jobs is how many goroutines compress, 0 for one per processor. The blob's bytes do not depend on it.
	Jobs int

	// Progress, if not nil, is called with how many more bytes of the tar are done. The sum over all calls is Packed.TarSize.
	Progress func(n int64)
}

// Packed is what [Pack] has written.
type Packed struct {
	Digest, DiffID digest.Digest // of the blob and of the uncompressed tar
	Size, TarSize  int64         // of the same, in bytes
	MediaType      string

	// Layer is the layer packed, with its contents in the blob. Its Source has no Blob yet: the caller sets it once the blob lies
	// where it stays.
	Layer *Layer
}

// Pack writes a layer as an OCI layer blob to w, in one pass over the contents. The bytes depend on the layer and on opts.Compression alone.
//
// The tar holds the entries in the order of the layer. Holes of sparse files are written as zeros, since docker and podman can't put
// a tar with sparse entries together again, and a PAX record of our own, IMGBUILD.data, keeps where they are.
func Pack(ctx context.Context, w io.Writer, l *Layer, opts PackOptions) (*Packed, error) {
	var packed *Layer
	var frames []Frame
	result, err := compress(ctx, w, opts, func(blob *blobWriter) (err error) {
		packed, err = packEntries(ctx, blob, l)
		return err
	}, &frames)
	if err != nil {
		return nil, fmt.Errorf("packing a layer: %w", err)
	}
	packed.Digest, packed.DiffID, packed.Size, packed.TarSize = result.Digest, result.DiffID, result.Size, result.TarSize
	packed.Source = &BlobSource{Algorithm: opts.Compression.Algorithm, Digest: result.Digest}
	if packed.Source.Algorithm != None {
		packed.Source.Frames = frames
	}
	for i := range packed.Entries {
		if n := packed.Entries[i].Node; n != nil {
			if c, ok := n.Content.(*BlobContent); ok {
				c.Source = packed.Source
			}
		}
	}
	result.Layer = packed
	return result, nil
}

// Compress writes what fill writes to w, compressed like a layer's blob: in pieces that are independent of each other, several at a time. The bytes depend on
// the content and on opts.Compression alone. The result has no Layer.
func Compress(ctx context.Context, w io.Writer, opts PackOptions, fill func(io.Writer) error) (*Packed, error) {
	return compress(ctx, w, opts, func(blob *blobWriter) error { return fill(blob) }, nil)
}

// compress is Compress, and says where the pieces are.
func compress(ctx context.Context, w io.Writer, opts PackOptions, fill func(*blobWriter) error, frames *[]Frame) (*Packed, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	blob, err := newBlobWriter(ctx, w, opts)
	if err != nil {
		return nil, err
	}
	if err := fill(blob); err != nil {
		// If a goroutine of the blob's writer failed, its error is what fill got.
		cancel()
		_ = blob.stop()
		return nil, err
	}
	packed, err := blob.finish()
	if err == nil && frames != nil {
		*frames = blob.frames
	}
	return packed, err
}

// packEntries writes the tar of a layer and returns the layer with its contents in there.
func packEntries(ctx context.Context, w tarSink, l *Layer) (*Layer, error) {
	t := newTarWriter(ctx, w)
	nodes := make([]*Node, 0, len(l.Entries))
	for _, e := range l.Entries {
		nodes = append(nodes, e.Node)
	}
	contents := OpenInOrder(ctx, nodes)
	defer contents.Close()
	t.open = contents.OpenData
	packed := &Layer{Entries: make([]Entry, len(l.Entries))}
	moved := make(map[*Node]*Node, len(l.Entries))
	for i, e := range l.Entries {
		packed.Entries[i] = e
		var err error
		if e.Kind != Put {
			err = t.putStep(e)
		} else {
			packed.Entries[i].Node, err = t.putMoved(e, moved)
		}
		if err != nil {
			return nil, err
		}
	}
	return packed, t.close()
}

// putMoved writes an entry and returns its node with the content in the tar.
func (t *tarWriter) putMoved(e Entry, moved map[*Node]*Node) (*Node, error) {
	if strings.HasPrefix(path.Base(e.Name), whiteoutPrefix) {
		return nil, fmt.Errorf("an OCI layer can't hold %q: names that begin with %s mean deletions there; rename or exclude it",
			"/"+e.Name, whiteoutPrefix)
	}
	if old, ok := moved[e.Node]; ok && !e.Node.IsDir() {
		_, err := t.put(e.Name, e.Node, holesKept)
		return old, err
	}
	p, err := t.put(e.Name, e.Node, holesKept)
	if err != nil {
		return nil, err
	}
	n := *e.Node
	if n.IsDir() {
		n.children = nil
	}
	if p.content {
		n.Data = p.extents
		n.Content = &BlobContent{Offset: p.offset, Length: n.DataSize(), Runs: runsAt(p.offset, n.Data)}
	} else {
		n.Content = nil
	}
	moved[e.Node] = &n
	return &n, nil
}

// putStep writes an entry that takes something away or links to an earlier layer.
func (t *tarWriter) putStep(e Entry) error {
	if t.ctx.Err() != nil {
		return context.Cause(t.ctx)
	}
	h := tarEntry{flag: tarRegular}
	switch e.Kind {
	case Whiteout:
		dir, base := path.Split(e.Name)
		h.name = dir + whiteoutPrefix + base
	case Opaque:
		h.name = path.Join(e.Name, whiteoutPrefix+whiteoutPrefix+".opq")
	case Link:
		h.name, h.flag, h.link, h.mode = e.Name, tarLink, e.Target, 0o644
		if n := e.Node; n != nil {
			h.mode, h.uid, h.gid, h.mtime, h.xattrs = n.Perm(), n.UID, n.GID, n.MTime, n.Xattrs
		}
	default:
		return fmt.Errorf("writing /%s: a %s is not known", e.Name, e.Kind)
	}
	return t.header(&h)
}

// runsAt says where in a tar the data of a file lies whose holes are written as zeros and whose content begins at offset.
func runsAt(offset int64, extents []Extent) []Extent {
	if extents == nil {
		return nil
	}
	runs := make([]Extent, len(extents))
	for i, e := range extents {
		runs[i] = Extent{Offset: offset + e.Offset, Length: e.Length}
	}
	return runs
}
