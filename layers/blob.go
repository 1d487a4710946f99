package layers

import (
	"context"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
)

// Blob is the bytes of a layer as they lie in a store, compressed or not. It must allow reads at the same time.
type Blob interface {
	io.ReaderAt
	// Size returns the length in bytes.
	Size() int64
}

// Algorithm is how a blob is compressed.
type Algorithm uint8

const (
	// None is a plain tar.
	None Algorithm = iota
	// Gzip is RFC 1952, one member or several.
	Gzip
	// Zstd is RFC 8878, one frame or several.
	Zstd
)

// String returns the name as in media types.
func (a Algorithm) String() string {
	return [...]string{"none", "gzip", "zstd"}[a]
}

// Frame is a part of a compressed blob that decompresses on its own: a zstd frame or a gzip member.
type Frame struct {
	Offset, Size       int64 // where it lies in the blob, in bytes
	TarOffset, TarSize int64 // which bytes of the uncompressed tar it holds
}

// BlobSource reads the uncompressed bytes of one blob. Contents of a layer share it.
type BlobSource struct {
	Blob      Blob
	Algorithm Algorithm
	Frames    []Frame       // in order and without gaps; nil if parts of the blob can't be decompressed on their own
	Digest    digest.Digest // of the blob, for errors; "" if not known

	// SpoolDir is where the uncompressed bytes are kept, in a file without a name, when a blob that can only be read from its beginning is
	// read at random. Empty for $TMPDIR or else /var/tmp.
	SpoolDir string

	mu     sync.Mutex
	spool  io.ReaderAt
	staged *stagedLayer // where contents lie as files besides; nil for nowhere
}

// BlobContent is content that lies in a layer's tar.
type BlobContent struct {
	Source *BlobSource
	Offset int64 // of the first data byte in the uncompressed tar
	Length int64 // in bytes, equal to [Node.DataSize]

	// Runs is where the data lies in the tar if that is not in one place, because the holes of a sparse file are there as zeros. nil for
	// Length bytes from Offset.
	Runs []Extent
}

// runs returns where in the tar the data lies.
func (c *BlobContent) runs() []Extent {
	if c.Runs != nil {
		return c.Runs
	}
	return []Extent{{c.Offset, c.Length}}
}

// spooled returns the uncompressed bytes if they were kept, else nil.
func (s *BlobSource) spooled() io.ReaderAt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spool
}

// setSpool says where the uncompressed bytes are kept; nil for nowhere.
func (s *BlobSource) setSpool(kept io.ReaderAt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spool = kept
}

// keep makes a blob that can only be read from its beginning keep its uncompressed bytes from now on, if they are not kept yet.
func (s *BlobSource) keep() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.spool != nil {
		return nil
	}
	kept, err := newKeptBytes(context.Background(), s)
	if err == nil {
		s.spool = kept
	}
	return err
}
