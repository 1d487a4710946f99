package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/internal/atomicfile"
	"github.com/imgbuild/imgbuild/internal/ctxio"
	"github.com/imgbuild/imgbuild/registry/manifest"
)

// ErrBlobExists is what [Store.Partial] gives when the whole blob is there.
var ErrBlobExists = errors.New("the blob is in the store already")

func (s *Store) blobPath(d digest.Digest) string {
	return filepath.Join(s.dir, "blobs", d.Algorithm().String(), d.Encoded())
}

func checkDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("%w: digest %q: %w", manifest.ErrInvalid, d, err)
	}
	if d.Algorithm() != digest.SHA256 {
		return fmt.Errorf("%w: digest %q: the store keeps sha256 ones only", manifest.ErrInvalid, d)
	}
	return nil
}

// Has reports whether a blob is in the store. If so, it stays there until the store is closed.
func (s *Store) Has(ctx context.Context, d digest.Digest) (bool, error) {
	_, ok, err := s.has(ctx, d)
	return ok, err
}

// has returns a blob's size too and records that this process relies on it.
func (s *Store) has(ctx context.Context, d digest.Digest) (int64, bool, error) {
	if err := checkDigest(d); err != nil {
		return 0, false, err
	}
	if err := s.prepare(ctx); err != nil {
		return 0, false, err
	}
	l, err := s.lockStore(ctx, shared)
	if err != nil {
		return 0, false, err
	}
	defer l.unlock()
	if err := s.hold(d); err != nil {
		return 0, false, err
	}
	info, err := os.Stat(s.blobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("looking for blob %s: %w", d, err)
	}
	return info.Size(), true, nil
}

// adopt gives a complete, locked file its place as a blob: synced, under its digest, the directory synced.
func (s *Store) adopt(ctx context.Context, f *os.File, d digest.Digest) error {
	if err := f.Sync(); err != nil {
		return err
	}
	l, err := s.lockStore(ctx, shared)
	if err != nil {
		return err
	}
	defer l.unlock()
	if err := s.hold(d); err != nil {
		return err
	}
	name := s.blobPath(d)
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(name))
}

// BlobWriter writes one blob. It is not for several goroutines at once.
type BlobWriter struct {
	ctx   context.Context // of NewBlob: Commit may have to wait for the store's lock
	store *Store
	f     *os.File
	size  int64 // bytes written
	sent  int64 // bytes whose way to the disk has begun
}

// NewBlob starts a blob. The caller commits or aborts it.
func (s *Store) NewBlob(ctx context.Context) (*BlobWriter, error) {
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	f, err := s.newTemp()
	if err != nil {
		return nil, fmt.Errorf("starting a blob in the store: %w", err)
	}
	return &BlobWriter{ctx: ctx, store: s, f: f}, nil
}

// writeback is how many bytes are written before the kernel is told to bring them to the disk, so that the sync at the end is short.
const writeback = 16 << 20

// Write implements [io.Writer].
func (w *BlobWriter) Write(p []byte) (int, error) {
	if w.f == nil {
		return 0, fmt.Errorf("writing a blob: %w", fs.ErrClosed)
	}
	n, err := w.f.Write(p)
	w.size += int64(n)
	if err != nil {
		return n, fmt.Errorf("writing a blob into the store %s: %w", w.store.dir, err)
	}
	w.sent = sendToDisk(w.f, w.sent, w.size)
	return n, nil
}

// sendToDisk begins to bring what was written of a file to the disk, if it is enough, and returns up to where that is so.
func sendToDisk(f *os.File, sent, size int64) int64 {
	if size-sent < writeback {
		return sent
	}
	_ = unix.SyncFileRange(int(f.Fd()), sent, size-sent, unix.SYNC_FILE_RANGE_WRITE) // a hint alone
	return size
}

// Commit makes what was written the blob of the given digest and size in bytes. The digest is the caller's word, who computed it while
// writing; the size is checked. The blob stays until the store is closed, and longer if a name leads to it by then.
func (w *BlobWriter) Commit(d digest.Digest, size int64) error {
	defer w.Abort()
	if w.f == nil {
		return fmt.Errorf("storing blob %s: %w", d, fs.ErrClosed)
	}
	if err := checkDigest(d); err != nil {
		return fmt.Errorf("storing a blob: %w", err)
	}
	if size != w.size {
		return fmt.Errorf("storing blob %s: %d bytes were written where it should have %d", d, w.size, size)
	}
	if err := w.store.adopt(w.ctx, w.f, d); err != nil {
		return fmt.Errorf("storing blob %s: %w", d, err)
	}
	w.f.Close()
	w.f = nil
	return nil
}

// Abort throws away what was written. After Commit it does nothing.
func (w *BlobWriter) Abort() {
	if w.f != nil {
		os.Remove(w.f.Name())
		w.f.Close()
		w.f = nil
	}
}

// PutBlob stores what r gives as the blob of the given digest and size in bytes; if it is another, the error is [manifest.ErrInvalid] and
// nothing is stored.
func (s *Store) PutBlob(ctx context.Context, d digest.Digest, size int64, r io.Reader) error {
	w, err := s.NewBlob(ctx)
	if err != nil {
		return err
	}
	defer w.Abort()
	if err := checkDigest(d); err != nil {
		return fmt.Errorf("storing a blob: %w", err)
	}
	verifier := d.Verifier()
	n, err := io.Copy(io.MultiWriter(w, verifier), io.LimitReader(ctxio.Reader(ctx, r), size+1))
	if err != nil {
		return fmt.Errorf("storing blob %s: %w", d, err)
	}
	if n != size || !verifier.Verified() {
		return fmt.Errorf("storing blob %s: %w: its content is another than the digest and the size of %d bytes say", d, manifest.ErrInvalid, size)
	}
	return w.Commit(d, size)
}

