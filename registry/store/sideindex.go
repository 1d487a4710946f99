package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/imgbuild/imgbuild/internal/atomicfile"
)

// Index opens the tree index that was stored beside a layer. The error is [ErrNotFound] if there is none: then it has to be made from
// the layer.
func (s *Store) Index(d digest.Digest) (io.ReadCloser, error) {
	if err := checkDigest(d); err != nil {
		return nil, err
	}
	f, err := os.Open(s.path("index", d.Encoded()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("opening the index of layer %s: %w", d, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the index of layer %s: %w", d, err)
	}
	return f, nil
}

// PutIndex stores what write writes as the tree index of a layer, in the place of an older one.
func (s *Store) PutIndex(ctx context.Context, d digest.Digest, write func(io.Writer) error) error {
	if err := checkDigest(d); err != nil {
		return err
	}
	if err := s.prepare(ctx); err != nil {
		return err
	}
	f, err := s.newTemp()
	if err != nil {
		return fmt.Errorf("storing the index of layer %s: %w", d, err)
	}
	defer f.Close()
	buffered := bufio.NewWriterSize(f, 1<<18)
	err = write(buffered)
	if err == nil {
		err = buffered.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	name := s.path("index", d.Encoded())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("storing the index of layer %s: %w", d, err)
	}
	return atomicfile.SyncDir(filepath.Dir(name))
}
