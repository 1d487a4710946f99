package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"github.com/imgbuild/imgbuild/internal/ctxio"
	"github.com/imgbuild/imgbuild/internal/spool"
	"github.com/imgbuild/imgbuild/registry/manifest"
)

// compressedImage is an image whose layers were compressed into files without a name.
type compressedImage struct {
	*manifest.Image
	files []*os.File
}

// Close gives the files up.
func (i *compressedImage) Close() error {
	var errs []error
	for _, f := range i.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// compress packs the layers of an image that are plain tars with zstd, for sending them.
func compress(ctx context.Context, img v1.Image) (packed *compressedImage, err error) {
	packed = &compressedImage{}
	defer func() {
		if err != nil {
			packed.Close()
		}
	}()
	m, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	m = m.DeepCopy()
	config, err := img.RawConfigFile()
	if err != nil {
		return nil, err
	}
	list, err := img.Layers()
	if err != nil {
		return nil, err
	}
	blobs := map[v1.Hash]manifest.Opener{}
	for i, layer := range list {
		if direct, ok := layer.(manifest.BlobLayer); ok && m.Layers[i].MediaType != types.OCIUncompressedLayer {
			blobs[m.Layers[i].Digest] = func(v1.Descriptor) (manifest.Blob, error) { return direct.OpenBlob() }
			continue
		}
		f, desc, err := compressLayer(ctx, layer)
		if err != nil {
			return packed, fmt.Errorf("compressing layer %s: %w", m.Layers[i].Digest, err)
		}
		packed.files = append(packed.files, f)
		blobs[desc.Digest] = func(v1.Descriptor) (manifest.Blob, error) { return openFile{f, desc.Size}, nil }
		m.Layers[i] = desc
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return packed, err
	}
	packed.Image, err = manifest.New(raw, config, func(desc v1.Descriptor) (manifest.Blob, error) {
		open := blobs[desc.Digest]
		if open == nil {
			return nil, ErrNotFound
		}
		return open(desc)
	})
	return packed, err
}

// openFile is a blob in a file that others close.
type openFile struct {
	io.ReaderAt
	size int64
}

func (f openFile) Size() int64  { return f.size }
func (f openFile) Close() error { return nil }

func compressLayer(ctx context.Context, layer v1.Layer) (*os.File, v1.Descriptor, error) {
	r, err := layer.Uncompressed()
	if err != nil {
		return nil, v1.Descriptor{}, err
	}
	defer r.Close()
	f, err := spool.New("")
	if err != nil {
		return nil, v1.Descriptor{}, err
	}
	desc, err := compressInto(ctx, f, r)
	if err != nil {
		f.Close()
		return nil, v1.Descriptor{}, err
	}
	return f, desc, nil
}

func compressInto(ctx context.Context, f *os.File, r io.Reader) (v1.Descriptor, error) {
	digester := digest.SHA256.Digester()
	w, err := zstd.NewWriter(io.MultiWriter(f, digester.Hash()))
	if err != nil {
		return v1.Descriptor{}, err
	}
	_, err = io.Copy(w, ctxio.Reader(ctx, r))
	if err = errors.Join(err, w.Close()); err != nil {
		return v1.Descriptor{}, err
	}
	info, err := f.Stat()
	if err != nil {
		return v1.Descriptor{}, err
	}
	sum, err := v1.NewHash(digester.Digest().String())
	return v1.Descriptor{MediaType: types.OCILayerZStd, Digest: sum, Size: info.Size()}, err
}
