package layers

import (
	"context"
	"io"

	"golang.org/x/sys/unix"
)

// aheadFiles is how many files are opened before they are needed. The disk then has several requests at once to choose from: packing 690 MB that
// are not in memory takes 2.0 s with it and 2.9 s without, and it costs nothing measurable where all are.
const aheadFiles = 32

// aheadBytes is up to how many bytes of each of them the system is asked to read. Of the rest it reads ahead by itself.
const aheadBytes = 1 << 20

// aheadReader opens files of this machine in the order in which a layer holds them.
type aheadReader struct {
	files chan openedFile
	stop  context.CancelFunc
}

type openedFile struct {
	node *Node
	data io.ReadCloser
	err  error
}

func openAhead(ctx context.Context, entries []Entry) *aheadReader {
	ctx, stop := context.WithCancel(ctx)
	a := &aheadReader{files: make(chan openedFile, aheadFiles), stop: stop}
	go a.run(ctx, entries)
	return a
}

func (a *aheadReader) run(ctx context.Context, entries []Entry) {
	defer close(a.files)
	seen := map[*Node]struct{}{}
	for _, e := range entries {
		content, ok := hostContent(e.Node)
		if _, again := seen[e.Node]; !ok || again {
			continue
		}
		seen[e.Node] = struct{}{}
		f := openedFile{node: e.Node}
		if f.data, f.err = content.Open(); f.err == nil {
			if r, ok := f.data.(*hostReader); ok {
				// Only a hint: what comes of it does not matter.
				_ = unix.Fadvise(int(r.file.Fd()), 0, min(e.Node.Size, aheadBytes), unix.FADV_WILLNEED)
			}
		}
		select {
		case a.files <- f:
		case <-ctx.Done():
			f.close()
			return
		}
	}
}

func (f openedFile) close() {
	if f.data != nil {
		_ = f.data.Close()
	}
}

// hostContent returns the content of a file of this machine.
func hostContent(n *Node) (*hostFile, bool) {
	if n == nil || !n.IsRegular() || n.DataSize() == 0 {
		return nil, false
	}
	f, ok := n.Content.(*hostFile)
	return f, ok
}

// take returns the opened content of n, or nothing if it does not lie in a file of this machine. Each file is given once.
func (a *aheadReader) take(n *Node) (io.ReadCloser, error) {
	if _, ok := hostContent(n); !ok {
		return nil, nil
	}
	f, ok := <-a.files
	if !ok || f.node != n {
		f.close()
		return nil, nil
	}
	return f.data, f.err
}

// close closes the files that nobody has taken.
func (a *aheadReader) close() {
	a.stop()
	for f := range a.files {
		f.close()
	}
}
