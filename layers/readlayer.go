package layers

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/imgbuild/imgbuild/internal/spool"
)

// ReadOptions say what to check while a layer is read, and what a layer may ask of this machine. Zero limits are defaults that no honest
// layer comes near.
type ReadOptions struct {
	Digest digest.Digest // of the blob as it is; checked unless empty, sha256 only
	DiffID digest.Digest // of the uncompressed tar; checked unless empty, sha256 only

	MaxEntries  int   // names in the layer; 0 is 2,000,000
	MaxSize     int64 // bytes of the uncompressed tar, and of one file with its holes; 0 is 1 TiB
	MaxMetadata int64 // bytes of all names, link targets and extended attributes; 0 is 512 MiB
	MaxRatio    int64 // tar bytes per blob byte once the tar has more than 4 GiB; 0 is 2000

	// Spool keeps the uncompressed bytes of a blob that can only be decompressed from its beginning in a file without a name, so that reading the
	// contents afterwards does not decompress them again.
	Spool bool
	// SpoolDir is where that file lies; empty for $TMPDIR or else /var/tmp.
	SpoolDir string
	// Plain reads a tar that is no layer: names that begin with ".wh." are names like any other.
	Plain bool
	// Stage, if not nil, takes the contents instead, as files that [WriteDir] moves to their places.
	Stage *Stage
}

func (o ReadOptions) withDefaults() ReadOptions {
	if o.MaxEntries == 0 {
		o.MaxEntries = 2_000_000
	}
	if o.MaxSize == 0 {
		o.MaxSize = 1 << 40
	}
	if o.MaxMetadata == 0 {
		o.MaxMetadata = 512 << 20
	}
	if o.MaxRatio == 0 {
		o.MaxRatio = 2000
	}
	return o
}

// ratioFloor is up to how many tar bytes a layer may be compressed as well as it likes.
const ratioFloor = 4 << 30

// DigestError says that bytes are not the ones they should be.
type DigestError struct {
	What      string // "blob" or "tar"
	Want, Got digest.Digest
}

// Error implements error.
func (e *DigestError) Error() string {
	return fmt.Sprintf("checking a layer: the digest of its %s is %s, not %s as it should be", e.What, e.Got, e.Want)
}

// ReadLayer reads the tar of a layer once, from its beginning to its end, checks its digests, and returns what it holds. The contents of its files
// stay in the blob, which must stay open as long as they are used.
//
// Names are read as OCI tools do: a leading "/" or "./" does not count, and symbolic links on the way to an entry are followed inside of the root tree when
// the layer is applied. A name with ".." that leads above the root is a [*HostileError], as is anything beyond the limits of opts. What can't be
// understood is a [*FormatError], and a wrong digest a [*DigestError].
func ReadLayer(ctx context.Context, blob Blob, opts ReadOptions) (*Layer, error) {
	opts = opts.withDefaults()
	for _, d := range []digest.Digest{opts.Digest, opts.DiffID} {
		if err := d.Validate(); d != "" && (err != nil || d.Algorithm() != digest.SHA256) {
			return nil, fmt.Errorf("checking a layer: its digest %q is not a sha256 digest", d)
		}
	}
	source, err := NewBlobSource(blob)
	if err != nil {
		return nil, err
	}
	source.Digest, source.SpoolDir = opts.Digest, opts.SpoolDir
	r := &layerReader{opts: opts, source: source, layer: &Layer{Digest: opts.Digest, Size: blob.Size(), Source: source}, seen: map[string]int{}}
	if err := r.read(ctx); err != nil {
		return nil, err
	}
	return r.layer, nil
}

// layerReader turns tar entries into layer entries.
type layerReader struct {
	opts   ReadOptions
	source *BlobSource
	layer  *Layer
	seen   map[string]int // the index in layer.Entries of the last Put of a name

	metadata int64 // bytes kept so far
	extents  int   // parts of sparse files so far
}

