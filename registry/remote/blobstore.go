package remote

import (
	"context"
	"errors"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
)

// ErrBlobExists is what BlobStore.Partial returns when the blob is complete in the store.
var ErrBlobExists = errors.New("the blob is in the store already")

// BlobStore is where pulled blobs go. Its methods are called by several goroutines at once.
type BlobStore interface {
	// Has reports whether the complete blob is in the store.
	Has(ctx context.Context, d digest.Digest) (bool, error)
	// Partial opens the part that is kept of a blob, or an empty one, and locks it against other processes and
	// goroutines; it waits for the lock until ctx ends. If the blob is complete by then the error is ErrBlobExists.
	Partial(ctx context.Context, desc v1.Descriptor) (Partial, error)
}

// Partial is the part of a blob that has arrived. It is used by one goroutine.
type Partial interface {
	// ReadAt reads what is kept; the caller hashes it anew before it goes on.
	io.ReaderAt
	// Write appends at Size.
	io.Writer
	// Size is how many bytes are kept.
	Size() int64
	// Truncate drops what lies at size and after it.
	Truncate(size int64) error
	// Commit makes the part the complete blob: synced, then under its final name. The caller has checked size and
	// digest. It closes the part.
	Commit() error
	// Close unlocks the part and keeps it for a later pull. After Commit it does nothing.
	Close() error
}

// memory is a Partial in memory, for blobs that are small by rule.
type memory struct{ data []byte }

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(m.data)) {
		return 0, io.EOF
	}
	n := copy(p, m.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (m *memory) Write(p []byte) (int, error) {
	m.data = append(m.data, p...)
	return len(p), nil
}

func (m *memory) Size() int64 { return int64(len(m.data)) }

func (m *memory) Truncate(size int64) error {
	m.data = m.data[:size]
	return nil
}

func (m *memory) Commit() error { return nil }
func (m *memory) Close() error  { return nil }
