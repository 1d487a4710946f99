package manifest

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"

	"github.com/imgbuild/imgbuild/internal/gunzip"
)

// Blob is the bytes of a blob at any offset.
type Blob interface {
	io.ReaderAt
	io.Closer
	// Size returns the length in bytes.
	Size() int64
}

// BlobLayer is a layer whose compressed bytes can be read at any offset without a copy. The layers of the store and of archives are such.
type BlobLayer interface {
	v1.Layer
	OpenBlob() (Blob, error)
}

// Streamer is a [Blob] that is cheaper to read once from its beginning to its end than at any offset.
type Streamer interface {
	Blob
	Stream() (io.ReadCloser, error)
}

// Opener opens the blob that a descriptor names. The error says where it was looked for.
type Opener func(desc v1.Descriptor) (Blob, error)

// Image is an image made of a manifest, a config and blobs that are opened when needed. It is a [v1.Image]; its layers are [BlobLayer]s. Blobs
// are not checked against their digests when they are read: where they come from must have done it.
type Image struct {
	rawManifest, rawConfig []byte
	digest                 v1.Hash
	manifest               *v1.Manifest
	config                 *v1.ConfigFile
	open                   Opener
}

// New makes an image. The manifest's digest of the config must be that of rawConfig, and the config must name one diff id for each layer.
func New(rawManifest, rawConfig []byte, open Opener) (*Image, error) {
	m, err := Parse(rawManifest)
	if err != nil {
		return nil, err
	}
	digest, _, err := v1.SHA256(bytes.NewReader(rawConfig))
	if err != nil {
		return nil, err
	}
	if digest != m.Config.Digest {
		return nil, fmt.Errorf("reading an image config: %w: its digest is %s where the manifest says %s", ErrInvalid, digest, m.Config.Digest)
	}
	config, err := ParseConfig(rawConfig)
	if err != nil {
		return nil, err
	}
	if len(config.RootFS.DiffIDs) != len(m.Layers) {
		return nil, fmt.Errorf("reading an image config: %w: it names %d layers where the manifest has %d", ErrInvalid, len(config.RootFS.DiffIDs), len(m.Layers))
	}
	digest, _, err = v1.SHA256(bytes.NewReader(rawManifest))
	if err != nil {
		return nil, err
	}
	return &Image{rawManifest: rawManifest, rawConfig: rawConfig, digest: digest, manifest: m, config: config, open: open}, nil
}

// Layers implements [v1.Image].
func (i *Image) Layers() ([]v1.Layer, error) {
	layers := make([]v1.Layer, len(i.manifest.Layers))
	for n, desc := range i.manifest.Layers {
		layers[n] = NewLayer(desc, i.config.RootFS.DiffIDs[n], i.open)
	}
	return layers, nil
}

// MediaType implements [v1.Image]; it is OCI's where the manifest does not say.
func (i *Image) MediaType() (types.MediaType, error) {
	if i.manifest.MediaType == "" {
		return types.OCIManifestSchema1, nil
	}
	return i.manifest.MediaType, nil
}

// Size implements [v1.Image]: the manifest's length in bytes.
func (i *Image) Size() (int64, error) { return int64(len(i.rawManifest)), nil }

// ConfigName implements [v1.Image].
func (i *Image) ConfigName() (v1.Hash, error) { return i.manifest.Config.Digest, nil }

// ConfigFile implements [v1.Image]. The result is the caller's to change.
func (i *Image) ConfigFile() (*v1.ConfigFile, error) { return i.config.DeepCopy(), nil }

// RawConfigFile implements [v1.Image].
func (i *Image) RawConfigFile() ([]byte, error) { return bytes.Clone(i.rawConfig), nil }

// Digest implements [v1.Image]: the manifest's digest.
func (i *Image) Digest() (v1.Hash, error) { return i.digest, nil }

// Manifest implements [v1.Image]. The result is the caller's to change.
func (i *Image) Manifest() (*v1.Manifest, error) { return i.manifest.DeepCopy(), nil }

// RawManifest implements [v1.Image].
func (i *Image) RawManifest() ([]byte, error) { return bytes.Clone(i.rawManifest), nil }