// Blob opens a blob for reading at any offset. The error is [ErrNotFound] if it is not there.
func (s *Store) Blob(d digest.Digest) (manifest.Blob, error) {
	if err := checkDigest(d); err != nil {
		return nil, err
	}
	f, err := os.Open(s.blobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("opening blob %s in %s: %w", d, s.dir, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("opening blob %s: %w", d, err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("opening blob %s: %w", d, err)
	}
	return &fileBlob{f, info.Size()}, nil
}

type fileBlob struct {
	*os.File
	size int64
}

func (b *fileBlob) Size() int64 { return b.size }

// Layer returns the layer of a blob that is in the store.
func (s *Store) Layer(desc v1.Descriptor, diffID v1.Hash) v1.Layer {
	return manifest.NewLayer(desc, diffID, s.openBlob)
}

// openBlob opens a blob whose size is known: a file of another size was damaged or cut by something else than this package.
func (s *Store) openBlob(desc v1.Descriptor) (manifest.Blob, error) {
	b, err := s.Blob(digest.Digest(desc.Digest.String()))
	if err != nil {
		return nil, err
	}
	if b.Size() != desc.Size {
		b.Close()
		return nil, fmt.Errorf("opening blob %s in %s: %w: it has %d bytes where %d are expected; pull or stash its container again",
			desc.Digest, s.dir, manifest.ErrInvalid, b.Size(), desc.Size)
	}
	return b, nil
}

// Partial is the part of a blob that came before its transfer broke. It is locked against other processes until it is closed.
type Partial struct {
	ctx   context.Context // as in BlobWriter
	store *Store
	d     digest.Digest
	want  int64

	mu   sync.Mutex
	f    *os.File // nil once closed
	size int64
	sent int64 // bytes whose way to the disk has begun
}

// Partial opens the part of a blob that the store has, or begins one. It waits while another process transfers the same blob; if that
// one completes it, the error is [ErrBlobExists].
func (s *Store) Partial(ctx context.Context, desc v1.Descriptor) (*Partial, error) {
	d := digest.Digest(desc.Digest.String())
	if size, ok, err := s.has(ctx, d); err != nil {
		return nil, err
	} else if ok && size == desc.Size {
		return nil, ErrBlobExists
	}
	l, err := s.lock(ctx, s.path("partial", d.Encoded()), exclusive, "blob "+d.String())
	if err != nil {
		return nil, err
	}
	if size, ok, err := s.has(ctx, d); err != nil || ok && size == desc.Size {
		os.Remove(l.f.Name())
		l.unlock()
		if err == nil {
			err = ErrBlobExists
		}
		return nil, err
	}
	info, err := l.f.Stat()
	if err != nil {
		l.unlock()
		return nil, fmt.Errorf("opening the part of blob %s: %w", d, err)
	}
	return &Partial{ctx: ctx, store: s, d: d, want: desc.Size, f: l.f, size: info.Size(), sent: info.Size()}, nil
}

// Size returns how many bytes are there.
func (p *Partial) Size() int64 { return p.size }

// Open opens the part for reading beside the transfer. It stays readable when it has become the blob.
func (p *Partial) Open() (*os.File, error) { return os.Open(p.f.Name()) }

// ReadAt implements [io.ReaderAt] over the bytes that are there. They may have suffered from a crash: the caller checks the digest.
func (p *Partial) ReadAt(b []byte, off int64) (int, error) { return p.f.ReadAt(b, off) }

// Write appends.
func (p *Partial) Write(b []byte) (int, error) {
	n, err := p.f.WriteAt(b, p.size)
	p.size += int64(n)
	if err != nil {
		return n, fmt.Errorf("writing blob %s into the store %s: %w", p.d, p.store.dir, err)
	}
	p.sent = sendToDisk(p.f, p.sent, p.size)
	return n, nil
}

// Truncate cuts the part to size bytes.
func (p *Partial) Truncate(size int64) error {
	if err := p.f.Truncate(size); err != nil {
		return fmt.Errorf("cutting the part of blob %s: %w", p.d, err)
	}
	p.size, p.sent = size, min(p.sent, size)
	return nil
}

// Commit makes the part the blob; the caller has checked its digest. The partial is closed after it.
func (p *Partial) Commit() error {
	if p.size != p.want {
		return fmt.Errorf("storing blob %s: %d bytes came where it should have %d", p.d, p.size, p.want)
	}
	if err := p.f.Chmod(0o644); err != nil {
		return fmt.Errorf("storing blob %s: %w", p.d, err)
	}
	if err := p.store.adopt(p.ctx, p.f, p.d); err != nil {
		return fmt.Errorf("storing blob %s: %w", p.d, err)
	}
	return p.Close()
}

// Close lets others go on with the part, unless it is empty. After Commit it does nothing.
func (p *Partial) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.f == nil {
		return nil
	}
	f := p.f
	p.f = nil
	if p.size == 0 && sameFile(f, f.Name()) {
		os.Remove(f.Name())
	}
	return f.Close()
}
