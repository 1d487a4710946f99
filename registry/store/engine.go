package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/umoci/oci/cas"
	"golang.org/x/sys/unix"
)

// maxIndexSize bounds index.json, in bytes; an entry has about 400.
const maxIndexSize = 64 << 20

// engine is umoci's directory engine with a safe way of writing.
type engine struct {
	cas.Engine // reads, lists and deletes
	store      *Store
}

// PutBlob implements [cas.Engine]: it stores what r gives, synced, and returns its digest and size in bytes.
func (e *engine) PutBlob(ctx context.Context, r io.Reader) (digest.Digest, int64, error) {
	w, err := e.store.NewBlob(ctx)
	if err != nil {
		return "", -1, err
	}
	defer w.Abort()
	digester := digest.SHA256.Digester()
	size, err := io.Copy(io.MultiWriter(w, digester.Hash()), r)
	if err != nil {
		return "", -1, err
	}
	if err := w.Commit(digester.Digest(), size); err != nil {
		return "", -1, err
	}
	return digester.Digest(), size, nil
}

// StatBlob implements [cas.Engine].
func (e *engine) StatBlob(_ context.Context, dgst digest.Digest) (bool, error) {
	_, err := os.Stat(e.store.blobPath(dgst))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// GetIndex implements [cas.Engine] with a bound on the size.
func (e *engine) GetIndex(ctx context.Context) (ispec.Index, error) {
	name := filepath.Join(e.store.dir, ispec.ImageIndexFile)
	if info, err := os.Stat(name); err == nil && info.Size() > maxIndexSize {
		return ispec.Index{}, fmt.Errorf("reading %s: it has %d bytes, more than the %d allowed", name, info.Size(), maxIndexSize)
	}
	index, err := e.Engine.GetIndex(ctx)
	if err != nil {
		return index, fmt.Errorf("reading %s: %w", name, err)
	}
	return index, nil
}

// PutIndex implements [cas.Engine]: readers see the old index or the new one, also after a crash. Who reads, changes and puts it holds the
// store's lock all the while.
func (e *engine) PutIndex(_ context.Context, index ispec.Index) error {
	index.MediaType = ispec.MediaTypeImageIndex
	index.SchemaVersion = 2
	if index.Manifests == nil {
		index.Manifests = []ispec.Descriptor{}
	}
	var data bytes.Buffer
	if err := json.NewEncoder(&data).Encode(index); err != nil {
		return fmt.Errorf("writing the index of the store: %w", err)
	}
	name := filepath.Join(e.store.dir, ispec.ImageIndexFile)
	err := e.store.replace(name, data.Bytes())
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		if reserveErr := os.Truncate(e.store.path("reserve"), 0); reserveErr == nil {
			err = e.store.replace(name, data.Bytes())
		}
	}
	return err
}

// Clean implements [cas.Engine]: it removes what dead processes left over.
func (e *engine) Clean(ctx context.Context) error {
	e.store.cleanTemp()
	return e.Engine.Clean(ctx)
}
