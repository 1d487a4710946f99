package container

import (
	"context"
	"io"
	"runtime"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/registry/manifest"
)

// Early reads layers while they are being pulled, so that [Open] finds them read. Nothing of it is used unless the pull has found the right
// bytes and the layer is what the container's config says.
type Early struct {
	ctx  context.Context
	stop context.CancelFunc
	read layers.ReadOptions
	slot chan struct{} // one for each layer that is read at a time

	mu      sync.Mutex
	reading map[digest.Digest]*earlyLayer
}

// earlyLayer is one layer that is being read.
type earlyLayer struct {
	blob  manifest.Blob
	done  chan struct{} // closed when what follows is set
	layer *layers.Layer
	err   error
}

// NewEarly begins with nothing. The caller closes it.
func NewEarly(ctx context.Context, read layers.ReadOptions) *Early {
	ctx, stop := context.WithCancel(ctx)
	return &Early{ctx: ctx, stop: stop, read: read, slot: make(chan struct{}, runtime.GOMAXPROCS(0)), reading: map[digest.Digest]*earlyLayer{}}
}

// Read begins to read a layer whose bytes are still to come, as a registry's client hands it over. A second transfer of the same layer counts
// instead of the first.
func (e *Early) Read(sum digest.Digest, blob manifest.Blob) {
	l := &earlyLayer{blob: blob, done: make(chan struct{})}
	e.mu.Lock()
	before := e.reading[sum]
	e.reading[sum] = l
	e.mu.Unlock()
	if before != nil {
		before.drop()
	}
	go func() {
		defer close(l.done)
		select {
		case e.slot <- struct{}{}:
			defer func() { <-e.slot }()
			// The digest of the blob is checked by who transfers it.
			l.layer, l.err = layers.ReadLayer(e.ctx, blob, e.read)
		case <-e.ctx.Done():
			l.err = context.Cause(e.ctx)
		}
	}()
}

// drop closes the blob when nobody reads it any longer.
func (l *earlyLayer) drop() {
	go func() {
		<-l.done
		_ = l.blob.Close() // it was only read
	}()
}

// take hands over what was read of a layer with its blob; nil if it was not read, or is not what it should be.
func (e *Early) take(sum, diffID digest.Digest) (*layers.Layer, io.Closer) {
	if e == nil {
		return nil, nil
	}
	e.mu.Lock()
	l := e.reading[sum]
	delete(e.reading, sum)
	e.mu.Unlock()
	if l == nil {
		return nil, nil
	}
	<-l.done
	if l.err != nil || l.layer.DiffID != diffID {
		l.drop()
		return nil, nil
	}
	l.layer.Digest, l.layer.Source.Digest = sum, sum
	return l.layer, l.blob
}

// Close ends the reading of layers that nobody has asked for, and waits for it.
func (e *Early) Close() {
	e.stop()
	e.mu.Lock()
	defer e.mu.Unlock()
	for sum, l := range e.reading {
		<-l.done
		_ = l.blob.Close() // it was only read
		delete(e.reading, sum)
	}
}