// LayerByDigest implements [v1.Image]. The config counts as a layer here, as go-containerregistry's writers expect.
func (i *Image) LayerByDigest(digest v1.Hash) (v1.Layer, error) {
	for n, desc := range i.manifest.Layers {
		if desc.Digest == digest {
			return NewLayer(desc, i.config.RootFS.DiffIDs[n], i.open), nil
		}
	}
	if digest == i.manifest.Config.Digest {
		return NewLayer(i.manifest.Config, digest, func(v1.Descriptor) (Blob, error) { return BytesBlob(i.rawConfig), nil }), nil
	}
	return nil, fmt.Errorf("looking for layer %s: %w: image %s has no such layer", digest, ErrInvalid, i.digest)
}

// LayerByDiffID implements [v1.Image].
func (i *Image) LayerByDiffID(diffID v1.Hash) (v1.Layer, error) {
	for n, desc := range i.manifest.Layers {
		if i.config.RootFS.DiffIDs[n] == diffID {
			return NewLayer(desc, diffID, i.open), nil
		}
	}
	return nil, fmt.Errorf("looking for layer %s: %w: image %s has no such layer", diffID, ErrInvalid, i.digest)
}

// NewLayer makes a layer of a blob.
func NewLayer(desc v1.Descriptor, diffID v1.Hash, open Opener) BlobLayer {
	return &layer{desc: desc, diffID: diffID, open: open}
}

type layer struct {
	desc   v1.Descriptor
	diffID v1.Hash
	open   Opener
}

func (l *layer) Digest() (v1.Hash, error)            { return l.desc.Digest, nil }
func (l *layer) DiffID() (v1.Hash, error)            { return l.diffID, nil }
func (l *layer) Size() (int64, error)                { return l.desc.Size, nil }
func (l *layer) MediaType() (types.MediaType, error) { return l.desc.MediaType, nil }
func (l *layer) OpenBlob() (Blob, error)             { return l.open(l.desc) }
func (l *layer) Descriptor() (*v1.Descriptor, error) { return l.desc.DeepCopy(), nil }

func (l *layer) Compressed() (io.ReadCloser, error) {
	blob, err := l.open(l.desc)
	if err != nil {
		return nil, err
	}
	if s, ok := blob.(Streamer); ok {
		stream, err := s.Stream()
		if err != nil {
			blob.Close()
			return nil, err
		}
		return readCloser{stream, func() error { return errors.Join(stream.Close(), blob.Close()) }}, nil
	}
	return readCloser{io.NewSectionReader(blob, 0, blob.Size()), blob.Close}, nil
}

func (l *layer) Uncompressed() (io.ReadCloser, error) {
	compressed, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	r, err := Decompress(compressed)
	if err != nil {
		compressed.Close()
		return nil, fmt.Errorf("reading layer %s: %w", l.desc.Digest, err)
	}
	return readCloser{r, func() error { return errors.Join(r.Close(), compressed.Close()) }}, nil
}

type readCloser struct {
	io.Reader
	close func() error
}

func (r readCloser) Close() error { return r.close() }

// maxWindow bounds the memory that a zstd stream of a stranger can ask for, in bytes; it is what zstd(1) -19 and --long=27 write.
const maxWindow = 128 << 20

// Decompress returns the content of r, which may be compressed by gzip, zstd or bzip2 or not at all, as its first bytes say. Closing the
// result does not close r.
func Decompress(r io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(r, 1<<18)
	magic, err := buffered.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}): // RFC 1952, section 2.3.1
		return gunzip.NewReader(buffered)
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}), // RFC 8878, section 3.1.1
		len(magic) == 4 && magic[0]&0xf0 == 0x50 && bytes.Equal(magic[1:], []byte{0x2a, 0x4d, 0x18}): // a skippable frame first, section 3.1.2
		d, err := zstd.NewReader(buffered, zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case bytes.HasPrefix(magic, []byte("BZh")):
		return io.NopCloser(bzip2.NewReader(buffered)), nil
	}
	return io.NopCloser(buffered), nil
}

// BytesBlob is a blob in memory.
func BytesBlob(data []byte) Blob { return bytesBlob{bytes.NewReader(data)} }

type bytesBlob struct{ *bytes.Reader }

func (bytesBlob) Close() error { return nil }
