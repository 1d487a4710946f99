package registry

import (
	"errors"
	"io"
	"os"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"

	"github.com/imgbuild/imgbuild/registry/remote"
	"github.com/imgbuild/imgbuild/registry/store"
)

// errBroken is what a reader of an arriving blob gets when its transfer ends before its end, or begins anew.
var errBroken = errors.New("the transfer of the blob broke off")

// arriving is a blob of which one goroutine writes the end while others read the beginning. Reading waits for bytes that are to come.
type arriving struct {
	f    *os.File
	size int64 // when it is complete, in bytes

	mu   sync.Mutex
	more sync.Cond
	have int64 // bytes that are there
	err  error // why no more will come
}

// ReadAt implements [io.ReaderAt].
func (a *arriving) ReadAt(p []byte, off int64) (int, error) {
	end := min(off+int64(len(p)), a.size)
	a.mu.Lock()
	for a.have < end && a.err == nil {
		a.more.Wait()
	}
	err := a.err
	a.mu.Unlock()
	if err != nil {
		return 0, err
	}
	n, err := a.f.ReadAt(p[:max(0, end-off)], off)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// Size implements [Blob].
func (a *arriving) Size() int64 { return a.size }

// Close implements [Blob].
func (a *arriving) Close() error { return a.f.Close() }

func (a *arriving) grown(have int64) {
	a.mu.Lock()
	a.have = have
	a.mu.Unlock()
	a.more.Broadcast()
}

func (a *arriving) fail() {
	a.mu.Lock()
	a.err = errBroken
	a.mu.Unlock()
	a.more.Broadcast()
}

// watch lets a blob be read while it is transferred into p.
func watch(p *store.Partial, desc v1.Descriptor, arrives func(digest.Digest, Blob)) (remote.Partial, error) {
	f, err := p.Open()
	if err != nil {
		return nil, err
	}
	a := &arriving{f: f, size: desc.Size, have: p.Size()}
	a.more.L = &a.mu
	arrives(digest.Digest(desc.Digest.String()), a)
	return &watchedPartial{Partial: p, blob: a}, nil
}

// watchedPartial passes on how far a blob has come.
type watchedPartial struct {
	remote.Partial
	blob     *arriving
	complete bool
}

func (p *watchedPartial) Write(b []byte) (int, error) {
	n, err := p.Partial.Write(b)
	p.blob.grown(p.Size())
	return n, err
}

func (p *watchedPartial) Truncate(size int64) error {
	p.blob.fail()
	return p.Partial.Truncate(size)
}

func (p *watchedPartial) Commit() error {
	err := p.Partial.Commit()
	p.complete = err == nil
	return err
}

func (p *watchedPartial) Close() error {
	if !p.complete {
		p.blob.fail()
	}
	return p.Partial.Close()
}
