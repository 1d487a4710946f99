package database

import (
	"context"
	"io"
	"reflect"
	"sync"
	"sync/atomic"

	"github.com/imgbuild/imgbuild/internal/sums"
	"github.com/imgbuild/imgbuild/layers"
)

// Findings are what surveys have found out of contents. Surveys of several trees that have contents in common, such as those of the image types of one pass,
// share them: each content is read for the first of them alone. The zero value has none.
type Findings struct {
	mu    sync.Mutex
	known map[contentKey]*finding
}

// contentKey says which content a node has, and what is wanted of it. Nodes with equal keys have the same bytes: their content lies in the same place, and the
// same parts of the file are data. A file that was changed or copied has another one.
type contentKey struct {
	content layers.Content
	size    int64
	data    *layers.Extent
	node    *layers.Node // where contents can't be compared
	digests string
	text    bool
}

func keyOf(n *layers.Node, wanted *need) contentKey {
	key := contentKey{size: n.Size, text: wanted.text}
	for _, digest := range wanted.digests {
		key.digests += digest.String() + " "
	}
	if n.Content == nil || !reflect.ValueOf(n.Content).Comparable() {
		key.node = n
		return key
	}
	key.content = n.Content
	if len(n.Data) > 0 {
		key.data = &n.Data[0]
	}
	return key
}

// finding is what is known of one content as soon as done is closed.
type finding struct {
	key   contentKey
	sums  []sum
	text  []byte
	done  chan struct{}
	given bool // up: nothing is known
}

// begin notes that a content is being read; nil if it is or was already.
func (f *Findings) begin(n *layers.Node, wanted *need) *finding {
	key := keyOf(n, wanted)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known[key] != nil {
		return nil
	}
	if f.known == nil {
		f.known = map[contentKey]*finding{}
	}
	begun := &finding{key: key, done: make(chan struct{})}
	f.known[key] = begun
	return begun
}

// has reports whether a content is being read or was.
func (f *Findings) has(n *layers.Node, wanted *need) bool {
	key := keyOf(n, wanted)
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.known[key] != nil
}

// wait returns what is known of a content, once it is; nil if nobody reads it.
func (f *Findings) wait(ctx context.Context, n *layers.Node, wanted *need) (*finding, error) {
	key := keyOf(n, wanted)
	f.mu.Lock()
	found := f.known[key]
	f.mu.Unlock()
	if found == nil {
		return nil, nil
	}
	select {
	case <-found.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if found.given {
		return nil, nil
	}
	return found, nil
}

// observation takes the content of one file.
type observation struct {
	finding *finding
	file    *sums.File // counts digests; nil if none are wanted
	text    bool
	left    int64
	open    atomic.Int32 // what is still to be done: reading, counting
}

// Write implements io.Writer.
func (o *observation) Write(p []byte) (int, error) {
	if o.left == 0 {
		return len(p), nil
	}
	data := p[:min(int64(len(p)), o.left)]
	if o.text {
		o.finding.text = append(o.finding.text, data...)
	}
	if o.file != nil {
		_, _ = o.file.Write(data) // it never fails
	}
	if o.left -= int64(len(data)); o.left == 0 {
		o.close()
	}
	return len(p), nil
}

// ReadFrom implements io.ReaderFrom: it reads up to the file's size.
func (o *observation) ReadFrom(r io.Reader) (int64, error) {
	if o.file == nil || o.text || o.left == 0 {
		return io.Copy(struct{ io.Writer }{o}, r)
	}
	n, err := o.file.ReadFrom(r)
	if o.left -= min(n, o.left); o.left == 0 {
		o.close()
	}
	return n, err
}

// close says that reading or counting is done.
func (o *observation) close() {
	if o.open.Add(-1) == 0 {
		close(o.finding.done)
	}
}

// giveUp lets somebody else read the file.
func (o *observation) giveUp(findings *Findings) {
	findings.mu.Lock()
	delete(findings.known, o.finding.key)
	findings.mu.Unlock()
	if o.file != nil {
		o.file.Abandon()
	}
	o.left = 0
	o.finding.given = true
	close(o.finding.done)
}