func (r *layerReader) read(ctx context.Context) error {
	var blobHash hash.Hash
	var blobBytes io.Writer
	if r.opts.Digest != "" {
		blobHash = sha256.New()
		blobBytes = blobHash
	}
	tarHash := sha256.New()
	sinks := []io.Writer{tarHash}
	var kept *os.File
	if r.opts.Stage != nil {
		staged, err := r.opts.Stage.sub()
		if err != nil {
			return err
		}
		r.source.staged = staged
	} else if r.opts.Spool && !r.source.seekable() {
		f, err := spool.New(r.opts.SpoolDir)
		if err != nil {
			return fmt.Errorf("keeping the uncompressed bytes of a layer: %w", err)
		}
		kept = f
		sinks = append(sinks, kept)
	}
	in := r.source.streamTar(ctx, blobBytes, sinks...)
	defer in.close()
	err := r.readEntries(ctx, in)
	if err == nil {
		err = r.readRest(in)
	}
	if err == nil {
		err = r.checkDigests(blobHash, tarHash)
	}
	if err != nil {
		if kept != nil {
			kept.Close()
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return r.explain("", err)
	}
	if kept != nil {
		r.source.spool = kept
	}
	r.layer.TarSize = in.end
	return nil
}

// explain makes the typed errors out of a parser's.
func (r *layerReader) explain(name string, err error) error {
	var format errFormat
	var hostile errHostile
	switch {
	case errors.As(err, &hostile):
		return &HostileError{Layer: r.opts.Digest, Path: name, Reason: string(hostile)}
	case errors.As(err, &format):
		return &FormatError{Layer: r.opts.Digest, Path: name, Err: format}
	}
	return err
}

// readRest reads what follows the last entry, for the digests.
func (r *layerReader) readRest(in *stream) error {
	for in.fill() {
		in.seek(in.pos + int64(len(in.rest)))
		if err := r.checkSize(in.pos); err != nil {
			return err
		}
	}
	return in.finish()
}

// checkSize bounds how much a layer may decompress to.
func (r *layerReader) checkSize(tarSize int64) error {
	if tarSize > r.opts.MaxSize {
		return errHostile(fmt.Sprintf("uncompressed it is larger than the %d bytes allowed", r.opts.MaxSize))
	}
	if tarSize > ratioFloor && tarSize/r.opts.MaxRatio > r.layer.Size {
		return errHostile(fmt.Sprintf("its %d bytes decompress to more than %d, which is over the ratio of %d allowed", r.layer.Size, tarSize, r.opts.MaxRatio))
	}
	return nil
}

func (r *layerReader) checkDigests(blobHash, tarHash hash.Hash) error {
	if blobHash != nil {
		if got := digest.NewDigest(digest.SHA256, blobHash); got != r.opts.Digest {
			return &DigestError{What: "blob", Want: r.opts.Digest, Got: got}
		}
	}
	r.layer.DiffID = digest.NewDigest(digest.SHA256, tarHash)
	if r.opts.DiffID != "" && r.layer.DiffID != r.opts.DiffID {
		return &DigestError{What: "tar", Want: r.opts.DiffID, Got: r.layer.DiffID}
	}
	return nil
}

func (r *layerReader) readEntries(ctx context.Context, in *stream) error {
	files := &dirWriter{ctx: ctx, progress: func(int64) {}, buf: make([]byte, 64<<10)}
	tar := &tarReader{in: in, check: r.checkSize, limits: tarLimits{fileSize: r.opts.MaxSize, header: 1 << 20, extents: 1 << 20}}
	for n := 0; ; n++ {
		h, err := tar.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			name := ""
			if h != nil {
				name = h.name
			}
			return r.explain(name, err)
		}
		if n == r.opts.MaxEntries {
			return errHostile(fmt.Sprintf("it has more than the %d entries allowed", r.opts.MaxEntries))
		}
		node, err := r.add(h)
		if err != nil {
			return r.explain(h.name, err)
		}
		if staged := r.source.staged; staged != nil && node != nil && node.Content != nil {
			err = staged.add(files, r.source, tar, node, h)
		} else {
			err = tar.checkHoles(h)
		}
		if err != nil {
			return r.explain(h.name, err)
		}
		if n%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// whiteoutPrefix marks the names of whiteouts, whiteoutMeta those of AUFS's own files, which mean nothing here, and whiteoutOpaque opaque
// directories (OCI image-spec, layer.md).
const (
	whiteoutPrefix = ".wh."
	whiteoutMeta   = ".wh..wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// add takes one tar entry into the layer, and returns the inode if it is a new one.
func (r *layerReader) add(h *foundEntry) (*Node, error) {
	name, err := entryName(h.name)
	if err != nil {
		return nil, err
	}
	r.metadata += int64(len(h.name) + len(h.link))
	for _, x := range h.xattrs {
		r.metadata += int64(len(x.Name) + len(x.Value))
	}
	if r.metadata > r.opts.MaxMetadata {
		return nil, errHostile(fmt.Sprintf("the names and attributes of the layer take more than the %d bytes allowed", r.opts.MaxMetadata))
	}
	if !r.opts.Plain {
		if done, err := r.addDeletion(name); done || err != nil {
			return nil, err
		}
	}
	if h.typ == '1' {
		return nil, r.addLink(name, h)
	}
	node, err := r.node(name, h)
	if err != nil {
		return nil, err
	}
	r.put(name, node)
	return node, nil
}

// addDeletion takes an entry that says what is gone, and reports whether the name is one of those.
func (r *layerReader) addDeletion(name string) (done bool, err error) {
	if strings.HasPrefix(name, whiteoutMeta) && name != whiteoutOpaque {
		return true, nil
	}
	dir, base := path.Split(name)
	if strings.HasPrefix(dir, whiteoutPrefix) || strings.Contains(dir, "/"+whiteoutPrefix) {
		return false, errHostile("it lies below a whiteout")
	}
	if hidden, ok := strings.CutPrefix(base, whiteoutPrefix); ok {
		return true, r.addWhiteout(path.Clean(dir), base, hidden)
	}
	return false, nil
}

func (r *layerReader) addWhiteout(dir, base, hidden string) error {
	switch {
	case base == whiteoutOpaque:
		r.layer.Entries = append(r.layer.Entries, Entry{Kind: Opaque, Name: dir})
	case strings.HasPrefix(base, whiteoutMeta):
	case hidden == "" || hidden == "." || hidden == "..":
		return errHostile("it is a whiteout that hides no name")
	default:
		r.layer.Entries = append(r.layer.Entries, Entry{Kind: Whiteout, Name: path.Join(dir, hidden)})
	}
	return nil
}

// put adds a Put entry. An older one of the same name stays where it is: a hard link between the two may lead to it.
func (r *layerReader) put(name string, node *Node) {
	r.seen[name] = len(r.layer.Entries)
	r.layer.Entries = append(r.layer.Entries, Entry{Kind: Put, Name: name, Node: node})
}

func (r *layerReader) addLink(name string, h *foundEntry) error {
	target, err := entryName(h.link)
	if err != nil {
		return errHostile(fmt.Sprintf("it is a hard link to %q, which is outside of the root tree or no name", h.link))
	}
	if name == "." {
		return errHostile("it puts a hard link in the place of the root directory")
	}
	if target == name {
		return errFormat("it is a hard link to itself")
	}
	if i, ok := r.seen[target]; ok {
		node := r.layer.Entries[i].Node
		if node == nil {
			r.putLink(name, target)
			return nil
		}
		if node.IsDir() {
			return errHostile(fmt.Sprintf("it is a hard link to the directory %q", h.link))
		}
		r.put(name, node)
		return nil
	}
	r.putLink(name, target)
	return nil
}

func (r *layerReader) putLink(name, target string) {
	r.seen[name] = len(r.layer.Entries)
	r.layer.Entries = append(r.layer.Entries, Entry{Kind: Link, Name: name, Target: target})
}

// entryName brings the name of an entry or the target of a hard link into the form that trees use.
func entryName(raw string) (string, error) {
	if raw == "" {
		return "", errFormat("an entry has no name")
	}
	if strings.IndexByte(raw, 0) >= 0 {
		return "", errHostile("its name holds a NUL byte")
	}
	if len(raw) > maxPathLength {
		return "", errHostile(fmt.Sprintf("its name has %d bytes, more than Linux allows", len(raw)))
	}
	name := path.Clean(strings.TrimLeft(raw, "/"))
	if name == ".." || strings.HasPrefix(name, "../") {
		return "", errHostile("its name leads out of the root tree")
	}
	for part := range strings.SplitSeq(name, "/") {
		if len(part) > maxNameLength {
			return "", errHostile(fmt.Sprintf("its name has a part of %d bytes, more than Linux allows", len(part)))
		}
	}
	return name, nil
}
